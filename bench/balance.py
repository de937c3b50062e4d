"""Quality of the balancing: real gateways, servers with queues, compared with HAProxy, nginx and an oracle.

    make balance, or python -m bench.balance [--simulate] [--seconds 40] [--only NAME]

Every proxy gets servers of its own and the same requests at the same moments; all run at once, so that what else the
machine does hits them alike. The oracle is a simulation of the same arrivals that knows the size of each request and
the backlog of each server. Prints a table and which goals were reached, and keeps it with a plot in bench/results.
With 40 seconds for each workload it takes about twenty minutes, in which the machine should do nothing else.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from bench.farm import process_on
from bench.machine import facts
from bench.queueing import Answer, Simulated, Workload, oracle, simulate, workloads
from tests.support.waiting import free_port

RESULTS: Final = Path(__file__).parent / "results"
WARM_UP: Final = 0.1
"""Share of a workload that is a warm-up and not counted."""
IN_TIME: Final = 1.0
"""Seconds within which an answer is a success, for the workloads with phases."""

OURS: Final = "measured"
NEAR_ORACLE: Final = {("1:2:4", 0.7): 1.25, ("1:2:4", 0.9): 1.5}
"""Goals: p99 over the oracle's, by workload and load."""
BELOW_PEERS: Final = 0.75
"""Goal: p99 over the best peer policy's where servers differ; where they do not, it is 1."""
IN_TIME_SHARE: Final = 0.999
"""Goal: answers within IN_TIME while one server is slow."""

GATEWAY: Final = """
workers: 2
state: state
frontends: [{{listen: "127.0.0.1:{port}", limits: {{connections: 9000, connections_per_source: 9000}}}}]
backends: {{app: {{balance: {policy}, servers: [{servers}]}}}}
"""
HAPROXY: Final = """
global
    nbthread 2
    maxconn 9000
defaults
    mode http
    http-reuse always
    timeout connect 2s
    timeout client 600s
    timeout server 60s
frontend web
    bind 127.0.0.1:{port}
    default_backend app
backend app
    balance {policy}
    {servers}
"""
NGINX: Final = """
worker_processes 2;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.error crit;
events {{ worker_connections 9000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/nginx.body;
    proxy_temp_path {directory}/nginx.proxy;
    fastcgi_temp_path {directory}/nginx.fastcgi;
    uwsgi_temp_path {directory}/nginx.uwsgi;
    scgi_temp_path {directory}/nginx.scgi;
    upstream app {{
        zone app 256k;
        {policy};
        {servers}
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A program to compare: `config` is the template of its file, `server` how that names a server.

    `values` are those of the template's other fields.
    """

    name: str
    config: str
    server: str
    command: Callable[[Path], list[str]]
    values: Mapping[str, str]
    separator: str = "\n"
    """Between two servers."""

    def write(self, directory: Path, port: int, ports: Sequence[int]) -> list[str]:
        """Write its configuration; return the command that runs it."""
        servers = self.separator.join(self.server.format(i=i, port=p) for i, p in enumerate(ports))
        path = directory / "config"
        path.write_text(self.config.format(directory=directory, port=port, servers=servers, **self.values))
        return self.command(path)


def ours(path: Path) -> list[str]:
    """Run the gateway."""
    return [sys.executable, "-m", "gateway", "run", str(path)]


def haproxy(path: Path) -> list[str]:
    """Run HAProxy."""
    return ["haproxy", "-q", "-db", "-f", str(path)]


def nginx(path: Path) -> list[str]:
    """Run nginx."""
    return ["nginx", "-c", str(path), "-p", str(path.parent)]


IN_GATEWAY: Final = '{{name: app{i}, address: "127.0.0.1:{port}"}}'
_IN_HAPROXY: Final = "server app{i} 127.0.0.1:{port}"
_IN_NGINX: Final = "server 127.0.0.1:{port};"
PROXIES: Final = (
    Proxy(OURS, GATEWAY, IN_GATEWAY, ours, {"policy": "measured"}, ", "),
    Proxy("haproxy leastconn", HAPROXY, _IN_HAPROXY, haproxy, {"policy": "leastconn"}),
    Proxy("haproxy random(2)", HAPROXY, _IN_HAPROXY, haproxy, {"policy": "random(2)"}),
    Proxy("nginx least_conn", NGINX, _IN_NGINX, nginx, {"policy": "least_conn"}),
    Proxy("nginx random two", NGINX, _IN_NGINX, nginx, {"policy": "random two least_conn"}),
)


@dataclass(frozen=True, slots=True)
class Quality:
    """The results of one workload at one proxy; times in ms. `good` is the share of good answers within IN_TIME."""

    workload: str
    load: float
    policy: str
    requests: int
    p50: float
    p90: float
    p99: float
    good: float
    failed: float


def quality(workload: Workload, name: str, answers: Sequence[Answer]) -> Quality:
    """Sum up the answers after the warm-up; those of a failing server count as failed, not as fast."""
    kept = [answer for answer in answers if answer.due >= WARM_UP * workload.seconds]
    times = sorted(answer.seconds if answer.good else math.inf for answer in kept)

    def quantile(share: float) -> float:
        value = times[min(len(times) - 1, int(share * len(times)))]
        return round(value * 1000, 1)

    in_time = sum(answer.good and answer.seconds <= IN_TIME for answer in kept) / len(kept)
    failed = sum(not answer.good for answer in kept) / len(kept)
    return Quality(
        workload.name,
        workload.load,
        name,
        len(kept),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        round(in_time, 5),
        round(failed, 5),
    )


@contextmanager
def told(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a program of the bench that reports when it is ready and waits for the start."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101
            if process.stdout.readline().strip() != "ready":
                raise click.ClickException(f"does not start: {command}")
            yield process
        finally:
            process.kill()


def measure(number: int, workload: Workload, seconds: float, proxies: Sequence[Proxy]) -> list[Quality]:
    """Run the proxies side by side, each with its own servers and its own client."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.chmod(0o711)
        programs, clients = [], []
        for index, proxy in enumerate(proxies):
            directory = place / str(index)
            directory.mkdir(mode=0o755)
            ports = [free_port() for _ in workload.speeds]
            pools = [sys.executable, "-m", "bench.pools", str(number), str(seconds), *map(str, ports)]
            programs.append(stack.enter_context(told(pools)))
            port = free_port()
            log = directory / "log"
            with log.open("wb") as err:
                command = proxy.write(directory, port, ports)
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
            stack.enter_context(process_on(process, port, log))
            result = directory / "answers.json"
            arrivals = [sys.executable, "-m", "bench.arrivals", str(number), str(seconds), str(port), str(result)]
            clients.append((proxy, result, stack.enter_context(told(arrivals))))
        time.sleep(0.5)
        for program in [*programs, *(client for _, _, client in clients)]:
            assert program.stdin is not None  # noqa: S101
            program.stdin.write("\n")
            program.stdin.flush()
        found = []
        for proxy, result, client in clients:
            client.wait(workload.seconds + 60)
            answers = [Answer(*item) for item in json.loads(result.read_text())]
            found.append(quality(workload, proxy.name, answers))
        return found


def simulated(workload: Workload) -> list[Quality]:
    """Results of the oracle and of the gateway's policies in the same simulation."""
    found = [quality(workload, "oracle", list(simulate(workload, oracle)))]
    for name in ("measured", "least-connections"):
        policy = Simulated(name, len(workload.speeds))
        found.append(quality(workload, f"{name}, simulated", list(simulate(workload, policy.pick, policy))))
    return found


def show(found: Sequence[Quality]) -> None:
    """Print the table of one workload; ratios are p99 over the oracle's."""
    best = next(item for item in found if item.policy == "oracle")
    click.echo(f"\n{best.workload}, load {best.load:g}, {best.requests} requests")
    click.echo(f"  {'':28}{'p50':>9}{'p90':>9}{'p99 ms':>9}{'x oracle':>9}{'in 1 s':>9}{'failed':>9}")
    for item in found:
        ratio = item.p99 / best.p99
        click.echo(
            f"  {item.policy:28}{item.p50:9.1f}{item.p90:9.1f}{item.p99:9.1f}{ratio:9.2f}"
            f"{item.good:9.2%}{item.failed:9.2%}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a goal was reached: the figure has to be at most `limit`, or at least that if `more`."""

    goal: str
    figure: float
    limit: float
    more: bool = False

    @property
    def reached(self) -> bool:
        """Whether the goal was reached."""
        return self.figure >= self.limit if self.more else self.figure <= self.limit


def verdicts(found: Sequence[Quality]) -> list[Verdict]:
    """The goals for `measured`, for the workloads that were measured with peers."""
    by = {(item.workload, item.load, item.policy): item for item in found}
    peers = [proxy.name for proxy in PROXIES if proxy.config is not GATEWAY]
    judged = []
    for (workload, load, policy_), item in by.items():
        others = [by[workload, load, peer].p99 for peer in peers if (workload, load, peer) in by]
        if policy_ != OURS or not others:
            continue
        what = f"{workload} at {load:g}: p99"
        if (workload, load) in NEAR_ORACLE:
            oracles = by[workload, load, "oracle"].p99
            judged.append(Verdict(f"{what} / oracle", item.p99 / oracles, NEAR_ORACLE[workload, load]))
        best = min(others)
        limit = 1.0 if workload == "equal" else BELOW_PEERS
        judged.append(Verdict(f"{what} / best peer", item.p99 / best if math.isfinite(best) else 0.0, limit))
        if workload == "one slow":
            judged.append(Verdict(f"{workload}: good within 1 s", item.good, IN_TIME_SHARE, more=True))
    return judged


def show_verdicts(judged: Sequence[Verdict]) -> None:
    """Print the goals and whether they were reached."""
    for verdict in judged:
        sign = "at least" if verdict.more else "at most"
        word = "reached" if verdict.reached else "MISSED"
        click.echo(f"{word:<8}{verdict.goal:<36}{verdict.figure:8.4g}, {sign} {verdict.limit:g}")


def plot(found: Sequence[Quality]) -> str:
    """p99 over the oracle's as an SVG: a group of bars for each workload."""
    groups = list(dict.fromkeys((item.workload, item.load) for item in found))
    names = [name for name in dict.fromkeys(item.policy for item in found) if "simulated" not in name]
    colours = ("#222222", "#1b7837", "#762a83", "#c2a5cf", "#b35806", "#fdb863")
    by = {(item.workload, item.load, item.policy): item.p99 for item in found}
    bar, gap, height, most = 9, 18, 260, 4.0
    step = bar * len(names) + gap
    width = 60 + step * len(groups)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + 90}" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for tick in (1, 2, 3, 4):
        y = 20 + height * (1 - tick / most)
        parts.append(f'<path d="M40 {y:.0f}H{width}" stroke="#ddd"/><text x="8" y="{y + 4:.0f}">{tick} x</text>')
    for g, (workload, load) in enumerate(groups):
        x = 50 + g * step
        for n, name in enumerate(names):
            value = by.get((workload, load, name), math.nan) / by[workload, load, "oracle"]
            tall = height * min(value, most) / most if value == value else 0.0  # noqa: PLR0124 - not a number
            top = 20 + height - tall
            parts.append(
                f'<rect x="{x + n * bar}" y="{top:.1f}" width="{bar - 1}" height="{tall:.1f}" '
                f'fill="{colours[n % len(colours)]}"/>'
            )
        parts.append(
            f'<text x="{x}" y="{height + 36}">{workload}</text><text x="{x}" y="{height + 50}">{load:g}</text>'
        )
    for n, name in enumerate(names):
        x = 50 + n * 140
        parts.append(
            f'<rect x="{x}" y="{height + 66}" width="10" height="10" fill="{colours[n % len(colours)]}"/>'
            f'<text x="{x + 14}" y="{height + 75}">{name}</text>'
        )
    return "".join(parts) + "</svg>\n"


@click.command()
@click.option("--simulate", "simulation", is_flag=True, help="Only the simulation: no process, seconds.")
@click.option("--seconds", default=40.0, show_default=True, help="Of each workload without phases.")
@click.option("--only", multiple=True, help="Names of workloads, or NAME@LOAD.")
@click.option(
    "--keep/--no-keep",
    default=True,
    help="Write bench/results/balance.json and .svg; with --only, update those workloads.",
)
def main(*, simulation: bool, seconds: float, only: tuple[str, ...], keep: bool) -> None:
    """Measure the quality of the balancing."""
    found: list[Quality] = []
    for number, workload in enumerate(workloads(seconds)):
        if only and workload.name not in only and f"{workload.name}@{workload.load:g}" not in only:
            continue
        here = simulated(workload)
        if not simulation:
            here += measure(number, workload, seconds, PROXIES)
        show(here)
        found += here
    if only and not simulation and keep:
        found = renewed(kept(), found)
    judged = verdicts(found)
    show_verdicts(judged)
    if keep and not simulation:
        document = {"machine": facts(), "seconds": seconds, "quality": [asdict(item) for item in found]}
        document["goals"] = [{**asdict(verdict), "reached": verdict.reached} for verdict in judged]
        (RESULTS / "balance.json").write_text(json.dumps(document, indent=1) + "\n")
        (RESULTS / "balance.svg").write_text(plot(found))


def kept() -> list[Quality]:
    """The results of the last run."""
    path = RESULTS / "balance.json"
    return [Quality(**item) for item in json.loads(path.read_text())["quality"]] if path.exists() else []


def renewed(before: Sequence[Quality], now: Sequence[Quality]) -> list[Quality]:
    """Replace earlier results of the same workloads and loads by the new ones."""
    measured = {(item.workload, item.load) for item in now}
    groups = dict.fromkeys((item.workload, item.load) for item in (*before, *now))
    return [
        item
        for group in groups
        for item in (now if group in measured else before)
        if (item.workload, item.load) == group
    ]


if __name__ == "__main__":
    main()
