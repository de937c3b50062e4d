"""The name server beside gdnsd, NSD and Knot, under dnsperf.

    python -m bench.dns [--seconds 10] [--only NAME] [--gather MICROSECONDS …]

Every server has one zone, first with ten names and then with 100,000, and one process or thread; they take turns, and
so does the gateway with each time to gather: for so long it waits for more queries while it is busy. The table has
responses per second, responses per second of processor time, and the 99th percentile of the time to a response at half
of that rate. The time from a site's report to a changed answer is measured with the gateway. Figures are kept in
bench/results/dns.json. It takes five minutes, in which the machine should do nothing else.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

import click
import dns.exception
import dns.rcode
import yaml

from bench.farm import FarmFailed, process_on
from bench.machine import facts
from bench.meter import Usage
from loadagent.report import State
from tests.support.waiting import free_udp_port
from tests.support.web_farm import KEY, Site, ask, both_port

RESULTS: Final = Path(__file__).parent / "results"
COUNTS: Final = (10, 100_000)
"""Names of the zone."""
ASKED: Final = 10_000
"""Names that are asked for, at most."""
CHANGES: Final = 20
READY: Final = 120.0
"""Seconds until a server has read its zone."""
ZONE: Final = "bench.example"
Server: TypeAlias = Callable[[Path, int, int], list[str]]
"""Writes what a server needs into a directory, for a port and a zone of so many names; the command that runs it."""
_RATE: Final = re.compile(r"Queries per second:\s+([0-9.]+)")
_LOST: Final = re.compile(r"Queries lost:\s+(\d+)")
_TOOK: Final = re.compile(r"^> NOERROR \S+ A ([0-9.]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of a server; times in seconds."""

    server: str
    names: int
    per_second: float
    per_cpu_second: float
    p99: float
    lost: int


def zone_file(names: int) -> str:
    """The zone as all but the gateway read it."""
    head = f"$ORIGIN {ZONE}.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 604800 60\n@ NS ns\nns A 192.0.2.53\n"
    return head + "".join(f"n{i} A 192.0.2.{i % 250 + 1}\n" for i in range(names))


def gateway(directory: Path, port: int, names: int) -> list[str]:
    """The gateway: all names but one have fixed addresses."""
    return _gateway(directory, port, [f"n{i} A 192.0.2.{i % 250 + 1}" for i in range(names)], {})


def gathering(microseconds: int) -> Server:
    """The gateway that waits so long for more queries."""

    def start(directory: Path, port: int, names: int) -> list[str]:
        *_, run, site = gateway(directory, port, names)
        return [sys.executable, "-m", "bench.gathering", str(microseconds), run, site]

    return start


def _gateway(directory: Path, port: int, records: list[str], more: Mapping[str, Any]) -> list[str]:
    records = ["ns A 192.0.2.53", *records]
    zone = {"ns": f"ns.{ZONE}", "ttl": "10s", "records": records, "names": more.get("names", {})}
    site = {
        "workers": 1,
        "state": "state",
        "admin": {"sockets": str(directory)},
        "frontends": [{"listen": f"127.0.0.1:{both_port()}"}],
        "routes": [{"respond": {"status": 200}}],
        "dns": {"listen": f"127.0.0.1:{port}", "response_rate": 0, "zones": {ZONE: zone}},
        **more.get("site", {}),
    }
    path = directory / "site.yaml"
    path.write_text(yaml.safe_dump(site))
    return [sys.executable, "-m", "gateway", "run", str(path)]


def gdnsd(directory: Path, port: int, names: int) -> list[str]:
    """The name server gdnsd with one thread."""
    (directory / "zones").mkdir()
    (directory / "zones" / ZONE).write_text(zone_file(names))
    (directory / "config").write_text(
        f"options => {{ listen => 127.0.0.1:{port}, udp_threads => 1, tcp_threads => 1, run_dir => {directory}, "
        f"state_dir => {directory} }}\n"
    )
    return ["gdnsd", "-c", str(directory), "start"]


def nsd(directory: Path, port: int, names: int) -> list[str]:
    """NSD with one server process."""
    (directory / "zone").write_text(zone_file(names))
    (directory / "nsd.conf").write_text(
        f'server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: ""\n  chroot: ""\n'
        f"  rrl-ratelimit: 0\n"
        f'  zonesdir: "{directory}"\n  database: ""\n  pidfile: "{directory}/pid"\n  xfrdfile: "{directory}/xfrd"\n'
        f'  zonelistfile: "{directory}/list"\n  cookie-secret-file: "{directory}/cookie"\n'
        f'remote-control:\n  control-enable: no\nzone:\n  name: "{ZONE}"\n  zonefile: "zone"\n'
    )
    return ["nsd", "-d", "-c", str(directory / "nsd.conf")]


def knot(directory: Path, port: int, names: int) -> list[str]:
    """Knot with one thread for each transport."""
    (directory / "zone").write_text(zone_file(names))
    (directory / "knot.conf").write_text(
        f"server:\n  rundir: {directory}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n"
        f"  background-workers: 1\ndatabase:\n  storage: {directory}\n"
        f"zone:\n  - domain: {ZONE}\n    file: {directory}/zone\n    zonefile-load: whole\n    journal-content: none\n"
    )
    return ["knotd", "-c", str(directory / "knot.conf")]


SERVERS: Final[Mapping[str, Server]] = {
    "gateway": gateway,
    "gdnsd": gdnsd,
    "nsd": nsd,
    "knot": knot,
}


@contextmanager
def running(command: list[str], directory: Path, port: int) -> Iterator[int]:
    """Run a server; its process id."""
    log = directory / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    with process_on(process, port, log) as pid:
        end = time.monotonic() + READY
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise FarmFailed(f"does not answer: {command}\n{log.read_text(errors='replace')}")
        yield pid


def _answers(port: int) -> bool:
    try:
        return ask(port, ZONE, "SOA").rcode() == dns.rcode.NOERROR
    except (dns.exception.DNSException, OSError):
        return False


def dnsperf(port: int, queries: Path, seconds: float, *options: str) -> str:
    """What dnsperf prints. Raises CalledProcessError."""
    words = [
        "dnsperf",
        "-s",
        "127.0.0.1",
        "-p",
        str(port),
        "-d",
        str(queries),
        "-l",
        f"{seconds:g}",
        "-c",
        "16",
        *options,
    ]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _found(expression: re.Pattern[str], text: str) -> float:
    match = expression.search(text)
    return float(match[1]) if match is not None else 0.0


def measure(name: str, server: Server, names: int, seconds: float) -> Row:
    """Measure one server with a zone of so many names."""
    with tempfile.TemporaryDirectory() as made:
        directory, port = Path(made), both_port()
        queries = directory / "queries"
        queries.write_text("".join(f"n{i}.{ZONE} A\n" for i in range(0, names, max(1, names // ASKED))))
        with running(server(directory, port, names), directory, port) as pid:
            dnsperf(port, queries, 1.0)
            before = Usage.of(pid)
            text = dnsperf(port, queries, seconds)
            used = Usage.of(pid).since(before)
            rate = _found(_RATE, text)
            slow = dnsperf(port, queries, seconds, "-Q", str(max(1, int(rate / 2))), "-v")
    took = sorted(map(float, _TOOK.findall(slow)))
    p99 = took[int(len(took) * 0.99)] if took else float("nan")
    return Row(name, names, rate, rate * seconds / (used.total / 1e6), p99, int(_found(_LOST, text)))


def change_of_state() -> list[float]:
    """Seconds from a site's report that it drains, or is back, to the answer without or with it."""
    with tempfile.TemporaryDirectory() as made:
        directory, port, reports = Path(made), both_port(), free_udp_port()
        key = directory / "sites.key"
        key.touch(mode=0o600)
        key.write_text(KEY)
        sites = {
            "self": "mel",
            "listen": f"127.0.0.1:{reports}",
            "peers": {"syd": {"url": "http://syd.example", "report": f"127.0.0.1:{free_udp_port()}"}},
            "key_file": str(key),
        }
        names = {"www": {"sites": {"mel": "192.0.2.10", "syd": "198.51.100.10"}}}
        command = _gateway(directory, port, [], {"names": names, "site": {"sites": sites}})
        with running(command, directory, port):
            syd, found = Site(reports, "syd"), []
            try:
                time.sleep(1.0)
                for i in range(CHANGES):
                    syd.state = State.DRAIN if i % 2 == 0 else State.READY
                    began = time.monotonic()
                    syd.say()
                    while ("198.51.100.10" in str(ask(port, f"www.{ZONE}").answer)) is (i % 2 == 0):
                        if time.monotonic() - began > 5.0:
                            raise TimeoutError("the answer has not changed within 5 s")
                    found.append(time.monotonic() - began)
            finally:
                syd.stop()
            return found


def table(rows: list[Row]) -> str:
    """The figures for a terminal."""
    lines = [f"{'server':<16}{'names':>9}{'responses/s':>14}{'per CPU second':>16}{'p99 at half':>13}{'lost':>7}"]
    lines += [
        f"{row.server:<16}{row.names:>9}{row.per_second:>14,.0f}{row.per_cpu_second:>16,.0f}"
        f"{row.p99 * 1000:>10.2f} ms{row.lost:>7}"
        for row in rows
    ]
    return "\n".join(lines)


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="Duration of each measurement.")
@click.option("--only", type=click.Choice(list(SERVERS)), help="One server.")
@click.option(
    "--gather", type=click.IntRange(0, 999_999), multiple=True, help="The gateway that waits so many microseconds too."
)
@click.option("--keep/--no-keep", default=True, help="Keep the figures in bench/results.")
def main(seconds: float, only: str | None, gather: tuple[int, ...], *, keep: bool) -> None:
    """Measure, print the table, and keep the figures."""
    rows = []
    servers = SERVERS if only is None else {only: SERVERS[only]}
    servers = {**servers, **{f"gateway, {wait} µs": gathering(wait) for wait in gather}}
    for names in COUNTS:
        for name, server in servers.items():
            rows.append(measure(name, server, names, seconds))
            click.echo(table(rows[-1:]).splitlines()[1])
    changes = change_of_state() if only in {None, "gateway"} else []
    click.echo(table(rows))
    if changes:
        click.echo(f"a state change is in answers after {median(changes) * 1000:.0f} ms (median of {len(changes)})")
    if keep:
        found = {"machine": facts(), "rows": [asdict(row) for row in rows], "changes": changes}
        (RESULTS / "dns.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
