"""Hosts in network namespaces of their own, on one switch: gateways that share an address, a client, a witness.

    client 192.0.2.100     gw1 192.0.2.1     gw2 192.0.2.2     gw3 192.0.2.3     witness 192.0.2.9     shared 192.0.2.10

Optionally the gateways have a second network between them, 10.1.0.0/24.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.system.process_socket import ask
from tests.support import hardened
from tests.support.deaths import Death, deaths, verdict
from tests.support.waiting import eventually

VIP = "192.0.2.10"
VIP6 = "2001:db8::10"
HOSTS = {"gw1": 1, "gw2": 2, "gw3": 3, "witness": 9, "client": 100}
KEY = b"0123456789abcdef0123456789abcdef"
BOUND = 2.5
"""Seconds without an answer, at most, on a machine that may have other work; the bench has the figures."""
WORKERS_ANSWER = 129
"""The fitness of a gateway is at least so high (gateway/heartbeat/health.py)."""
PYTHON = sys.executable
HERE = Path(__file__).parent
_numbers = itertools.count()


def missing() -> str:
    """Why this machine cannot run the scenarios; empty if it can."""
    if os.geteuid() != 0:
        return "needs root"
    name = f"probe{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "needs network namespaces (iproute2, CAP_SYS_ADMIN)"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class CommandError(OSError):
    """A command in a host failed; `eventually` runs it again and says what it wrote if it never succeeds."""


class Host:
    """A network namespace with an interface eth0 on the switch."""

    def __init__(self, lab: "Lab", name: str) -> None:
        self.lab = lab
        self.name = name
        self.space = f"{lab.prefix}-{name}"
        self.port = f"p-{name}"
        """The switch's end of eth0."""
        self.processes: list[subprocess.Popen[bytes]] = []
        number = HOSTS[name]
        self.address = f"192.0.2.{number}"
        ip("netns", "add", self.space)
        ip("-n", self.space, "link", "set", "lo", "up")
        self._plug("eth0", self.port, "br0", f"192.0.2.{number}/24")
        ip("-n", self.space, "addr", "add", f"2001:db8::{number}/64", "dev", "eth0", "nodad")

    def second_network(self) -> None:
        self._plug("eth1", f"q-{self.name}", "br1", f"10.1.0.{HOSTS[self.name]}/24")

    def _plug(self, interface: str, port: str, bridge: str, address: str) -> None:
        ip("-n", self.space, "link", "add", interface, "type", "veth", "peer", "name", port, "netns", self.lab.switch)
        ip("-n", self.lab.switch, "link", "set", port, "master", bridge)
        ip("-n", self.lab.switch, "link", "set", port, "up")
        ip("-n", self.space, "link", "set", interface, "up")
        ip("-n", self.space, "addr", "add", address, "dev", interface)

    def start(self, *command: str, log: IO[bytes] | int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.space, *command],
            stdout=subprocess.PIPE if log == subprocess.DEVNULL else log,
            stderr=log,
            start_new_session=True,
            env={**hardened.environment(), "PYTHONPATH": str(HERE.parents[1])},
        )
        self.processes.append(process)
        return process

    def run(self, *command: str) -> str:
        """What a command of this host prints. Raises CommandError if it fails, or does not exist."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.space, *command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CommandError(f"{self.name}: {' '.join(command)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def has(self, address: str = VIP) -> bool:
        """Whether the address is up here."""
        return f" {address}/" in self.run("ip", "addr", "show")


class Gateway(Host):
    """A host that runs the gateway."""

    def __init__(self, lab: "Lab", name: str) -> None:
        super().__init__(lab, name)
        self.directory = lab.directory / name
        self.directory.mkdir()
        self.log = self.directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.killed: set[int] = set()
        """Processes that tests have killed, or let die."""

    def write(self, cluster: dict[str, Any] | None, **more: Any) -> Path:
        key = self.directory / "cluster.key"
        key.touch(mode=0o600)
        key.write_bytes(KEY)
        site = self.directory / "site.yaml"
        description = {
            "node": self.name,
            "workers": 1,
            "drain": "1s",
            "frontends": [{"listen": ["0.0.0.0:80", "[::]:80"]}],
            "routes": [{"respond": {"body": self.name}}],
            "state": "state",
            **({"cluster": {"key_file": "cluster.key", **cluster}} if cluster is not None else {}),
            **more,
        }
        description["admin"] = {"sockets": str(self.directory), **more.get("admin", {})}
        site.write_text(yaml.safe_dump(description))
        return site

    def as_site(self) -> dict[str, Any]:
        """`sites` of its site file: this gateway is a site, and so is each other one of the lab."""
        key = self.directory / "sites.key"
        key.touch(mode=0o600)
        key.write_bytes(KEY)
        others = self.lab.gateways
        peers = {one.name: {"url": f"http://{one.address}", "report": f"{one.address}:7946"} for one in others}
        return {"self": self.name, "listen": "0.0.0.0:7946", "peers": peers, "key_file": "sites.key"}

    def status(self) -> dict[str, Any]:
        """What `gateway status` says, without another process: its sockets are files. Raises CommandError."""
        done = CliRunner().invoke(main, ["status", str(self.directory / "site.yaml"), "--json"])
        if done.exit_code:
            raise CommandError(f"{self.name}: gateway status: {done.output.strip()}")
        return dict(json.loads(done.output))

    def boot(self, command: tuple[str, ...] = ("-m", "gateway"), wrapper: tuple[str, ...] = ()) -> None:
        """Start the gateway, by a `wrapper` that runs the command it is given."""
        with self.log.open("ab") as log:
            self.process = self.start(*wrapper, PYTHON, *command, "run", str(self.directory / "site.yaml"), log=log)

    def pids(self, name: str = "") -> list[int]:
        """The processes of this host's gateway, or those of that name."""
        output = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True, check=False).stdout
        found = []
        for pid in map(int, output.split()):
            with contextlib.suppress(OSError):
                comm = Path(f"/proc/{pid}/comm").read_text().strip()
                if comm != "ip" and (not name or comm == name):
                    found.append(pid)
        return found

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill a process of the gateway, which is thus expected to die."""
        self.killed.add(pid)
        os.kill(pid, number)

    def deaths(self) -> list[Death]:
        """The processes of it that have died without being told to."""
        found = [death for death in deaths(self.log.read_text()) if death.pid not in self.killed]
        process = self.process
        if process is not None and process.poll() and process.pid not in self.killed:
            found.append(Death(f"{self.name}: the supervisor ended with {process.returncode}", process.pid))
        return found

    def signal_all(self, number: signal.Signals) -> None:
        """To every process of the gateway at once: one that lives on for a moment must not tidy up after another."""
        pids = sorted(self.pids())
        if number == signal.SIGKILL:
            self.killed.update(pids)
        for step in (signal.SIGSTOP, number):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, step)

    def ask(self, command: str = "status") -> dict[str, Any]:
        """What its heartbeat says."""
        return ask(self.directory, command)

    def sees(self, node: str, *, link: str = "") -> bool:
        """Whether its heartbeat hears that node (or the witness), by that link or by any."""
        (peer,) = [peer for peer in self.ask()["nodes"] if peer["name"] == node]
        return bool(peer["links"][link]["alive"] if link else peer["alive"])

    def wait_ready(self, timeout: float = 30.0) -> None:
        """It takes part, and its workers answer."""

        def ready() -> bool:
            address = self.ask()["addresses"][0]
            return bool(address["state"] != "init" and address["fitness"] >= WORKERS_ANSWER)

        eventually(ready, f"{self.name} to be ready", timeout)


class Lab:
    """The hosts and their switch; everything is gone when it is left.

    Raises AssertionError then if a process of a gateway has died that no test has killed.
    """

    def __init__(self, directory: Path, gateways: int = 2, *, witness: bool = False, links: int = 1) -> None:
        self.directory = directory
        self.prefix = f"gt{os.getpid()}x{next(_numbers)}"
        self.switch = f"{self.prefix}-sw"
        self.with_witness = witness
        self.links = links
        ip("netns", "add", self.switch)
        self.hosts: dict[str, Host] = {}
        for bridge in ("br0", "br1", "br2"):
            ip("-n", self.switch, "link", "add", bridge, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
            ip("-n", self.switch, "link", "set", bridge, "up")
        ip("-n", self.switch, "link", "add", "side0", "type", "veth", "peer", "name", "side2")
        for end, bridge in (("side0", "br0"), ("side2", "br2")):
            ip("-n", self.switch, "link", "set", end, "master", bridge)
            ip("-n", self.switch, "link", "set", end, "up")
        self.gateways = [Gateway(self, f"gw{i + 1}") for i in range(gateways)]
        self.client = Host(self, "client")
        for host in (*self.gateways, self.client):
            self.hosts[host.name] = host
        if links == 2:
            for gateway in self.gateways:
                gateway.second_network()
        if witness:
            self.hosts["witness"] = Host(self, "witness")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        dead = [(gateway, gateway.deaths()) for gateway in self.gateways if gateway.process is not None]
        self._tear_down()
        said = "\n".join(verdict(found, gateway.log.read_text()) for gateway, found in dead if found)
        if error is not None and said:
            error.add_note(said)
        else:
            assert not said, said

    def _tear_down(self) -> None:
        for host in self.hosts.values():
            for process in host.processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGCONT)
                    os.killpg(process.pid, signal.SIGKILL)
            output = subprocess.run(["ip", "netns", "pids", host.space], capture_output=True, text=True, check=False)
            for pid in output.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            for process in host.processes:
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
            subprocess.run(["ip", "netns", "del", host.space], check=False)
        subprocess.run(["ip", "netns", "del", self.switch], check=False)

    def cluster(self, interval: str = "100ms", dead_after: str = "400ms", **address: Any) -> dict[str, Any]:
        """The section of the site files."""
        links: list[dict[str, Any]] = [{"udp": 694}]
        if self.links == 2:
            links.append({"udp": 694, "interface": "eth1"})
        found: dict[str, Any] = {
            "nodes": {gateway.name: gateway.address for gateway in self.gateways},
            "heartbeat": {"interval": interval, "dead_after": dead_after, "links": links},
            "addresses": [
                {"address": f"{VIP}/24", "interface": "eth0", **address},
                {"address": f"{VIP6}/64", "interface": "eth0", **address},
            ],
        }
        if self.with_witness:
            found["witness"] = self.hosts["witness"].address
        return found

    def boot(
        self, cluster: dict[str, Any] | None = None, *, command: tuple[str, ...] = ("-m", "gateway"), **more: Any
    ) -> None:
        """Start witness and gateways (Python with `command`), and wait until the first gateway has the address."""
        if self.with_witness:
            self.start_witness()
        for gateway in self.gateways:
            gateway.write(cluster or self.cluster(), **more)
            gateway.boot(command)
            gateway.wait_ready()  # in turn, so that the preferred one comes first
        eventually(self.gateways[0].has, "gw1 to have the address")

    def start_witness(self) -> "subprocess.Popen[bytes]":
        key = self.directory / "witness.key"
        key.touch(mode=0o600)
        key.write_bytes(KEY)
        host = self.hosts["witness"]
        with (self.directory / "witness.log").open("ab") as log:
            where = ("--listen", f"{host.address}:694", "--key-file", str(key))
            return host.start(PYTHON, "-m", "gateway", "witness", *where, "--longest", "0.5", log=log)

    # ----------------------------------------------------------------------------------------------------- the network

    def cut(self, *hosts: str) -> None:
        """Put these hosts on a switch of their own, and the cable between the two away."""
        for name in hosts:
            ip("-n", self.switch, "link", "set", self.hosts[name].port, "master", "br2")
        ip("-n", self.switch, "link", "set", "side0", "down")

    def heal(self) -> None:
        ip("-n", self.switch, "link", "set", "side0", "up")

    def rejoin(self, host: str) -> None:
        """Back to the first switch."""
        ip("-n", self.switch, "link", "set", self.hosts[host].port, "master", "br0")

    def unplug(self, host: str, *, second: bool = False) -> None:
        """Pull the cable: the host's carrier goes."""
        ip("-n", self.switch, "link", "set", f"q-{host}" if second else self.hosts[host].port, "down")

    def plug(self, host: str) -> None:
        ip("-n", self.switch, "link", "set", self.hosts[host].port, "up")

    def lose(self, percent: int) -> None:
        """Lose so many of a hundred frames, each way, at every port of the switch but the client's."""
        rules = ["table netdev loss {"]
        for host in self.hosts.values():
            if host.name != "client":
                name = host.port.replace("-", "_")
                rules.append(
                    f'chain in_{name} {{ type filter hook ingress device "{host.port}" priority 0; '
                    f"numgen random mod 100 < {percent} drop; }}"
                )
        rules.append("}")
        subprocess.run(
            ["ip", "netns", "exec", self.switch, "nft", "-f", "-"], input="\n".join(rules).encode(), check=True
        )

    def lose_nothing(self) -> None:
        subprocess.run(["ip", "netns", "exec", self.switch, "nft", "delete", "table", "netdev", "loss"], check=True)


class Watch:
    """Clients' requests and the packets of the switch, from start to `finish`."""

    def __init__(self, lab: Lab, url: str = VIP, rate: int = 100) -> None:
        """Returns once the first request has been answered."""
        self._capture = subprocess.Popen(
            ["ip", "netns", "exec", lab.switch, PYTHON, str(HERE / "capture.py"), VIP, VIP6],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._capture.stdout is not None
        assert self._capture.stdout.readline(), "it ended early"  # before the clients: it sees who answers them first
        self._said = lab.directory / f"clients-{next(_numbers)}"
        with self._said.open("wb") as said:
            self._client = lab.client.start(PYTHON, str(HERE / "requests.py"), url, str(rate), log=said)
        self.wait_for()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._client, self._capture):
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def wait_for(self, node: str = "", answers: int = 1) -> None:
        """Until so many requests more have been answered, by that node or by any."""

        def count() -> int:
            lines = self._said.read_text().splitlines()
            assert self._client.poll() is None, f"the clients ended: {lines[-1:]}"
            return sum(not node or line == node for line in lines)

        expected = (count() if self._said.stat().st_size else 0) + answers
        eventually(lambda: count() >= expected, f"{answers} answers of {node or 'a node'}", 30.0)

    def finish(self) -> "Seen":
        """Stop; what was seen."""
        self._client.send_signal(signal.SIGTERM)
        self._client.wait()
        self._capture.send_signal(signal.SIGTERM)
        assert self._capture.stdout is not None
        captured = self._capture.stdout.read()
        self._capture.wait()
        said = self._said.read_text()
        return Seen(*(json.loads(text.splitlines()[-1]) for text in (said, captured)))


class Seen:
    """`answers`: (time, node) of each good answer. `owners`: (time, switch port, address) of each change of who speaks."""

    def __init__(self, client: dict[str, Any], capture: dict[str, Any]) -> None:
        self.answers: list[tuple[float, str]] = [(at, node) for at, node in client["answers"]]
        self.failures: int = client["failures"]
        self.turns: dict[str, list[tuple[float, str]]] = capture["turns"]

    @property
    def outage(self) -> float:
        """The longest time without an answer, in seconds."""
        return max(after - before for (before, _), (after, _) in itertools.pairwise(self.answers))

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """(seconds since the first answer, seconds) of each time without an answer that is longer than 50 ms."""
        pairs = itertools.pairwise(at for at, _ in self.answers)
        return [(before - self.answers[0][0], after - before) for before, after in pairs if after - before > 0.05]

    def speakers(self, address: str = VIP) -> list[str]:
        """Who spoke for the address, one after the other: a second owner would show as a turn back and forth."""
        return [port.removeprefix("p-") for _, port in self.turns.get(address, [])]

    def check(self, *speakers: str) -> None:
        """These spoke for the address, one after the other, and no client was without an answer for long."""
        assert self.outage < BOUND
        assert self.speakers() == list(speakers)


@contextlib.contextmanager
def frozen(gateway: Gateway) -> Iterator[None]:
    """Every process of the gateway is stopped."""
    gateway.signal_all(signal.SIGSTOP)
    try:
        yield
    finally:
        gateway.signal_all(signal.SIGCONT)
