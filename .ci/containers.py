"""Builds conf/docker/Dockerfile with podman, and runs the gateway in a container of the image.

    python .ci/containers.py [--compose PODMAN_COMPOSE]

As root, with podman, runc, netavark, aardvark-dns and mmdebstrap. The images that the Dockerfile and compose.yaml begin
with are made here, of roots of Debian 13, so no registry is asked. All that podman writes is in a directory that is
removed in the end. With --compose (the program podman-compose), the farm of conf/docker/compose.yaml is started as
well, asked by its shared address, and loses a gateway.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "conf" / "docker"
BASES = {"docker.io/library/debian:13-slim": "passwd", "docker.io/library/python:3.13-slim": "python3"}
"""Names of images, and what their roots have beside Debian's base."""
IMAGE = "eddie-gateway"
NAME = "eddie-gateway-trial"
SITE = """\
frontends: [{listen: "127.0.0.1:8642"}]
backends: {app: {servers: ["127.0.0.1:9001"]}}
routes: [{match: {path: /hello}, respond: {body: "hello\\n"}}, {backend: app}]
"""
SHARED = ("172.28.0.10", "172.28.0.20")
"""Of compose.yaml; the second one is for the web servers alone."""
SECONDS = 60.0
SETTINGS = """\
[network]
network_backend = "netavark"
[containers]
# Podman would raise the limits, which takes a right that root does not have on every machine.
default_ulimits = ["nofile=8192:8192", "nproc=8192:8192"]
"""


class Podman:
    """The program with its files in a directory of ours."""

    def __init__(self, place):
        self.program = place / "bin" / "podman"
        self.program.parent.mkdir()
        options = ["--root", place / "storage", "--runroot", place / "run", "--storage-driver", "vfs"]
        options += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        options += ["--runtime", "/usr/sbin/runc"]  # crun refuses mixed cgroups
        words = " ".join(map(str, options))
        settings = place / "containers.conf"
        settings.write_text(SETTINGS)
        self.program.write_text(f'#!/bin/sh\nCONTAINERS_CONF={settings} exec /usr/bin/podman {words} "$@"\n')
        self.program.chmod(0o755)
        self.path = f"{self.program.parent}:{os.environ['PATH']}"

    def run(self, *words, **options):
        """Run a command. Raises CalledProcessError."""
        return subprocess.run([self.program, *map(str, words)], check=True, **options)

    def says(self, *words):
        """What a command prints. Raises CalledProcessError."""
        return self.run(*words, stdout=subprocess.PIPE, text=True).stdout


def answer(url, command=()):
    """What is at a URL. Raises CalledProcessError."""
    curl = [*command, "curl", "--silent", "--show-error", "--fail", "--max-time", "5", url]
    return subprocess.run(list(map(str, curl)), check=True, stdout=subprocess.PIPE, text=True).stdout


def until(look, what):
    """Wait until `look` returns something true; return it. Raises TimeoutError."""
    end = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(subprocess.CalledProcessError):
            if found := look():
                return found
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.2)


def bases(podman, place):
    """Make the images that others begin with."""
    for name, packages in BASES.items():
        root = place / "root"
        subprocess.run([ROOT / ".ci" / "debian_root.sh", root, packages, "trixie"], check=True)
        with subprocess.Popen(["/usr/bin/tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
            podman.run("import", "--quiet", "-", name, stdin=tar.stdout, stdout=subprocess.DEVNULL)
        shutil.rmtree(root)


def build(podman):
    """Build the image from the last commit."""
    with tempfile.TemporaryDirectory() as context:
        files = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["/usr/bin/tar", "-x", "-C", context], input=files, check=True)
        # --isolation chroot: what builds shares this machine's network, and needs no cgroups.
        options = ["--isolation", "chroot", "--network", "host", "--pull=never", "--format", "docker"]
        podman.run("build", *options, "-f", f"{context}/conf/docker/Dockerfile", "-t", IMAGE, context)


def trial(podman, place):
    """Run a container: it answers, is healthy, reloads, and ends when it is told to. Raises CalledProcessError."""
    site = place / "site.yaml"
    site.write_text(SITE)
    options = ["--detach", "--name", NAME, "--network", "host"]
    podman.run("run", *options, "-v", f"{site}:/etc/gateway/site.yaml:ro", IMAGE)
    try:
        until(lambda: answer("http://127.0.0.1:8642/hello") == "hello\n", "an answer of the container")
        podman.run("healthcheck", "run", NAME)
        podman.run("exec", NAME, "gateway", "reload")
        sys.stdout.write(podman.says("exec", NAME, "gateway", "status"))
        account = podman.says("exec", NAME, "id", "-un").strip()
        podman.run("stop", "--time", "20", NAME)
        status = int(podman.says("inspect", "--format", "{{.State.ExitCode}}", NAME))
    finally:
        podman.run("rm", "--force", NAME, stdout=subprocess.DEVNULL)
    if (account, status) != ("gateway", 0):
        sys.exit(f"it ran as {account}, and ended with {status}")
    sys.stdout.write("the image is built, runs as gateway, is healthy, reloads, and ends with 0\n")


def farm(podman, place, program):
    """Start the farm of compose.yaml, ask it, and let a gateway die. Raises CalledProcessError, TimeoutError."""
    directory = place / "farm"
    shutil.copytree(DOCKER, directory)
    key = directory / "cluster.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(32))
    compose = [program, "--podman-path", podman.program, "-f", directory / "compose.yaml"]
    environment = {**os.environ, "PATH": podman.path}

    def call(*words):
        subprocess.run(list(map(str, [*compose, *words])), check=True, env=environment, cwd=directory)

    try:
        call("up", "--detach", "--no-build")
        answers = set()

        def both():
            answers.add(answer(f"http://{SHARED[0]}/").strip())
            return len({said.split()[0] for said in answers}) == 2

        until(both, f"answers of both web servers, not {answers}")
        call("kill", "gw1")
        began = time.monotonic()
        until(lambda: answer(f"http://{SHARED[0]}/"), "an answer of the other gateway")
        sys.stdout.write(f"{sorted(answers)}; without gw1 again after {time.monotonic() - began:.1f} s\n")
    except Exception:
        call("logs", "gw1", "gw2", "witness")
        for name in ("gw1", "gw2"):
            call("exec", name, "gateway", "status")
        raise
    finally:
        call("down")


def main(words):
    """Do what the first lines of the file say."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        podman = Podman(place)
        bases(podman, place)
        build(podman)
        trial(podman, place)
        if words[:1] == ["--compose"]:
            farm(podman, place, Path(words[1]).resolve())


if __name__ == "__main__":
    main(sys.argv[1:])
