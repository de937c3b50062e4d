"""`gateway logs`."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click

from gateway.cli.gateways import TARGETS, Gateway, find_all
from gateway.cli.output import JSON, complain, wants_json
from gateway.outcome import OUTCOMES, SIDES

_COLOURS: Final = {"5": "red", "4": "yellow", "3": "cyan", "2": "green"}
"""By the first digit of a status."""
_QUIET: Final = {"ok", "retried", "answered"}
"""Outcomes that need no word."""


@click.command()
@TARGETS
@click.option(
    "--when",
    default="",
    metavar="EXPRESSION",
    help="Only requests for which this holds, as in `when:` of a route: 'path.startsWith(\"/api/\")'.",
)
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice([name for name, _, _ in OUTCOMES[1:]]),
    metavar="NAME",
    help="Only requests that ended so, such as server_timeout; may be repeated.",
)
@click.option(
    "--side",
    "sides",
    multiple=True,
    type=click.Choice(SIDES[1:]),
    help="Only requests that failed, by this one's fault; may be repeated.",
)
@click.option("--id", "request_id", default="", metavar="ID", help="Only the request with this id.")
@click.option("--most", default=0, metavar="N", help="End after so many requests.")
@JSON
def logs(
    targets: tuple[str, ...],
    when: str,
    outcomes: tuple[str, ...],
    sides: tuple[str, ...],
    request_id: str,
    most: int,
) -> None:
    """Show the requests of running gateways as they end, until the gateways end or Ctrl-C.

    It needs no access log. --json prints a line of JSON for each request. What this command cannot read in time is left
    out, never waited for, and a line says how many requests that were.
    """
    from gateway.cli.tails import Tails, wanted  # noqa: PLC0415

    names = {*outcomes, *(name for name, side, _ in OUTCOMES if side in sides)}
    about = wanted(when, outcomes=frozenset(names), request_id=request_id, most=most)
    gateways = find_all(targets)
    printer = _Printer(several=len(gateways) > 1, most=most)
    with Tails(gateways, about) as tails:
        tails.announce("the requests")
        try:
            while (found := tails.read()) is not None:
                if printer.show(found):
                    return
        except KeyboardInterrupt:
            return
        except BrokenPipeError:  # `gateway logs | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    complain("all gateways have ended" if printer.several else "the gateway has ended")


@dataclass(slots=True)
class _Printer:
    """Prints what comes. `several`: each line has the name of its node; `most`: requests, 0: no limit."""

    several: bool
    most: int
    shown: int = 0

    def show(self, found: "Iterable[tuple[Gateway, Mapping[str, Any]]]") -> bool:
        """Print what has come at once; True: that is enough."""
        texts = []
        for gateway, said in found:
            texts.append(self._text(gateway.node, said))
            self.shown += "lost" not in said
            if self.most and self.shown >= self.most:
                break
        if texts:
            click.echo("\n".join(texts))
        return 0 < self.most <= self.shown

    def _text(self, node: str, said: Mapping[str, Any]) -> str:
        if wants_json():
            return json.dumps({"node": node, **said} if self.several else said)
        if "lost" in said:
            lost = f"{said['lost']} requests are left out here: they came faster than they are read"
            return click.style(f"{node}: {lost}", fg="yellow")
        return click.style(f"{node} ", dim=True) + line(said) if self.several else line(said)


def line(said: Mapping[str, Any]) -> str:
    """A record for people: when, how it ended, what was asked, how long it took, who asked, who answered."""
    return " ".join(_parts(said))


def _parts(said: Mapping[str, Any]) -> Iterator[str]:
    from loadagent.printable import printable  # noqa: PLC0415

    values = {key: printable(value) if isinstance(value, str) else value for key, value in said.items()}
    status = str(values.get("status") or "---")
    yield click.style(str(values.get("time", ""))[11:23], dim=True)
    yield click.style(status, fg=_COLOURS.get(status[0]))
    yield f"{values.get('method') or '-'} {values.get('scheme')}://{values.get('host') or '-'}{values.get('uri')}"
    yield f"{values.get('duration_ms', 0):.1f} ms"
    yield f"{values.get('client') or 'unix'} →"
    where = values.get("backend") or "gateway"
    yield f"{where}/{values['server']}" if values.get("server") else where
    if values.get("outcome") not in _QUIET:
        yield click.style(f"{values.get('outcome')}", fg="red", bold=True)
    elif values.get("outcome") == "retried":
        yield click.style(f"after {values.get('tries')} tries", fg="yellow")
    yield click.style(f"[{values.get('request_id')}]", dim=True)
