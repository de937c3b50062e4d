"""Runs the units of conf/ under a real systemd, in a new root of Debian and namespaces of its own.

    python .ci/systemd.py            as root; needs mmdebstrap

A wheel of this tree is installed there. Each unit is started, asked, reloaded with a good and a bad site file, upgraded
and stopped while a request runs. Prints what it has seen; exit status 1 at the first thing that is wrong.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent.parent
PACKAGES = "python3,python3-venv,systemd,systemd-sysv,dbus,curl,iproute2,procps,libnghttp2-14,libpcre2-8-0"
EXPOSED = {"": 2.0, "keys": 2.0, "cluster": 2.1, "loadagent": 2.0}
"""The most that `systemd-analyze security` may find; docs/operations.md says why it is more with a cluster."""
BOOT = """
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount --rbind /dev "$root/dev"
ip link set lo up
cd "$root"
mkdir .outside
pivot_root . .outside
umount -l /.outside
rmdir /.outside
export container=other
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=console
"""
SLOW = """
import http.server, time
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(float(self.path[1:] or 0))
        self.send_response(200); self.send_header("Content-Length", "5"); self.end_headers(); self.wfile.write(b"whole")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Answer).serve_forever()
"""
SITE = """
user: gateway
node: gw1
frontends: [{{listen: "{listen}:80"}}]
backends: {{app: {{servers: ["127.0.0.1:9000"]}}}}
{more}
"""
CLUSTER = """
cluster:
  key_file: cluster.key
  nodes: {gw1: 192.168.7.1, gw2: 192.168.7.2}
  addresses: [{address: 192.168.7.100/24, interface: veth0}]
"""


class Wrong(Exception):
    """What was seen is not as it should be."""


class Machine:
    """The namespaces in which systemd runs; `pid` is that of systemd, seen from outside."""

    def __init__(self, root: Path, pid: int) -> None:
        self.root = root
        self._pid = pid

    def run(self, *command: str, status: int = 0, seconds: float = 60.0) -> str:
        """Return what a command prints. Raises Wrong if its exit status is another."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid), "-a", *command],
            capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode != status:
            raise Wrong(f"{' '.join(command)}: status {done.returncode}, not {status}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start a command that goes on."""
        return subprocess.Popen(["nsenter", "-t", str(self._pid), "-a", *command], stdout=subprocess.PIPE, text=True)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)


def until(look: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    """Wait until something is seen. Raises Wrong."""
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            raise Wrong(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def booted(place: Path) -> Iterator[Machine]:
    """A root with this tree installed, in which systemd runs."""
    root = place / "root"
    subprocess.run([HERE / ".ci/debian_root.sh", root, PACKAGES], check=True)
    wheels = place / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", wheels, HERE]
    subprocess.run(build, check=True)
    (wheel,) = wheels.glob("*.whl")
    shutil.copy(wheel, root / "tmp")
    install = (
        f"python3 -m venv /opt/gateway && /opt/gateway/bin/pip install --quiet /tmp/{wheel.name}"
        " && ln -s /opt/gateway/bin/gateway /opt/gateway/bin/loadagent /usr/local/bin/"
    )
    subprocess.run(["unshare", "--root", root, "sh", "-ec", install], check=True)
    with (place / "boot.log").open("wb") as log:
        spaces = ["--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc", "--cgroup"]
        outer = subprocess.Popen(
            ["unshare", *spaces, "sh", "-euc", BOOT, "sh", root], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            until(lambda: bool(children.read_text().strip()), "the namespaces")
            machine = Machine(root, int(children.read_text().split()[0]))
            until(lambda: _is_up(machine), f"systemd to be up\n{(place / 'boot.log').read_text()[-2000:]}", 60.0)
            yield machine
        finally:
            outer.kill()
            outer.wait(10)


def _is_active(machine: Machine, unit: str) -> bool:
    return machine.run("systemctl", "show", "-P", "ActiveState", unit).strip() == "active"


def _is_up(machine: Machine) -> bool:
    with contextlib.suppress(Wrong):
        return "running" in machine.run("systemctl", "is-system-running")
    return False


def exposure(machine: Machine, unit: str, limit: float) -> float:
    """Return what `systemd-analyze security` finds. Raises Wrong if it is more than the limit."""
    said = machine.run("systemd-analyze", "security", "--no-pager", unit)
    found = re.search(r"exposure level for \S+: ([\d.]+)", said)
    if found is None or float(found[1]) > limit:
        raise Wrong(f"{unit}: exposure {found[1] if found else 'unknown'}, more than {limit}")
    return float(found[1])


def gateway(machine: Machine, address: str, addition: str) -> None:
    """Hold the gateway's unit, with one of its additions, to what it should do."""
    url = f"http://{address}"
    conf = HERE / "conf"
    machine.write("etc/systemd/system/gateway.service", (conf / "gateway.service").read_text())
    shutil.rmtree(machine.root / "etc/systemd/system/gateway.service.d", ignore_errors=True)
    if addition:
        unit = (conf / f"gateway-{addition}.conf").read_text()
        machine.write(f"etc/systemd/system/gateway.service.d/{addition}.conf", unit)
    site = SITE.format(listen=address, more=CLUSTER if addition == "cluster" else "")
    machine.write("etc/gateway/site.yaml", site)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "gateway")
    until(lambda: _answers(machine, f"{url}/"), f"{url} to answer")
    click.echo(f"  started; exposure {exposure(machine, 'gateway.service', EXPOSED[addition])}")

    machine.run("systemctl", "reload", "gateway")
    machine.write("etc/gateway/site.yaml", site + "wrong: 1\n")
    machine.run("systemctl", "reload", "gateway", status=1)
    if "RELOAD REFUSED" not in machine.run("gateway", "status"):
        raise Wrong("gateway status does not say that the reload was refused")
    machine.run("curl", "-fsS", f"{url}/")
    click.echo("  reloaded; a site file with a mistake was refused, and the gateway goes on")

    machine.run("systemctl", "restart", "gateway")
    until(lambda: _answers(machine, f"{url}/"), f"{url} to answer after a restart")
    shown = machine.run("systemctl", "show", "-P", "StatusText", "gateway")
    if not shown.startswith("STARTED WITH THE LAST GOOD CONFIGURATION of "):
        raise Wrong(f"systemctl status says {shown.strip()!r}")
    machine.write("etc/gateway/site.yaml", site)
    machine.run("systemctl", "reload", "gateway")
    shown = machine.run("systemctl", "show", "-P", "StatusText", "gateway")
    if not shown.startswith("version "):
        raise Wrong(f"systemctl status says {shown.strip()!r}")
    click.echo("  restarted with that site file: the last good configuration serves")

    before = machine.run("systemctl", "show", "-P", "MainPID", "gateway")
    machine.run("gateway", "upgrade")
    until(lambda: machine.run("systemctl", "show", "-P", "MainPID", "gateway") != before, "another main process")
    until(lambda: _answers(machine, f"{url}/"), f"{url} to answer after the upgrade")
    slow = machine.start("curl", "-fsS", f"{url}/2")
    until(lambda: "/2" in " ".join(_arguments(slow.pid)), "the slow request to be made")
    time.sleep(0.5)  # curl says nothing before the answer
    machine.run("systemctl", "stop", "gateway")
    if slow.communicate(timeout=30)[0] != "whole":
        raise Wrong("a request that ran at the stop after an upgrade was cut off")
    result = machine.run("systemctl", "show", "-P", "Result", "gateway").strip()
    if result != "success":
        raise Wrong(f"the unit ended with {result}")
    click.echo("  upgraded, and stopped: a request that ran was answered")


def _arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def _answers(machine: Machine, url: str) -> bool:
    with contextlib.suppress(Wrong):
        return machine.run("curl", "-fsS", "--max-time", "2", url) == "whole"
    return False


def agent(machine: Machine) -> None:
    """Hold the load agent's unit, as `loadagent install` makes it, to what it should do."""
    machine.write("root/app1.key", "0123456789abcdef0123456789abcdef", 0o600)
    machine.run("loadagent", "install", "--gateways", "127.0.0.1:8201", "--key-file", "/root/app1.key")
    until(lambda: _is_active(machine, "loadagent"), "the load agent to run")
    click.echo(f"  installed; exposure {exposure(machine, 'loadagent.service', EXPOSED['loadagent'])}")
    machine.run("systemctl", "stop", "loadagent")


def main() -> None:
    """Run everything."""
    if os.geteuid() != 0:
        sys.exit("needs root, for a root of its own and namespaces")
    with tempfile.TemporaryDirectory() as place, booted(Path(place)) as machine:
        Path(place).chmod(0o755)
        machine.write("usr/lib/sysusers.d/gateway.conf", (HERE / "conf/gateway.sysusers.conf").read_text())
        machine.run("systemd-sysusers")
        machine.write("etc/gateway/cluster.key", "0123456789abcdef0123456789abcdef", 0o400)
        machine.run("chown", "gateway:gateway", "/etc/gateway/cluster.key")
        machine.run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
        machine.run("ip", "addr", "add", "192.168.7.1/24", "dev", "veth0")
        for link in ("veth0", "veth1"):
            machine.run("ip", "link", "set", link, "up")
        server = machine.start("python3", "-c", SLOW)
        try:
            for address, addition in (("127.0.0.1", ""), ("127.0.0.1", "keys"), ("192.168.7.100", "cluster")):
                click.echo(f"gateway.service{f' with gateway-{addition}.conf' if addition else ''}")
                gateway(machine, address, addition)
            click.echo("loadagent.service")
            agent(machine)
        except Wrong as wrong:
            click.echo(machine.run("journalctl", "--no-pager", "-n", "40"))
            sys.exit(f"WRONG: {wrong}")
        finally:
            server.kill()
            server.wait(10)


if __name__ == "__main__":
    main()
