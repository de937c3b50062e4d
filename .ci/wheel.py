"""Builds a wheel of the last commit for this machine's Python, lets auditwheel judge it, and tries it.

    python .ci/wheel.py AUDITWHEEL            into dist/: the wheel, named by the oldest C library that it works with
    python .ci/wheel.py AUDITWHEEL --check    also installs it in an empty environment, and runs a gateway from there

These are the steps of cibuildwheel with the settings of pyproject.toml, without its containers: the wheel works where
the C library is at least as new as this machine's.
"""

import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = """\
frontends: [{{listen: "127.0.0.1:{port}"}}]
backends: {{app: {{servers: ["127.0.0.1:{closed}"]}}}}
routes: [{{match: {{path: /hello}}, respond: {{body: "hello\\n"}}}}, {{backend: app}}]
admin: {{sockets: {place}}}
"""
SECONDS = 60.0


def left_out():
    """The libraries that stay the system's, by the settings for cibuildwheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]["linux"]
    return re.findall(r"--exclude (\S+)", settings["repair-wheel-command"])


def build(auditwheel, target):
    """Build it into `target`; return its path. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as place:
        release = runpy.run_path(str(ROOT / ".ci" / "release.py"))
        plain = next(
            path for path in release["build"](Path(place, "made"), ["sdist", "wheel"]) if path.suffix == ".whl"
        )
        excluded = [word for name in left_out() for word in ("--exclude", name)]
        mended = Path(place, "mended")
        subprocess.run([auditwheel, "repair", *excluded, "--wheel-dir", mended, plain], check=True)
        (wheel,) = mended.glob("*.whl")
        target.mkdir(exist_ok=True)
        return Path(shutil.copy(wheel, target))


def free_port():
    """A port that nothing listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def check(wheel):
    """Install the wheel in an empty environment, and run a gateway. Raises CalledProcessError, OSError."""
    with tempfile.TemporaryDirectory() as place:
        made = Path(place, "environment")
        subprocess.run([sys.executable, "-m", "venv", made], check=True)
        pip = [made / "bin" / "pip", "install", "--quiet", "--only-binary", ":all:"]
        subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", wheel], cwd=place, check=True)
        file, port = Path(place, "site.yaml"), free_port()
        file.write_text(SITE.format(port=port, closed=free_port(), place=place))
        gateway = made / "bin" / "gateway"
        environment = {**os.environ, "GATEWAY_RUN": place}
        subprocess.run([made / "bin" / "loadagent", "--version"], cwd=place, check=True)
        with subprocess.Popen([gateway, "run", file], cwd=place, env=environment) as process:
            try:
                said = answer(f"http://127.0.0.1:{port}/hello")
                status = [gateway, "status", "--json"]
                done = subprocess.run(status, cwd=place, env=environment, check=True, stdout=subprocess.PIPE)
                version = json.loads(done.stdout)["program"]
            finally:
                process.send_signal(signal.SIGTERM)
        if said != b"hello\n" or process.returncode != 0:
            sys.exit(f"it answered {said!r}, and ended with {process.returncode}")
        sys.stdout.write(f"{wheel.name}: gateway {version} runs in an empty environment\n")


def answer(url):
    """What is there, as soon as something is. Raises OSError."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as found:  # noqa: S310 - our own
                return found.read()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(__doc__)
    result = build(sys.argv[1], ROOT / "dist")
    sys.stdout.write(f"{result}\n")
    if sys.argv[2:] == ["--check"]:
        check(result)
