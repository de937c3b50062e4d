"""Finds the running gateway that a command means, and asks its processes."""

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import fail

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from gateway.reports import GatewayReport, HeartbeatReport
    from gateway.system.running import Running


ABOUT_LIMIT = 60.0
"""Seconds to wait for what a gateway says of itself; it may be in an upgrade."""


def complete_gateway(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """For shells: the site files of running gateways, and other files."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415

    from gateway.system import running  # noqa: PLC0415

    sites = [CompletionItem(str(gateway.site), help=f"process {gateway.pid}") for gateway in running.found()]
    return [item for item in sites if item.value.startswith(incomplete)] or [CompletionItem(incomplete, type="file")]


TARGET = click.argument("target", required=False, metavar="[SITE|PID|PIDFILE]", shell_complete=complete_gateway)
"""A running gateway by its site file, which is not read, by its process or by its PID file."""


TARGETS = click.argument(
    "targets", nargs=-1, required=False, metavar="[SITE|PID|PIDFILE]...", shell_complete=complete_gateway
)
"""The same for several."""
GATEWAY = click.option(
    "-g",
    "--gateway",
    "target",
    metavar="SITE|PID|PIDFILE",
    shell_complete=complete_gateway,
    help="The gateway; without it, the only one that runs on this machine.",
)


def find(target: str | None) -> "Running":
    """Return the running gateway that `target` means; ends the program if there is none, or more than one."""
    from gateway.system import running  # noqa: PLC0415

    try:
        return running.find(target)
    except running.NotFound as error:
        fail(str(error))


def find_all(targets: tuple[str, ...]) -> "list[Running]":
    """Return the running gateways that are meant, each once; without a target, the only one that runs."""
    gateways = [find(target) for target in targets or (None,)]
    return list({gateway.pid: gateway for gateway in gateways}.values())


def order(gateway: "Running", what: str, seconds: float) -> dict[str, Any]:
    """Return what the supervisor answers; ends the program if it does not, or cannot do it."""
    from gateway.system.running import NoAnswer  # noqa: PLC0415

    try:
        answer = gateway.ask(what, seconds)
    except NoAnswer as error:
        fail(str(error))
    if "error" in answer:
        fail(f"{what} failed, and the gateway ({gateway}) goes on: {answer['error']}")
    return answer


def report_of_control(gateway: "Running") -> "GatewayReport":
    """What control reports on servers. Raises OSError without an answer."""
    from gateway.admin import report_json  # noqa: PLC0415
    from gateway.system.process_socket import ask  # noqa: PLC0415
    from loadagent.printable import printable_values  # noqa: PLC0415

    answer = ask(gateway.sockets, "status", "control", gateway.pid)
    try:
        return report_json.gateway(printable_values(answer))
    except report_json.Unreadable as error:
        raise OSError(f"the answer of control cannot be read: {error}") from None


def ask_control(gateway: "Running") -> "GatewayReport":
    """The same; ends the program without an answer."""
    try:
        return report_of_control(gateway)
    except OSError as error:
        fail(str(error))


def ask_heartbeat(gateway: "Running", command: str) -> "HeartbeatReport":
    """Return the report of the heartbeat of a gateway after a command; ends the program without one."""
    from gateway.admin import report_json  # noqa: PLC0415
    from gateway.system.process_socket import NoAnswer, ask  # noqa: PLC0415
    from loadagent.printable import printable_values  # noqa: PLC0415

    try:
        return report_json.heartbeat(printable_values(ask(gateway.sockets, command, parent=gateway.pid)))
    except (NoAnswer, report_json.Unreadable) as error:
        fail(str(error))
