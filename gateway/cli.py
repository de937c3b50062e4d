"""The command `gateway`."""

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from gateway import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from gateway.config import Loaded, Problem, Site
    from gateway.config.expectation import Assumption
    from gateway.explain.live import Live
    from gateway.hardening.account import Account
    from gateway.reports import GatewayReport, HeartbeatReport, ServerReport
    from gateway.system.running import Running

T = TypeVar("T")

SITE_FILE = click.Path(path_type=Path)


def _complete_gateway(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """For shells: the site files of running gateways, and other files."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415

    from gateway.system import running  # noqa: PLC0415

    sites = [CompletionItem(str(gateway.site), help=f"process {gateway.pid}") for gateway in running.found()]
    return [item for item in sites if item.value.startswith(incomplete)] or [CompletionItem(incomplete, type="file")]


def _complete_name(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """For shells: the backends and servers of the running gateway."""
    from gateway.system import running  # noqa: PLC0415

    try:
        backends = _report_of_control(running.find(context.params.get("target"))).backends
    except (OSError, running.NotFound):
        return []
    names = [f"{backend.name}/{server.name}" for backend in backends for server in backend.servers]
    return [name for name in (*(backend.name for backend in backends), *names) if name.startswith(incomplete)]


TARGET = click.argument("target", required=False, metavar="[SITE|PID|PIDFILE]", shell_complete=_complete_gateway)
"""A running gateway by its site file, which is not read, by its process or by its PID file."""
EXIT_STATUS = {
    0: "done",
    1: "refused or failed; the reason is on standard error",
    2: "the command line is wrong",
    3: "gateway check: the site file has a mistake, and gateway run would start with the last good configuration",
}
EPILOG = "Exit status: " + "; ".join(f"{status}: {meaning}" for status, meaning in EXIT_STATUS.items()) + "."
OFFLINE = click.option(
    "--offline",
    is_flag=True,
    help="Without the files of production: keys, certificates, logs and a user that are not on this machine are notes, "
    "and no host name is looked up.",
)
LAST_GOOD = 3
"""See EXIT_STATUS."""
SHOW_LIMIT = 300.0
"""Seconds for the tests of a site file, or for one request that is explained."""
SHOW_BYTES = 64 * 1024 * 1024
OVERRIDE_LIMIT = 10.0
"""Seconds until control has taken up a command."""
RELOAD_LIMIT = 120.0
"""Seconds to wait for the outcome of a reload."""
UPGRADE_LIMIT = 60.0
"""The same for an upgrade; a new gateway has 15 to become ready."""


def _ask_for_json(context: click.Context, _: click.Parameter, value: object) -> None:
    context.meta[JSON_KEY] = value


JSON_KEY = "gateway.json"
JSON = click.option(
    "--json", is_flag=True, expose_value=False, callback=_ask_for_json, help="Print JSON, a failure included."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """An intelligent HTTP gateway: accepts, routes, balances by measured load, forwards."""


@main.command()
@click.argument("site", type=SITE_FILE)
@click.option(
    "--pid-file", type=SITE_FILE, help=("Write the supervisor's process id to this file; upgrades keep it current.")
)
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse to start if SITE has a mistake, in place of starting with the last good configuration.",
)
def run(site: Path, pid_file: Path | None, *, strict: bool) -> None:
    """Run the gateway described by SITE until it is told to stop.

    If SITE has a mistake, the gateway starts with the last good configuration: what it last ran by, kept in the
    directory `state` of the site file. The log, `gateway status` and the service manager say so until a reload is
    accepted.

    SIGHUP reloads SITE, SIGTERM lets running requests finish, SIGUSR1 reopens the access log, SIGUSR2 lets the version
    that is installed now take over.
    """
    from gateway.supervisor import supervisor  # noqa: PLC0415 - each command loads what it needs

    sys.exit(supervisor.run(site, pid_file, (sys.executable, *sys.orig_argv[1:]), strict=strict))


@main.command()
@TARGET
@JSON
def reload(target: str | None) -> None:
    """Tell a running gateway to reload its site file, and wait for the result.

    The exit status is 1 if it refused the file; it then keeps the one that is in force.
    """
    gateway = _running(target)
    answer = _order(gateway, "reload", RELOAD_LIMIT)
    for line in answer.get("warnings", ()):
        _complain(str(line))
    if not answer["accepted"]:
        _fail(f"reload refused; keeping version {answer['version']}:\n{answer['problems']}", answer)
    _tell(f"reloaded: version {answer['version']} of {gateway.site}", answer)


@main.command()
@TARGET
@JSON
def upgrade(target: str | None) -> None:
    """Replace a running gateway by the installed version without losing a request, and wait for the result.

    The exit status is 1 if the new one did not start; the old one then goes on.
    """
    gateway = _running(target)
    answer = _order(gateway, "upgrade", UPGRADE_LIMIT)
    _tell(f"process {answer['pid']} has taken over from {gateway.pid}", {**answer, "before": gateway.pid})


def _tell(text: str, data: Mapping[str, Any]) -> None:
    """Print a result, as JSON if that was asked for."""
    click.echo(json.dumps(data, indent=2) if _wants_json() else text)


def _fail(text: str, data: Mapping[str, Any] = MappingProxyType({}), status: int = 1) -> NoReturn:
    """Say why on standard error, as JSON also on standard output if that was asked for, and end the program."""
    _complain(text)
    if _wants_json():
        click.echo(json.dumps({"error": text, **data}, indent=2))
    sys.exit(status)


def _wants_json() -> bool:
    return bool(click.get_current_context().meta.get(JSON_KEY))


def _complain(text: str) -> None:
    """Print on standard error what may hold text of others, such as a file."""
    from loadagent.printable import printable_lines  # noqa: PLC0415

    click.echo(printable_lines(text), err=True)


def _running(target: str | None) -> "Running":
    """Return the running gateway that `target` means; ends the program if there is none, or more than one."""
    from gateway.system import running  # noqa: PLC0415

    try:
        return running.find(target)
    except running.NotFound as error:
        _fail(str(error))


def _order(gateway: "Running", what: str, seconds: float) -> dict[str, Any]:
    """Return what the supervisor answers; ends the program if it does not, or cannot do it."""
    from gateway.system.running import NoAnswer  # noqa: PLC0415

    try:
        answer = gateway.ask(what, seconds)
    except NoAnswer as error:
        _fail(str(error))
    if "error" in answer:
        _fail(f"{what} failed, and the gateway ({gateway}) goes on: {answer['error']}")
    return answer


@main.command()
@click.argument("site", type=SITE_FILE)
@OFFLINE
@JSON
def check(site: Path, *, offline: bool) -> None:
    """Check SITE and report every problem; exit status 1 if there is one.

    The exit status is 3 if there is one and `gateway run` would start with the last good configuration.
    """
    from gateway.config import ConfigError, load  # noqa: PLC0415
    from gateway.explain.required import require  # noqa: PLC0415
    from gateway.hardening import account  # noqa: PLC0415
    from gateway.supervisor import last_good  # noqa: PLC0415
    from gateway.supervisor.startup_lookup import addresses  # noqa: PLC0415

    try:
        loaded = load(site, _no_lookup if offline else addresses, offline=offline)
        require(loaded, _account(loaded, offline=offline))
    except ConfigError as error:
        problems = [_problem(problem) for problem in error.problems]
        try:
            kept = last_good.find(site)
        except last_good.NoCopy:
            _fail(str(error), {"ok": False, "problems": problems, "last_good": None})
        changes = last_good.changes(kept.saved, site)
        about = {"path": str(kept.path), "at": kept.at, "changes": changes}
        what = f"`gateway run` would start with the last good configuration, of {kept.when}, from {kept.path}"
        data = {"ok": False, "problems": problems, "last_good": about}
        _fail(f"{error}\n{what}; changed since:\n{changes}", data, LAST_GOOD)
    for warning in loaded.warnings:
        click.echo(str(warning), err=True)
    if not offline and (shared := account.doubt(loaded.site.user)):
        click.echo(f"{site}: warning: {shared}", err=True)
    model = loaded.site
    counts = {
        "frontends": len(model.frontends),
        "backends": len(model.backends),
        "servers": sum(len(backend.servers) for backend in model.backends.values()),
        "routes": len(model.routes),
    }
    text = ", ".join(f"{count} {what}" for what, count in counts.items())
    _tell(f"{site}: ok ({text})", {"ok": True, "problems": [_problem(each) for each in loaded.warnings], **counts})


def _problem(problem: "Problem") -> dict[str, Any]:
    """A problem of a site file, for JSON."""
    return {**asdict(problem), "path": str(problem.path)}


@main.command()
@click.argument("site", type=SITE_FILE)
@click.argument("method", metavar="METHOD|dns")
@click.argument("url", metavar="URL|NAME")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help=("Header of the request; may be repeated.")
)
@click.option("--client", default="192.0.2.1", show_default=True, help="Address of the client.")
@click.option("--live", is_flag=True, help="Use the loads, sessions and health of the running gateway.")
@click.option("--assume", metavar="YAML", help="Suppose this, as in `assume` of tests: '{live: 2000, ticket: queued}'.")
@OFFLINE
@click.option("--type", "kind", default="A", show_default=True, help="Record type, with dns.")
@JSON
def explain(  # noqa: PLR0913 - one an option
    site: Path,
    method: str,
    url: str,
    headers: tuple[str, ...],
    client: str,
    *,
    live: bool,
    assume: str | None,
    offline: bool,
    kind: str,
) -> None:
    """Explain step by step how SITE handles a request: METHOD and the full URL. Sends nothing.

    With dns and a NAME: what the name server of SITE answers to the client, and why.
    """
    if method == "dns":
        if headers or assume is not None:
            raise click.UsageError("dns takes --client, --type, --live and --json")
        _explain_dns(site, (url, kind), client, live=live, offline=offline)
    from gateway.explain.asked import Asked  # noqa: PLC0415
    from gateway.explain.report import tree  # noqa: PLC0415
    from gateway.explain.sandbox import Sandbox  # noqa: PLC0415

    pairs = [(name.strip(), value.strip()) for name, _, value in (header.partition(":") for header in headers)]
    try:
        asked = Asked.parse(f"{method} {url}", pairs, client)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    loaded = _load(site, offline=offline)
    assumption = _assumption(assume, loaded.site) if assume is not None else None
    running = _ask_control(loaded) if live else None
    remark = running.remark(loaded) if running is not None else ""

    def show() -> tuple[str, int]:
        with Sandbox(loaded, running) as sandbox:
            if assumption is not None:
                sandbox.assume(assumption)
            found = sandbox.decide(asked)
        if _wants_json():
            about = {"live": remark} if remark else {}
            return json.dumps({"request": str(asked), **about, **found}, indent=2, default=_plain), 0
        return tree(asked, found, sandbox.site, remark), 0

    _as_user(loaded, show, offline=offline)


def _explain_dns(site: Path, question: tuple[str, str], client: str, *, live: bool, offline: bool) -> None:
    """Explain an answer of the name server; ends the program."""
    from gateway.dns import explain as names  # noqa: PLC0415
    from gateway.dns.policy import SiteState, states_of  # noqa: PLC0415
    from gateway.dns.table import Table  # noqa: PLC0415

    loaded = _load(site, offline=offline)
    model = loaded.site.dns
    if model is None:
        raise click.UsageError(f"{site} has no dns section")
    states: dict[str, SiteState] = {}
    in_force: dict[str, Mapping[str, float]] = {}
    remark = ""
    if live:
        gateway = _running(str(loaded.path))
        report = _ask_servers(gateway)
        states = states_of({name: asdict(state) for name, state in report.site_states.items()})
        in_force = {one.name: one.shares for one in report.dns.names} if report.dns is not None else {}
        remark = f"states of sites as the running gateway ({gateway.pid}) knows them"

    def show() -> tuple[str, int]:
        table = Table.of(model, loaded.files, 1)
        try:
            found = names.decide(table, question, client, states, in_force)
        except ValueError as error:
            return str(error), 2
        if _wants_json():
            return json.dumps({**found, **({"live": remark} if remark else {})}, indent=2), 0
        return names.text(found, remark), 0

    _as_user(loaded, show, offline=offline)


def _assumption(text: str, site: "Site") -> "Assumption":
    """What --assume says; ends the program if it is wrong."""
    import yaml  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415

    from gateway.config.consistency import unknown_in_assumption  # noqa: PLC0415
    from gateway.config.expectation import Assumption  # noqa: PLC0415

    try:
        assumed = Assumption.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise click.UsageError(f"--assume: {where}: {first['msg']}") from None
    except yaml.YAMLError:
        raise click.UsageError("--assume: this is not YAML: write it as '{live: 2000, ticket: queued}'") from None
    sites = {site.sites.self_, *site.sites.peers} if site.sites is not None else ()
    for finding in unknown_in_assumption(assumed, site, site.backends, sites):
        raise click.UsageError(f"--assume: {'.'.join(str(part) for part in finding.loc)}: {finding.message}")
    return assumed


def _ask_control(loaded: "Loaded") -> "Live":
    """What the gateway that runs this site knows; ends the program if there is none."""
    from gateway.explain.live import Live, NoAnswer  # noqa: PLC0415

    try:
        return Live.ask(loaded, _running(str(loaded.path)))
    except NoAnswer as error:
        _fail(str(error))


def _plain(value: object) -> str:
    """For JSON: bodies are bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@main.command()
@click.argument("site", type=SITE_FILE)
@OFFLINE
@JSON
def test(site: Path, *, offline: bool) -> None:
    """Run the tests of SITE without using the network; exit status 1 if one fails."""
    from gateway.explain import trial  # noqa: PLC0415

    loaded = _load(site, offline=offline)

    def show() -> tuple[str, int]:
        verdicts = trial.run(loaded)
        failed = [verdict for verdict in verdicts if verdict.differences]
        if _wants_json():
            return json.dumps({"tests": len(verdicts), "failed": list(map(asdict, failed))}, indent=2), bool(failed)
        lines = [trial.diff(verdict, str(site)) for verdict in failed]
        lines.append(f"{len(failed)} of {len(verdicts)} tests failed" if failed else f"{len(verdicts)} tests passed")
        return "\n".join(lines), bool(failed)

    _as_user(loaded, show, offline=offline)


def _as_user(loaded: "Loaded", show: Callable[[], tuple[str, int]], *, offline: bool) -> None:
    """Print the text of `show` and end with its status. It runs code of the site: in a child, as the site's user."""
    from gateway.hardening.confinement import Bounds, settle  # noqa: PLC0415
    from gateway.hardening.roles import RULES  # noqa: PLC0415
    from gateway.process.helper import run_helper  # noqa: PLC0415
    from loadagent.printable import printable_lines  # noqa: PLC0415

    said = run_helper(
        lambda: lambda write: write(json.dumps(show()).encode()),
        partial(settle, _account(loaded, offline=offline), RULES, Bounds.of(loaded.site)),
        SHOW_LIMIT,
        SHOW_BYTES,
        f"{loaded.path}: cannot compute the result",
    )
    try:
        text, status = json.loads(said)
    except ValueError:
        click.echo(f"{loaded.path}: stopped, or not finished within {SHOW_LIMIT:g} s", err=True)
        sys.exit(1)
    click.echo(printable_lines(str(text)))
    sys.exit(bool(status))


def _account(loaded: "Loaded", *, offline: bool) -> "Account | None":
    """The account for code of the site; offline, nobody stands for a user that is not on this machine."""
    from gateway.hardening import account  # noqa: PLC0415

    try:
        return account.of(loaded.site.user)
    except account.NoAccount as error:
        if offline:
            return account.of("nobody")
        raise click.ClickException(str(error)) from None


def _load(site: Path, *, offline: bool) -> "Loaded":
    """Load SITE without looking up host names, or say what is wrong and end."""
    from gateway.config import ConfigError, load  # noqa: PLC0415

    try:
        loaded = load(site, _no_lookup, offline=offline)
    except ConfigError as error:
        _fail(str(error), {"problems": [_problem(problem) for problem in error.problems]})
    for warning in loaded.warnings:
        if warning.severity == "note":
            click.echo(str(warning), err=True)
    return loaded


def _no_lookup(_: "Site", hosts: Collection[str]) -> dict[str, str | OSError]:
    """One address stands for every server's name."""
    return dict.fromkeys(hosts, "192.0.2.1")


@main.command()
@TARGET
@JSON
@click.option("--metrics", is_flag=True, help="Print metrics in the Prometheus text format.")
def status(target: str | None, *, metrics: bool) -> None:
    """Show the state of a gateway that runs on this machine: servers, cluster nodes and shared addresses.

    Without an argument it is the only one that runs; several are listed.
    """
    from gateway.admin import report_json  # noqa: PLC0415
    from gateway.admin.metrics import text as figures  # noqa: PLC0415
    from gateway.control import show as servers  # noqa: PLC0415
    from gateway.heartbeat import show as cluster  # noqa: PLC0415
    from gateway.heartbeat.client import NoAnswer, ask  # noqa: PLC0415
    from loadagent.printable import printable_lines  # noqa: PLC0415

    gateway = _running(target)
    about = _order(gateway, "about", UPGRADE_LIMIT)
    processes = ["heartbeat", "control"] if about["cluster"] else ["control"]
    answers = {}
    for who in processes:
        try:
            answers[who] = ask(gateway.sockets, "status", who, gateway.pid)
        except NoAnswer as error:
            click.echo(str(error), err=True)
    if _wants_json() and answers:
        click.echo(json.dumps({**answers.get("heartbeat", {}), **answers.get("control", {})}, indent=2))
        sys.exit(len(answers) < len(processes))
    heartbeat = _read("heartbeat", report_json.heartbeat, answers)
    control = _read("control", report_json.gateway, answers)
    if metrics:
        click.echo(figures(control, heartbeat), nl=False)
    elif heartbeat is not None or control is not None:
        click.echo(printable_lines(servers.heading(about)), nl=False)
        tables = [cluster.text(heartbeat)] if heartbeat is not None else []
        tables += [servers.text(control)] if control is not None else []
        click.echo("\n".join(tables), nl=False)
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


NAME = click.argument("name", required=False, metavar="[BACKEND/SERVER|BACKEND]", shell_complete=_complete_name)
NODE_OPTION = click.option("--node", "node", is_flag=True, help="This gateway itself, in place of a server or backend.")
GATEWAY = click.option(
    "-g",
    "--gateway",
    "target",
    metavar="SITE|PID|PIDFILE",
    shell_complete=_complete_gateway,
    help="The gateway; without it, the only one that runs on this machine.",
)
WAIT = click.option("--wait", is_flag=True, help="Wait until the servers have no requests and no sessions left.")
TIMEOUT = click.option(
    "--timeout", default=900.0, show_default=True, metavar="SECONDS", help="Maximum time for --wait."
)


@main.command()
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


@main.command()
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


@main.command()
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
        _complain("its agent says so; give the command once more to overrule it")
        sys.exit(1)


@main.command()
@click.argument("name", metavar="BACKEND/SERVER|BACKEND", shell_complete=_complete_name)
@click.argument("weight", type=int)
@GATEWAY
@JSON
def weight(name: str, weight: int, target: str | None) -> None:
    """Set the weight of a server, or of every server of a backend, from 1 to 256, over the site file.

    It holds over reloads, restarts and upgrades until `gateway forget`.
    """
    gateway = _running(target)
    servers = _servers(_override(gateway, "weight", name, f" {weight}"), name)
    lines = [f"{server.name}: weight {server.weight}, effective {server.effective_weight:g}" for server in servers]
    _tell("\n".join(lines), {"servers": list(map(_server, servers))})


@main.command()
@NAME
@NODE_OPTION
@GATEWAY
@JSON
def forget(name: str | None, target: str | None, *, node: bool) -> None:
    """End all that commands have set for a server, a backend or this gateway: the site file and agents decide again."""
    _carry_out("forget", name, target, node=node)


def _carry_out(command: str, name: str | None, target: str | None, *, node: bool, timeout: float | None = None) -> int:
    """Carry out a command for a server, a backend or the gateway, and show the servers; see _show_servers."""
    gateway, which = _running(target), _override_target(name, node=node)
    return _show_servers(gateway, _override(gateway, command, which), which, timeout)


def _override_target(name: str | None, *, node: bool) -> str:
    """The target as the supervisor calls it; ends the program unless there is exactly one."""
    from gateway.config.overrides import NODE  # noqa: PLC0415

    if (name is not None) is node:
        raise click.UsageError("name a server (BACKEND/SERVER) or a BACKEND, or say --node for this gateway")
    return NODE if name is None else name


def _override(gateway: "Running", command: str, which: str, more: str = "") -> "GatewayReport":
    """Carry out a command; return the report of control that has it. Ends the program if that fails."""
    from gateway.system.running import NoAnswer  # noqa: PLC0415

    try:
        answer = gateway.ask(f"{command} {which}{more}")
    except NoAnswer as error:
        _fail(str(error))
    if "error" in answer:
        _fail(f"nothing changed: {answer['error']}")
    if answer["problem"]:
        _complain(f"warning: {answer['problem']}")
    end = time.monotonic() + OVERRIDE_LIMIT
    while True:
        try:
            report = _report_of_control(gateway)
        except OSError as error:  # control is about to start, or to be replaced
            problem = str(error)
        else:
            if report.overrides.serial >= answer["serial"]:
                return report
            problem = "the control process has not taken it up yet"
        if time.monotonic() > end:
            _fail(f"set, but not in force: {problem}; see gateway status")
        time.sleep(0.02)


def _report_of_control(gateway: "Running") -> "GatewayReport":
    """What control reports on servers. Raises OSError without an answer."""
    from gateway.admin import report_json  # noqa: PLC0415
    from gateway.heartbeat.client import ask  # noqa: PLC0415
    from loadagent.printable import printable_values  # noqa: PLC0415

    answer = ask(gateway.sockets, "status", "control", gateway.pid)
    try:
        return report_json.gateway(printable_values(answer))
    except report_json.Unreadable as error:
        raise OSError(f"the answer of control cannot be read: {error}") from None


def _ask_servers(gateway: "Running") -> "GatewayReport":
    """The same; ends the program without an answer."""
    try:
        return _report_of_control(gateway)
    except OSError as error:
        _fail(str(error))


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


def _show_servers(gateway: "Running", report: "GatewayReport", which: str, seconds: float | None) -> int:
    """Print what became of the servers of a target, and wait up to `seconds` until they have nothing left to do.

    Returns how many of them are not ready. Ends the program if the time is over.
    """
    from gateway.config.overrides import NODE  # noqa: PLC0415
    from gateway.control import show  # noqa: PLC0415

    if which != NODE and seconds is not None:
        report = _wait_for_rest(gateway, report, which, seconds)
    node = report.overrides.node or "ready"
    servers = _servers(report, which)
    lines = [f"{server.name}: {server.admin}, {show.left(server)}" for server in servers]
    text = f"{report.node}: {node}" if which == NODE else "\n".join(lines)
    _tell(text, {"node": report.node, "node_state": node, "servers": list(map(_server, servers))})
    return sum(server.admin != "ready" for server in servers)


def _wait_for_rest(gateway: "Running", report: "GatewayReport", which: str, seconds: float) -> "GatewayReport":
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
                _fail(f"{which} still has {rest} requests and sessions after {seconds:g} s")
            most = max(most, rest)
            bar.length = most
            bar.pos = most - rest
            bar.update(0, f"{rest} left")
            time.sleep(0.2)
            report = _ask_servers(gateway)
        bar.pos = most
        bar.update(0, "")
    return report


@main.command()
@TARGET
@click.option("--timeout", default=60.0, show_default=True, metavar="SECONDS", help="Maximum time to wait.")
@JSON
def evacuate(target: str | None, timeout: float) -> None:
    """Move every shared address to other nodes, one by one, and wait; `gateway join` takes part again.

    The exit status is 1 if an address is still here because no other node took it.
    """
    gateway = _running(target)
    report = _ask_heartbeat(gateway, "drain")
    end = time.monotonic() + timeout
    while True:
        elsewhere = [item for item in report.addresses if item.owner not in (None, report.node)]
        if len(elsewhere) == len(report.addresses):
            _tell("\n".join(f"{item.address} is at {item.owner}" for item in elsewhere), _addresses(report))
            return
        if time.monotonic() > end:
            here = ", ".join(item.address for item in report.addresses if item.owner in (None, report.node))
            _fail(f"no other node has taken {here}", _addresses(report))
        time.sleep(0.05)
        report = _ask_heartbeat(gateway, "status")


@main.command()
@TARGET
@JSON
def standby(target: str | None) -> None:
    """Move every shared address to other nodes as soon as they can take it, and take none."""
    report = _ask_heartbeat(_running(target), "standby")
    _tell(f"{report.node} is on standby", _addresses(report))


@main.command()
@TARGET
@JSON
def join(target: str | None) -> None:
    """Take part again, after `gateway standby`, `gateway evacuate` or `gateway drain --node`."""
    gateway = _running(target)
    report = _ask_heartbeat(gateway, "join")
    if _ask_servers(gateway).overrides.node is not None:
        _override(gateway, "ready", _override_target(None, node=True))
    _tell(f"{report.node} takes part", _addresses(report))


def _ask_heartbeat(gateway: "Running", command: str) -> "HeartbeatReport":
    """Return the report of the heartbeat of a gateway after a command; ends the program without one."""
    from gateway.admin import report_json  # noqa: PLC0415
    from gateway.heartbeat.client import NoAnswer, ask  # noqa: PLC0415
    from loadagent.printable import printable_values  # noqa: PLC0415

    try:
        return report_json.heartbeat(printable_values(ask(gateway.sockets, command, parent=gateway.pid)))
    except (NoAnswer, report_json.Unreadable) as error:
        _fail(str(error))


def _addresses(report: "HeartbeatReport") -> dict[str, Any]:
    """The part of the report that commands about shared addresses show as JSON."""
    return {"node": report.node, "addresses": [asdict(item) for item in report.addresses]}


@main.command()
@click.option("--listen", required=True, metavar="IP:PORT", help="UDP address to listen on, such as 192.168.7.9:694.")
@click.option(
    "--key-file",
    "key_files",
    required=True,
    multiple=True,
    type=SITE_FILE,
    help="Cluster key file (mode 0600); may be repeated.",
)
@click.option(
    "--longest", default=2.0, show_default=True, metavar="SECONDS", help=("Largest dead_after that a cluster may use.")
)
@click.option("--user", default="nobody", show_default=True, help="User to switch to when started as root.")
@click.option("--no-sandbox", is_flag=True, help="For debugging: no filters, and core dumps are allowed.")
def witness(listen: str, key_files: tuple[Path, ...], longest: float, user: str, *, no_sandbox: bool) -> None:
    """Vote in two-node clusters, so that the two nodes never own an address at the same time.

    The witness keeps nothing on disk: after a start it gives no vote for --longest seconds. It serves several
    clusters side by side, each with a key of its own or, among those with the same key, a name (cluster: name).
    """
    from gateway.config import address, files  # noqa: PLC0415
    from gateway.hardening import account  # noqa: PLC0415
    from gateway.hardening.confinement import Bounds  # noqa: PLC0415
    from gateway.heartbeat import witness_process  # noqa: PLC0415
    from gateway.heartbeat.links import NoLink  # noqa: PLC0415
    from gateway.supervisor.supervisor import set_up_log  # noqa: PLC0415

    set_up_log("witness")
    try:
        who = account.of(user, "name another one with --user")
        bounds = Bounds(sandbox=not no_sandbox, core_dumps=no_sandbox)
        keys = [files.secret(file) for file in key_files]
        witness_process.run(address.listen(listen), keys, longest, who, bounds)
    except (ValueError, OSError, NoLink, account.NoAccount) as error:
        click.echo(str(error), err=True)
        sys.exit(1)


@main.group()
def key() -> None:
    """Create key files: random keys, and per-server keys for load reports."""


@key.command()
@click.argument("file", type=SITE_FILE)
def new(file: Path) -> None:
    """Write a random key to the new FILE (mode 0600)."""
    import secrets  # noqa: PLC0415

    _write_key(file, secrets.token_hex(32).encode())


@key.command()
@click.argument("secret_file", type=SITE_FILE)
@click.argument("server")
@click.option("--output", type=SITE_FILE, help="Write to this new file (mode 0600); an existing file is an error.")
def derive(secret_file: Path, server: str, output: Path | None) -> None:
    """Print the load report key of SERVER, derived from SECRET_FILE (load_reports: secret_file).

    SERVER is its name in the site file. On that server the key goes into the agent's key_file; the secret stays here.
    """
    from gateway.config import files  # noqa: PLC0415
    from gateway.load import keys  # noqa: PLC0415
    from loadagent.report import NAME  # noqa: PLC0415

    if not NAME.fullmatch(server):
        raise click.UsageError(f"{server!r} is not a server name: up to 64 letters, digits and . _ : -")
    try:
        found = keys.report_key(files.secret(secret_file), server)
    except (OSError, ValueError) as error:
        reason = f"cannot read {secret_file}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise click.ClickException(reason) from None
    if output is None:
        click.echo(found.decode())
    else:
        _write_key(output, found)


def _write_key(file: Path, content: bytes) -> None:
    """Write a key file that only its owner may read; ends the program if that fails."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content + b"\n")
    except OSError as error:
        raise click.ClickException(f"cannot write {file}: {(error.strerror or '').lower()}") from None


@main.command()
def schema() -> None:
    """Print the JSON schema of the site file, for editors."""
    from gateway.config import schema as site_schema  # noqa: PLC0415

    click.echo(json.dumps(site_schema(), indent=2))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion of this command for a SHELL, which also completes the names of servers."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    found = get_completion_class(shell)
    if found is not None:
        click.echo(found(main, {}, "gateway", "_GATEWAY_COMPLETE").source())


@main.command()
@click.option("--port", default=8080, show_default=True, help="Port to listen on, on 127.0.0.1.")
def demo(port: int) -> None:
    """Run a demo on this machine: a gateway and three servers (one fast, one slow, one busy with other work)."""
    from gateway import demo as show  # noqa: PLC0415
    from gateway.supervisor import supervisor  # noqa: PLC0415

    sys.exit(show.run(port, supervisor.run))
