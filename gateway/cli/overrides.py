"""Commands that set something over the site file: drain, maintenance, ready, weight, and forget."""

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.gateways import GATEWAY, Gateway, Local, ask_control, find
from gateway.cli.output import JSON, complain, fail, tell
from gateway.cli.seconds import Seconds

if TYPE_CHECKING:
    from gateway.reports import GatewayReport, ServerReport


OVERRIDE_LIMIT = 10.0
"""Seconds until control has taken up a command."""


def _complete_name(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """For shells: the backends and servers of the running gateway."""
    from gateway.system import running  # noqa: PLC0415

    try:
        backends = Local(running.find(context.params.get("target"))).report().backends
    except (OSError, running.NotFound):
        return []
    names = [f"{backend.name}/{server.name}" for backend in backends for server in backend.servers]
    return [name for name in (*(backend.name for backend in backends), *names) if name.startswith(incomplete)]


NAME = click.argument("name", required=False, metavar="[BACKEND/SERVER|BACKEND]", shell_complete=_complete_name)
NODE_OPTION = click.option("--node", "node", is_flag=True, help="This gateway itself, in place of a server or backend.")


WAIT = click.option("--wait", is_flag=True, help="Wait until the servers have no requests and no sessions left.")
TIMEOUT = click.option(
    "--timeout", default=900.0, show_default=True, type=Seconds(), metavar="SECONDS", help="Maximum time for --wait."
)


@click.command()
@NAME
@NODE_OPTION
@GATEWAY
@WAIT
@TIMEOUT
@JSON
def drain(name: str | None, target: str | None, timeout: float, *, node: bool, wait: bool) -> None:
    """Let a server, or all of a backend, keep its sessions and requests and get no new ones.

    --node: /readyz answers 503, so that balancers in front send clients elsewhere, and shared addresses move to other
    nodes. It holds over reloads, restarts and upgrades until `gateway ready` or `gateway forget`.
    """
    _carry_out("drain", name, target, node=node, timeout=timeout if wait else None)


@click.command()
@NAME
@NODE_OPTION
@GATEWAY
@WAIT
@TIMEOUT
@JSON
def maintenance(name: str | None, target: str | None, timeout: float, *, node: bool, wait: bool) -> None:
    """Send nothing new to a server, or to all of a backend, whatever its checks and sessions say.

    Requests in flight finish. --node: as `gateway drain --node`, but shared addresses move at once, as by
    `gateway standby`. It holds over reloads, restarts and upgrades until `gateway ready` or `gateway forget`.
    """
    _carry_out("maintenance", name, target, node=node, timeout=timeout if wait else None)


@click.command()
@NAME
@NODE_OPTION
@GATEWAY
@JSON
def ready(name: str | None, target: str | None, *, node: bool) -> None:
    """End a drain or maintenance of a server, of all of a backend, or of this gateway.

    If no command has set it, but the server's load agent, which may be dead: overrule what the agent reported, until it
    reports something else. The exit status is 1 if a server is still not ready.
    """
    if _carry_out("ready", name, target, node=node):
        complain("its agent says so; give the command once more to overrule it")
        sys.exit(1)


@click.command()
@click.argument("name", metavar="BACKEND/SERVER|BACKEND", shell_complete=_complete_name)
@click.argument("weight", type=int)
@GATEWAY
@JSON
def weight(name: str, weight: int, target: str | None) -> None:
    """Set the weight of a server, or of every server of a backend, from 1 to 256, over the site file.

    It holds over reloads, restarts and upgrades until `gateway forget`.
    """
    gateway = find(target)
    servers = _servers(override(gateway, "weight", name, f" {weight}"), name)
    lines = [f"{server.name}: weight {server.weight}, effective {server.effective_weight:g}" for server in servers]
    tell("\n".join(lines), {"servers": list(map(_server, servers))})


@click.command()
@NAME
@NODE_OPTION
@GATEWAY
@JSON
def forget(name: str | None, target: str | None, *, node: bool) -> None:
    """End all that commands have set for a server, a backend or this gateway: the site file and agents decide again."""
    _carry_out("forget", name, target, node=node)


def _carry_out(command: str, name: str | None, target: str | None, *, node: bool, timeout: float | None = None) -> int:
    """Carry out a command for a server, a backend or the gateway, and show the servers; see _show_servers."""
    gateway, which = find(target), override_target(name, node=node)
    return _show_servers(gateway, override(gateway, command, which), which, timeout)


def override_target(name: str | None, *, node: bool) -> str:
    """The target as the supervisor calls it; ends the program unless there is exactly one."""
    from gateway.config.overrides import NODE  # noqa: PLC0415

    if (name is not None) is node:
        raise click.UsageError("name a server (BACKEND/SERVER) or a BACKEND, or say --node for this gateway")
    return NODE if name is None else name


def override(gateway: Gateway, command: str, which: str, more: str = "") -> "GatewayReport":
    """Carry out a command; return the report of control that has it. Ends the program if that fails."""
    from gateway.system.running import NoAnswer  # noqa: PLC0415

    try:
        answer = gateway.order(f"{command} {which}{more}", OVERRIDE_LIMIT)
    except NoAnswer as error:
        fail(str(error))
    if "error" in answer:
        fail(f"nothing changed: {answer['error']}")
    if answer["problem"]:
        complain(f"warning: {answer['problem']}")
    end = time.monotonic() + OVERRIDE_LIMIT
    while True:
        try:
            report = gateway.report()
        except OSError as error:  # control is about to start, or to be replaced
            problem = str(error)
        else:
            if report.overrides.serial >= answer["serial"]:
                return report
            problem = "the control process has not taken it up yet"
        if time.monotonic() > end:
            fail(f"set, but not in force: {problem}; see gateway status")
        time.sleep(0.02)


def _servers(report: "GatewayReport", which: str) -> "list[ServerReport]":
    """The servers of a target, with their full names."""
    found = [
        replace(server, name=f"{backend.name}/{server.name}")
        for backend in report.backends
        for server in backend.servers
    ]
    return [server for server in found if which in {server.name, server.name.partition("/")[0]}]


def _server(server: "ServerReport") -> dict[str, Any]:
    """What commands print of a server as JSON."""
    keys = "name", "admin", "state", "weight", "effective_weight", "in_flight", "sessions"
    return {key: getattr(server, key) for key in keys}


def _takes_clients(server: "ServerReport") -> bool:
    return server.admin == "ready" and server.state != "down"


def _state(server: "ServerReport") -> str:
    """Its admin state, and that it is down: one that is ready may be."""
    return f"{server.admin}, down" if server.state == "down" else server.admin


def _show_servers(gateway: Gateway, report: "GatewayReport", which: str, seconds: float | None) -> int:
    """Print what became of the servers of a target, and wait up to `seconds` until they have nothing left to do.

    Returns how many of them are not ready. Ends the program if the time is over.
    """
    from gateway.config.overrides import NODE  # noqa: PLC0415
    from gateway.control import show  # noqa: PLC0415

    if which != NODE and seconds is not None:
        report = _wait_for_rest(gateway, report, which, seconds)
    node = report.overrides.node or "ready"
    servers = _servers(report, which)
    lines = [f"{server.name}: {_state(server)}, {show.left(server)}" for server in servers]
    text = f"{report.node}: {node}" if which == NODE else "\n".join(lines)
    tell(text, {"node": report.node, "node_state": node, "servers": list(map(_server, servers))})
    backend = which.partition("/")[0]
    if servers and not any(_takes_clients(server) for server in _servers(report, backend)):
        complain(f"warning: no server of {backend} takes new clients now: they get 503")
    return sum(server.admin != "ready" for server in servers)


def _wait_for_rest(gateway: Gateway, report: "GatewayReport", which: str, seconds: float) -> "GatewayReport":
    """Wait until the servers of a target have no requests and sessions left; the last report on them."""
    from gateway.control import show  # noqa: PLC0415

    end = time.monotonic() + seconds
    most = max(1, show.rest(_servers(report, which)))
    # update_min_steps: every report is shown, also one that says the same, or more.
    look: Any = {"item_show_func": lambda item: item, "show_eta": False, "update_min_steps": 0, "file": sys.stderr}
    with click.progressbar(length=most, label=f"draining {which}", **look) as bar:
        while rest := show.rest(_servers(report, which)):
            if time.monotonic() > end:
                bar.render_finish()
                fail(f"{which} still has {rest} requests and sessions after {seconds:g} s")
            most = max(most, rest)
            bar.length = most
            bar.pos = most - rest
            bar.update(0, f"{rest} left")
            time.sleep(0.2)
            report = ask_control(gateway)
        bar.pos = most
        bar.update(0, "")
    return report
