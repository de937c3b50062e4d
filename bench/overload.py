"""Requests and sessions under overload: this gateway's overload control, nginx and HAProxy.

    python -m bench.overload [--seconds 10] [--only NAME] [--no-keep]

Real proxies before servers of a fixed capacity (bench/pools.py: 4 of them that do 4 requests at once), one after the
other, each under the same requests. The peers have their usual limits: max_conns at nginx's servers; maxconn and a
queue of 1 s at HAProxy's. Prints tables and which goals were reached, and keeps them with a plot in bench/results.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import click

from bench.balance import HAPROXY, IN_GATEWAY, NGINX, Proxy, Verdict, haproxy, nginx, ours, show_verdicts, told
from bench.crowd import Crowd, Plan, Seen
from bench.farm import process_on
from bench.machine import facts
from tests.support.waiting import free_port

RESULTS: Final = Path(__file__).parent / "results"
SERVERS: Final = 4
SLOTS: Final = 4
MEAN: Final = 0.04
"""Seconds of work of a request, on average."""
CAPACITY: Final = SERVERS * SLOTS / MEAN
"""Requests per second."""
LOADS: Final = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
GOLD: Final = 0.25
"""Share of the requests that are of the gold class."""
LENGTHS: Final = (5, 15, 50)
SESSION_LOADS: Final = (0.8, 1.0, 1.5, 2.0, 3.0)
INSIDE: Final = 30
"""Requests of a session of those who are in when a flood comes, on average."""
LEARNING: Final = 8.0
"""Seconds at the beginning of sessions that are not counted: until as many are there as there may be."""
THINK: Final = 0.3
WARM_UP: Final = 2.0
"""Seconds at the beginning that are not counted."""
WINDOW: Final = 0.5
"""Seconds for which the p99 after a step is taken."""

SITE: Final = """
workers: 2
state: state
frontends:
  - listen: "127.0.0.1:{port}"
    trusted_proxies: [127.0.0.1]
    limits: {{connections: 9000, connections_per_source: 9000}}
backends: {{app: {{balance: least-connections, servers: [{servers}]}}}}
qos:
  classes:
    - {{name: gold, match: {{cookie: {{tier: gold}}}}, priority: 1}}
    - {{name: rest, priority: 9{rate}}}
  {qos}
"""
OVERLOAD: Final = "overload: {concurrency: auto, target_delay: 20ms, fair_by: source}"
MEASURED: Final = "sessions: {max: auto, idle: 6s}"
"""Sessions by what servers can bear. No client here thinks for longer: of 20,000 pauses, two are longer than 3 s."""
PLACES: Final = "sessions: {max: 120, idle: 3s}"
PER_SOURCE: Final = ", rate: 20/s, per: source"


OURS: Final = "gateway"
PROXIES: Final = (
    Proxy(OURS, SITE, IN_GATEWAY, ours, {"qos": OVERLOAD, "rate": ""}, ", "),
    Proxy(
        "haproxy maxconn",
        HAPROXY.replace("    timeout server 60s", "    timeout server 60s\n    timeout queue 1s"),
        f"server app{{i}} 127.0.0.1:{{port}} maxconn {2 * SLOTS}",
        haproxy,
        {"policy": "leastconn"},
        "\n    ",
    ),
    Proxy(
        "nginx max_conns",
        NGINX,
        f"server 127.0.0.1:{{port}} max_conns={2 * SLOTS} max_fails=0;",
        nginx,
        {"policy": "least_conn"},
        "\n        ",
    ),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene: the requests over time."""

    name: str
    crowds: tuple[Crowd, ...]
    qos: str = OVERLOAD
    """What our gateway has of `qos`."""
    rate: str = ""
    """What its class `rest` has besides."""
    room: int = 0
    """max_connections of its servers; 0: as many as they like."""
    warm_up: float = WARM_UP
    """Seconds at the beginning that are not counted."""

    def set_up(self, proxy: Proxy) -> Proxy:
        """The proxy as this scene has it; the peers are always as they usually are."""
        if proxy.name != OURS:
            return proxy
        server = proxy.server.replace("}}", f", max_connections: {self.room}}}}}") if self.room else proxy.server
        return replace(proxy, server=server, values={"qos": self.qos, "rate": self.rate})

    @property
    def seconds(self) -> float:
        """Time of the last request."""
        return max(crowd.end for crowd in self.crowds)


@dataclass(frozen=True, slots=True)
class Row:
    """One proxy in one scene; times in ms, of answers with 200; `done`: answers per second as a share of capacity."""

    scene: str
    proxy: str
    crowd: str
    requests: int
    good: float
    done: float
    p50: float
    p99: float
    kept: float = math.nan
    """Of sessions: answers with 200 to those that were not cut, as a share of capacity."""
    aborted: float = math.nan
    """Of sessions whose first request was answered: those that did not end."""
    recovery: float = math.nan
    """After a step: seconds until the p99 of answers stays under the target."""


def scenes(seconds: float) -> Iterator[Scene]:
    """All scenes."""
    end = WARM_UP + seconds
    for load in LOADS:
        gold = Crowd("gold", 0.0, end, load * CAPACITY * GOLD, cookie="tier=gold")
        rest = Crowd("rest", 0.0, end, load * CAPACITY * (1 - GOLD))
        yield Scene(f"priorities at {load:.0%}", (gold, rest))
    before = Crowd("all", 0.0, WARM_UP + 3, 0.5 * CAPACITY)
    yield Scene("step 50% to 300%", (before, Crowd("all", WARM_UP + 3, end + 5, 3 * CAPACITY)))
    yield from _floods(seconds)
    for length in LENGTHS:
        for load in SESSION_LOADS:
            # As many sessions end as begin only after two of their lives.
            learning = LEARNING + 2 * length * (THINK + MEAN)
            crowd = Crowd("sessions", 0.0, learning + seconds, load * CAPACITY / length, length=length, think=THINK)
            qos = f"{OVERLOAD}\n  {MEASURED}"
            yield Scene(f"sessions of {length} at {load:.0%}", (crowd,), qos, room=SLOTS + 1, warm_up=learning)


def _floods(seconds: float) -> Iterator[Scene]:
    """Others at half the capacity, alone and with a flood beside them.

    Against one source there is a rate per source; against many, which no rate can tell apart, there are sessions.
    """
    end = WARM_UP + seconds
    quiet = Crowd("others", 0.0, end, 0.5 * CAPACITY, sources=50)
    yield Scene("no flood", (quiet,), rate=PER_SOURCE)
    one = Crowd("flood", WARM_UP, end, 2 * CAPACITY, sources=1)
    yield Scene("flood from one source", (quiet, one), rate=PER_SOURCE)
    start, end = LEARNING, LEARNING + seconds
    inside = Crowd("others", 0.0, end, 0.5 * CAPACITY / INSIDE, sources=50, length=INSIDE, think=0.5)
    qos = f"{OVERLOAD}\n  {PLACES}"
    yield Scene("no flood of sessions", (inside,), qos, warm_up=start)
    for name, sources, cookie in (
        ("flood from 10,000 sources", 10_000, ""),
        ("flood of forged tickets", 10_000, f"GWSESSION={'A' * 40}"),
    ):
        flood = Crowd("flood", start, end, 2 * CAPACITY, sources=sources, cookie=cookie)
        yield Scene(name, (inside, flood), qos, warm_up=start)


def run(proxy: Proxy, scene: Scene) -> list[Seen]:
    """Run the scene at one proxy."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.chmod(0o711)
        ports = [free_port() for _ in range(SERVERS)]
        pools = stack.enter_context(told([sys.executable, "-m", "bench.pools", "0", "60", *map(str, ports)]))
        port = free_port()
        log = place / "log"
        with log.open("wb") as err:
            command = scene.set_up(proxy).write(place, port, ports)
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
        stack.enter_context(process_on(process, port, log))
        plan = Plan(port, scene.crowds, MEAN)
        result = place / "seen.json"
        crowd = stack.enter_context(told([sys.executable, "-m", "bench.crowd", json.dumps(asdict(plan)), str(result)]))
        time.sleep(0.3)
        for program in (pools, crowd):
            assert program.stdin is not None  # noqa: S101
            program.stdin.write("\n")
            program.stdin.flush()
        crowd.wait(scene.seconds + 60)
        return [Seen(*item) for item in json.loads(result.read_text())]


def quantile(times: Sequence[float], share: float) -> float:
    """Of times in seconds, in ms; not a number if there are none."""
    ordered = sorted(times)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1) if ordered else math.nan


def rows(scene: Scene, proxy: str, seen: Sequence[Seen], usual: float) -> Iterator[Row]:
    """The results of a scene, for each crowd. usual: the p99 of answers at half load, in ms, for steps."""
    for name in dict.fromkeys(crowd.name for crowd in scene.crowds):
        kept = [item for item in seen if item.crowd == name and scene.warm_up <= item.at < scene.seconds]
        good = [item.seconds for item in kept if item.status == 200]
        span = scene.seconds - scene.warm_up
        kept_share = aborted = recovery = math.nan
        if name == "sessions":
            kept_share, aborted = _sessions(seen, scene.warm_up, scene.seconds)
        if scene.name.startswith("step"):
            recovery = _recovery(seen, scene.crowds[1].start, 2 * usual)
        yield Row(
            scene.name,
            proxy,
            name,
            len(kept),
            round(len(good) / max(1, len(kept)), 4),
            round(len(good) / span / CAPACITY, 3),
            quantile(good, 0.5),
            quantile(good, 0.99),
            kept_share,
            aborted,
            recovery,
        )


def _sessions(seen: Sequence[Seen], start: float, end: float) -> tuple[float, float]:
    """(kept, aborted) as in Row, from `start` to `end`; a session that goes on after that has not been cut."""
    last: dict[int, Seen] = {}
    for item in sorted(seen, key=lambda item: item.at):
        last[item.session] = item
    kept = sum(item.status == 200 and start <= item.at < end and last[item.session].status == 200 for item in seen)
    ends = [item for item in last.values() if start <= item.at < end]
    whole = sum(item.status == 200 and item.place == item.length - 1 for item in ends)
    cut = sum(item.status != 200 and item.place > 0 for item in ends)
    ended = whole + cut
    return round(kept / (end - start) / CAPACITY, 3), round(cut / ended, 4) if ended else math.nan


def _recovery(seen: Sequence[Seen], step: float, target: float) -> float:
    """Seconds from the step on until no window of half a second has a p99 of answers over the target (ms) any more."""
    late = 0.0
    windows: dict[int, list[float]] = {}
    for item in seen:
        if item.status == 200 and item.at >= step:
            windows.setdefault(int((item.at - step) / WINDOW), []).append(item.seconds)
    for number, times in windows.items():
        if quantile(times, 0.99) > target:
            late = max(late, WINDOW * (number + 1))
    return round(late, 1)


def verdicts(found: Sequence[Row]) -> Iterator[Verdict]:
    """The goals for the gateway."""
    by = {(row.scene, row.crowd): row for row in found if row.proxy == OURS}
    half, double = (by.get((f"priorities at {load}", "gold")) for load in ("50%", "200%"))
    if half and double:
        yield Verdict("gold at 200%: p99 / p99 at 50%", double.p99 / half.p99, 1.5)
    full = [by.get(("priorities at 300%", crowd)) for crowd in ("gold", "rest")]
    if all(full):
        yield Verdict("work done at 300%", sum(row.done for row in full if row), 0.95, more=True)
    step = by.get(("step 50% to 300%", "all"))
    if step:
        yield Verdict("step: seconds until p99 is back", step.recovery, 1.0)
    for flood, without in (
        ("flood from one source", "no flood"),
        ("flood from 10,000 sources", "no flood of sessions"),
        ("flood of forged tickets", "no flood of sessions"),
    ):
        row, calm = by.get((flood, "others")), by.get((without, "others"))
        if row and calm:
            yield Verdict(f"{flood}: p99 of others", row.p99 / calm.p99, 1.1)
    for (scene, _), row in by.items():
        if scene.startswith("sessions") and scene.endswith("300%"):
            yield Verdict(f"{scene}: answers to sessions that were not cut", row.kept, 0.95, more=True)
            yield Verdict(f"{scene}: aborted", row.aborted, 0.01)


def show(found: Sequence[Row]) -> None:
    """Print the table of one scene."""
    click.echo(f"\n{found[0].scene}")
    titles = "requests", "200", "done", "p50 ms", "p99 ms", "kept", "aborted", "recovery"
    click.echo(f"  {'':28}" + "".join(f"{title:>10}" for title in titles))
    for row in found:
        figures = (
            f"{row.requests}",
            f"{row.good:.1%}",
            f"{row.done:.1%}",
            f"{row.p50:.1f}",
            f"{row.p99:.1f}",
            *("" if math.isnan(share) else f"{share:.1%}" for share in (row.kept, row.aborted)),
            "" if math.isnan(row.recovery) else f"{row.recovery:.1f} s",
        )
        click.echo(f"  {row.proxy + ', ' + row.crowd:28}" + "".join(f"{figure:>10}" for figure in figures))


def plot(found: Sequence[Row], path: Path) -> None:
    """Write a picture as SVG: p99 of each class, and work that was done, by load."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to load, and not needed for --no-keep
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({"svg.hashsalt": "bench", "font.size": 9}):
        canvas = Figure(figsize=(9, 4), layout="constrained")
        waits, work = canvas.subplots(1, 2)
        for proxy in PROXIES:
            for crowd, style in (("gold", "-"), ("rest", "--")):
                mine = {row.scene: row for row in found if row.proxy == proxy.name and row.crowd == crowd}
                points = [(load, mine[name]) for load in LOADS if (name := f"priorities at {load:.0%}") in mine]
                loads = [load for load, _ in points]
                label = f"{proxy.name}, {crowd}"
                waits.plot(loads, [row.p99 for _, row in points], style, marker="o", markersize=3, label=label)
                work.plot(loads, [row.done for _, row in points], style, marker="o", markersize=3, label=label)
        waits.set_yscale("log")
        waits.set_ylabel("p99 of answers, ms")
        work.set_ylabel("answers with 200, as a share of capacity")
        for axes in (waits, work):
            axes.set_xlabel("requests, as a share of capacity")
        waits.legend(frameon=False, fontsize=7)
        canvas.savefig(path, format="svg", metadata={"Date": None})


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="Of each scene.")
@click.option("--only", multiple=True, help="What the name of a scene begins with.")
@click.option("--proxy", multiple=True, help="Names of proxies.")
@click.option("--keep/--no-keep", default=True, help="Write bench/results/overload.json and .svg.")
def main(*, seconds: float, only: tuple[str, ...], proxy: tuple[str, ...], keep: bool) -> None:
    """Measure the results of requests under overload."""
    found: list[Row] = []
    usual: dict[str, float] = {}
    for scene in scenes(seconds):
        if only and not scene.name.startswith(only):
            continue
        here: list[Row] = []
        for item in PROXIES:
            if not proxy or item.name in proxy:
                seen = run(item, scene)
                here += rows(scene, item.name, seen, usual.get(item.name, 1000 * 5 * MEAN))
                if scene.name == "priorities at 50%":
                    usual[item.name] = quantile([one.seconds for one in seen if one.at >= WARM_UP], 0.99)
        show(here)
        found += here
    judged = list(verdicts(found))
    click.echo()
    show_verdicts(judged)
    if keep:
        document = {"machine": facts(), "seconds": seconds, "rows": [asdict(row) for row in found]}
        document["goals"] = [{**asdict(verdict), "reached": verdict.reached} for verdict in judged]
        (RESULTS / "overload.json").write_text(json.dumps(document, indent=1) + "\n")
        plot(found, RESULTS / "overload.svg")


if __name__ == "__main__":
    main()
