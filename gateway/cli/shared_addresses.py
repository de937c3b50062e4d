"""Commands about the shared addresses of a cluster: evacuate, standby, join."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.gateways import TARGET, ask_control, ask_heartbeat, find
from gateway.cli.output import JSON, fail, tell
from gateway.cli.overrides import override, override_target
from gateway.cli.seconds import Seconds

if TYPE_CHECKING:
    from gateway.reports import HeartbeatReport


@click.command()
@TARGET
@click.option(
    "--timeout", default=60.0, show_default=True, type=Seconds(), metavar="SECONDS", help="Maximum time to wait."
)
@JSON
def evacuate(target: str | None, timeout: float) -> None:
    """Move every shared address to other nodes, one by one, and wait; `gateway join` takes part again.

    The exit status is 1 if an address is still here because no other node took it.
    """
    gateway = find(target)
    report = ask_heartbeat(gateway, "drain")
    end = time.monotonic() + timeout
    while True:
        elsewhere = [item for item in report.addresses if item.owner not in (None, report.node)]
        if len(elsewhere) == len(report.addresses):
            tell("\n".join(f"{item.address} is at {item.owner}" for item in elsewhere), _addresses(report))
            return
        if time.monotonic() > end:
            here = ", ".join(item.address for item in report.addresses if item.owner in (None, report.node))
            fail(f"no other node has taken {here}", _addresses(report))
        time.sleep(0.05)
        report = ask_heartbeat(gateway, "status")


@click.command()
@TARGET
@JSON
def standby(target: str | None) -> None:
    """Move every shared address to other nodes as soon as they can take it, and take none."""
    report = ask_heartbeat(find(target), "standby")
    tell(f"{report.node} is on standby", _addresses(report))


@click.command()
@TARGET
@JSON
def join(target: str | None) -> None:
    """Take part again, after `gateway standby`, `gateway evacuate` or `gateway drain --node`."""
    gateway = find(target)
    report = ask_heartbeat(gateway, "join")
    if ask_control(gateway).overrides.node is not None:
        override(gateway, "ready", override_target(None, node=True))
    tell(f"{report.node} takes part", _addresses(report))


def _addresses(report: "HeartbeatReport") -> dict[str, Any]:
    """The part of the report that commands about shared addresses show as JSON."""
    return {"node": report.node, "addresses": [asdict(item) for item in report.addresses]}
