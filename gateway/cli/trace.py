"""`gateway trace`."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.gateways import TARGET, find
from gateway.cli.output import JSON, complain, fail, wants_json
from gateway.cli.seconds import Seconds
from gateway.process.tail_limits import MOST_FOLLOWED

if TYPE_CHECKING:
    from gateway.cli.tails import Tails

Step = dict[str, Any]
LONGEST: Final = 3600.0
"""Seconds that one command may wait."""


@click.command()
@TARGET
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="NAME[:VALUE]",
    help="Only a request with this header, and this value if one is given; may be repeated.",
)
@click.option(
    "--when",
    default="",
    metavar="EXPRESSION",
    help="Only a request for which this holds, as in `when:` of a route: 'path.startsWith(\"/api/\")'.",
)
@click.option("--id", "request_id", default="", metavar="ID", help="Only the request with this id.")
@click.option(
    "--most",
    default=1,
    show_default=True,
    type=click.IntRange(1, MOST_FOLLOWED),
    metavar="N",
    help="Requests to follow.",
)
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    type=Seconds(0.001, LONGEST),
    metavar="SECONDS",
    help="Maximum time for all of it.",
)
@JSON
def trace(target: str | None, headers: tuple[str, ...], when: str, request_id: str, most: int, timeout: float) -> None:
    """Follow the next real request that matches through every step, while it happens.

    It shows what `gateway explain` foretells, and what became of it: the routes, the class, the choice of the server
    and what was known of each, whether the connection was there or new, waits, failures, tries, the times of each phase
    and the outcome. --json prints a line of JSON for each step. The exit status is 1 if no request came in time.
    """
    from gateway.cli.tails import Tails, wanted  # noqa: PLC0415

    about = wanted(_condition(headers, when), request_id=request_id, steps=True, most=most)
    gateway = find(target)
    seen = _Seen(most, print_json if wants_json() else print_step)
    with Tails([gateway], about) as tails:
        tails.announce("the next request that matches")
        try:
            finished = seen.follow(tails, time.monotonic() + timeout)
        except KeyboardInterrupt:
            finished = True
    if finished:
        return
    if seen.count:
        fail(f"{seen.count} of {most} requests were followed to their end within {timeout:g} s")
    fail(f"no request that matches has ended within {timeout:g} s")


def _condition(headers: tuple[str, ...], when: str) -> str:
    """The expression for all that is asked of a request."""
    parts = [f"({when})"] if when else []
    for header in headers:
        name, colon, value = header.partition(":")
        name = json.dumps(name.strip().lower())
        parts.append(f"headers[{name}] == {json.dumps(value.strip())}" if colon else f"{name} in headers")
    return " && ".join(parts)


@dataclass(slots=True)
class _Seen:
    """The requests that have come so far, at most `most`; `show` prints a step of one."""

    most: int
    show: Callable[[Step], None]
    ids: list[str] = field(default_factory=list)
    count: int = 0
    """Those that have ended."""

    def follow(self, tails: "Tails", end: float) -> bool:
        """Show every step until all have ended; False: it is too late, or the gateway has ended before."""
        while (left := end - time.monotonic()) > 0:
            found = tails.read(left)
            if found is None:
                complain("the gateway has ended")
                return False
            for _, said in found:
                self._take(said)
            sys.stdout.flush()
            if self.count >= self.most:
                return True
        return False

    def _take(self, said: Step) -> None:
        if "lost" in said:
            complain(f"{said['lost']} steps are left out here: they came faster than they are read")
            return
        name = str(said.get("request_id"))
        if name not in self.ids:
            if len(self.ids) >= self.most:
                return  # of another worker, which has not heard yet that it is enough
            self.ids.append(name)
        self.show(said)
        self.count += "step" not in said


def print_json(said: Step) -> None:
    """Print a step as a line of JSON."""
    click.echo(json.dumps(said))


def print_step(said: Step) -> None:
    """Print a step for people."""
    from loadagent.printable import printable_values  # noqa: PLC0415

    for line in _lines(printable_values(said)):
        click.echo(line)


def _lines(said: Step) -> Iterator[str]:
    if "step" not in said:
        yield from _end(said)
        return
    show = _STEPS.get(said["step"])
    if show is not None:
        yield from show(said)


def _at(said: Step) -> str:
    return f"{said['ms']:9.3f} ms"


def _decided(said: Step) -> Iterator[str]:
    from gateway.explain.report import reasons  # noqa: PLC0415

    yield f"{said['asked']} at {said['host'] or 'no host'} [request {said['request_id']}]"
    yield f"├─ frontend {said['frontend']}"
    yield f"├─ seen as {said['scheme']} from {said['client'] or 'a Unix socket'}, {said['uri']}"
    yield from reasons(said)
    meaning = {
        "no_route": "no route is for it",
        "not_admitted": "its class is never admitted",
        "login": "its password is to be checked",
        "map": "a program is asked for the value of a map",
    }
    if said["verdict"] == "backend":
        yield f"├─ {_at(said)}: decided: backend {said['backend']}"
    else:
        yield f"├─ {_at(said)}: decided: {meaning.get(said['verdict'], 'answered here')}"


def _server(said: Step) -> Iterator[str]:
    from gateway.explain.report import NOT_KEPT, choice  # noqa: PLC0415

    tried = f", not {', '.join(said['tried'])}, which failed it" if said["tried"] else ""
    yield f"├─ {_at(said)}: chosen: server {said['server']} of {said['backend']}{tried}"
    if said["affinity"] is not None:
        yield f"│  affinity {said['affinity']} {'keeps the client there' if said['kept'] else NOT_KEPT}"
    yield from choice(said)


def _waits(said: Step) -> Iterator[str]:
    why = {
        "rate": "a rate limit allows it",
        "login": "its password is checked",
        "room": "a server has room",
        "map": "the program of a map has answered",
    }
    yield f"├─ {_at(said)}: waits until {why[said['reason']]}"


def _sent(said: Step) -> Iterator[str]:
    how = "over an idle connection" if said["connection"] == "reused" else "over a new connection"
    made = f", made in {said['took_ms']:.3f} ms" if said["connection"] == "new" else ""
    yield f"├─ {_at(said)}: sent to {said['server']} ({said['address']}) {how}{made}"


_STEPS: Final[dict[str, Callable[[Step], Iterator[str]]]] = {
    "decided": _decided,
    "refused": lambda said: iter([f"[request {said['request_id']}]", f"├─ {_at(said)}: refused: {said['why']}"]),
    "server": _server,
    "waits": _waits,
    "called": lambda said: iter([f"├─ {_at(said)}: its turn, after {said['took_ms']:.3f} ms"]),
    "connects": lambda said: iter([f"├─ {_at(said)}: no idle connection: connects to {said['server']}"]),
    "sent": _sent,
    "failed": lambda said: iter([f"├─ {_at(said)}: FAILED at {said['server']}: {said['outcome']}: {said['why']}"]),
    "answered": lambda said: iter(
        [f"├─ {_at(said)}: {said['server']} answers {said['status']}, after {said['took_ms']:.3f} ms"]
    ),
}


def _end(said: Step) -> Iterator[str]:
    """The record of a request that has ended."""
    tries = f", {said['tries']} tries" if said["tries"] > 1 else ""
    side = f" (fault of the {said['side']})" if said["side"] not in ("", "-") else ""
    # The log's time, which is taken when the worker wakes: a step's may be later.
    took = f"{said['duration_ms']:.3f} ms in the log"
    yield f"└─ {said['status']}, {said['outcome']}{side}{tries}, {said['bytes']} bytes, {took}"
    yield f"     waited {said['queue_ms']:.3f} ms; the server took {said['upstream_ms']:.3f} ms to begin its answer"
