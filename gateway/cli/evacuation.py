"""The command that evacuates a site: no new clients, then no clients at all."""

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.gateways import GATEWAY, Gateway, ask_control, find
from gateway.cli.output import JSON, fail, tell
from gateway.cli.overrides import override
from gateway.cli.seconds import Seconds

if TYPE_CHECKING:
    from gateway.reports import EvacuationReport


@click.command()
@click.argument("name")
@GATEWAY
@click.option("--undo", is_flag=True, help="Let the site take clients again.")
@click.option("--no-wait", "wait", flag_value=False, default=True, help="Give the order, and do not wait for the end.")
@click.option(
    "--timeout", default=3600.0, show_default=True, type=Seconds(), metavar="SECONDS", help="Maximum time to wait."
)
@JSON
def evacuate_site(name: str, target: str | None, timeout: float, *, undo: bool, wait: bool) -> None:
    """Take the site NAME, of which this gateway is one, out of service in order, and wait.

    At once: no new sessions here, and no clients from name servers and redirects of any site. Then it waits until
    resolvers have forgotten the site's addresses, until sessions and requests have ended, and until shared addresses
    are at nodes that take part. It holds over reloads, restarts and upgrades until --undo. All gateways of the site
    follow while they hear this one; give the command at each of them before you stop one.
    """
    gateway = find(target)
    report = override(gateway, "readmit-site" if undo else "evacuate-site", name).evacuation
    if undo:
        end = time.monotonic() + 5.0
        while report is not None and report.by in {"command", "window"} and time.monotonic() < end:
            time.sleep(0.05)
            report = ask_control(gateway).evacuation
        more = f"; but it is evacuated by {report.by}: undo it there, too" if report is not None else ""
        tell(f"{name} takes clients again{more}", {"site": name, "evacuation": _json(report)})
        return
    if wait:
        report = _wait_for_end(gateway, name, timeout)
    text = f"{name} is evacuated" if report is not None and report.phase == "done" else f"{name} is being evacuated"
    tell(text, {"site": name, "evacuation": _json(report)})


def _json(report: "EvacuationReport | None") -> dict[str, Any] | None:
    return None if report is None else asdict(report)


def _wait_for_end(gateway: Gateway, name: str, seconds: float) -> "EvacuationReport":
    """Show how far it is until it is done; the last report. Ends the program if the time is over."""
    end = time.monotonic() + seconds
    most = 1
    # As in gateway drain: every report is shown, also one that says the same, or more.
    look: Any = {"item_show_func": lambda item: item, "show_eta": False, "update_min_steps": 0, "file": sys.stderr}
    with click.progressbar(length=most, label=f"evacuating {name}", **look) as bar:
        while (report := ask_control(gateway).evacuation) is None or report.phase != "done":
            if time.monotonic() > end:
                bar.render_finish()
                fail(f"{name} is not evacuated after {seconds:g} s: {_waits(report)}", {"evacuation": _json(report)})
            rest = 1 if report is None else 1 + round(report.resolvers) + report.left
            most = max(most, rest)
            bar.length, bar.pos = most, most - rest
            bar.update(0, _waits(report))
            time.sleep(0.2)
        bar.pos = most
        bar.update(0, "")
    return report


def _waits(report: "EvacuationReport | None") -> str:
    """What it waits for."""
    match report.phase if report is not None else "":
        case "resolvers" if report is not None:
            return f"resolvers forget it within {report.resolvers:.0f} s; {report.left} sessions and requests"
        case "sessions" if report is not None:
            about = "" if report.estimate is None else f", about {report.estimate:.0f} s"
            return f"{report.left} sessions and requests{about}"
        case "addresses" if report is not None:
            return f"shared addresses: {', '.join(report.addresses) or 'the heartbeat process'}"
    return "control has not taken it up yet"
