"""`gateway status`."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

import click

from gateway.cli import colour
from gateway.cli.gateways import ABOUT_LIMIT, TARGET, find, order
from gateway.cli.output import JSON, complain, fitted, wants_json

T = TypeVar("T")


@click.command()
@TARGET
@JSON
@click.option("--metrics", is_flag=True, help="Print metrics in the Prometheus text format.")
def status(target: str | None, *, metrics: bool) -> None:
    """Show the state of a gateway that runs: servers, cluster nodes and shared addresses.

    Without an argument it is the only one that runs on this machine; several are listed.
    """
    from gateway.admin import report_json  # noqa: PLC0415
    from gateway.admin.metrics import text as figures  # noqa: PLC0415
    from gateway.control import show as servers  # noqa: PLC0415
    from gateway.heartbeat import show as cluster  # noqa: PLC0415
    from gateway.system.process_socket import NoAnswer  # noqa: PLC0415
    from loadagent.printable import printable_lines  # noqa: PLC0415

    gateway = find(target)
    about = order(gateway, "about", ABOUT_LIMIT)
    processes = ["heartbeat", "control"] if about["cluster"] else ["control"]
    answers, missing = {}, {}
    for who in processes:
        try:
            answers[who] = gateway.answer(who)
        except NoAnswer as error:
            complain(str(error))
            missing[who] = str(error)
    if wants_json():
        said = {**answers.get("heartbeat", {}), **answers.get("control", {})}
        if missing:
            said |= {"error": "; ".join(missing.values()), "unanswered": missing}
        click.echo(json.dumps(said, indent=2))
        sys.exit(1 if missing else 0)
    heartbeat = _read("heartbeat", report_json.heartbeat, answers)
    control = _read("control", report_json.gateway, answers)
    if metrics:
        click.echo(figures(control, heartbeat), nl=False)
    elif heartbeat is not None or control is not None:
        tables = [cluster.text(heartbeat)] if heartbeat is not None else []
        tables += [servers.text(control)] if control is not None else []
        heading = fitted(printable_lines(servers.heading(about)))
        click.echo(colour.status(heading + "\n".join(tables)), nl=False)
    sys.exit(sum(report is not None for report in (heartbeat, control)) < len(processes))


def _read(who: str, read: Callable[[object], T], answers: Mapping[str, object]) -> T | None:
    """Return the report in the answer of a process; None, and say why, if it cannot be used."""
    from gateway.admin.report_json import Unreadable  # noqa: PLC0415
    from loadagent.printable import printable_values  # noqa: PLC0415

    if who not in answers:
        return None
    try:
        return read(printable_values(answers[who]))
    except Unreadable as error:
        click.echo(f"the answer of {who} cannot be shown: {error}; `gateway status --json` prints it", err=True)
        return None
