"""The command `gateway`."""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway import __version__

if TYPE_CHECKING:
    from gateway.config import Loaded
    from gateway.config.expectation import Assumption
    from gateway.explain.live import Live
    from gateway.system.running import Running

SITE_FILE = click.Path(path_type=Path)
TARGET = click.argument("target", required=False, metavar="[SITE|PID|PIDFILE]")
"""A running gateway by its site file, which is not read, by its process or by its PID file."""
SHOW_LIMIT = 300.0
"""Seconds for the tests of a site file, or for one request that is explained."""
SHOW_BYTES = 64 * 1024 * 1024
RELOAD_LIMIT = 120.0
"""Seconds to wait for the outcome of a reload."""
UPGRADE_LIMIT = 60.0
"""The same for an upgrade; a new gateway has 15 to become ready."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """An intelligent HTTP gateway: accepts, routes, balances by measured load, forwards."""


@main.command()
@click.argument("site", type=SITE_FILE)
@click.option(
    "--pid-file", type=SITE_FILE, help=("Write the supervisor's process id to this file; upgrades keep it current.")
)
def run(site: Path, pid_file: Path | None) -> None:
    """Run the gateway described by SITE until it is told to stop.

    SIGHUP reloads SITE, SIGTERM lets running requests finish, SIGUSR1 reopens the access log, SIGUSR2 lets the version
    that is installed now take over.
    """
    from gateway.supervisor import supervisor  # noqa: PLC0415 - each command loads what it needs

    sys.exit(supervisor.run(site, pid_file, (sys.executable, *sys.orig_argv[1:])))


@main.command()
@TARGET
def reload(target: str | None) -> None:
    """Tell a running gateway to reload its site file, and wait for the result.

    The exit status is 1 if it refused the file; it then keeps the one that is in force.
    """
    gateway = _running(target)
    answer = _order(gateway, "reload", RELOAD_LIMIT)
    for line in answer.get("warnings", ()):
        _complain(str(line))
    if not answer["accepted"]:
        _complain(f"reload refused; keeping version {answer['version']}:\n{answer['problems']}")
        sys.exit(1)
    click.echo(f"reloaded: version {answer['version']} of {gateway.site}")


@main.command()
@TARGET
def upgrade(target: str | None) -> None:
    """Replace a running gateway by the installed version without losing a request, and wait for the result.

    The exit status is 1 if the new one did not start; the old one then goes on.
    """
    gateway = _running(target)
    answer = _order(gateway, "upgrade", UPGRADE_LIMIT)
    click.echo(f"process {answer['pid']} has taken over from {gateway.pid}")


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
        _complain(str(error))
        sys.exit(1)


def _order(gateway: "Running", what: str, seconds: float) -> dict[str, Any]:
    """Return what the supervisor answers; ends the program if it does not, or cannot do it."""
    from gateway.system.running import NoAnswer  # noqa: PLC0415

    try:
        answer = gateway.ask(what, seconds)
    except NoAnswer as error:
        _complain(str(error))
        sys.exit(1)
    if "error" in answer:
        _complain(f"{what} failed, and the gateway ({gateway}) goes on: {answer['error']}")
        sys.exit(1)
    return answer


@main.command()
@click.argument("site", type=SITE_FILE)
def check(site: Path) -> None:
    """Check SITE and report every problem; exit status 1 if there is one."""
    from gateway.config import ConfigError  # noqa: PLC0415
    from gateway.explain.required import require  # noqa: PLC0415
    from gateway.hardening import account  # noqa: PLC0415

    loaded = _load(site)
    try:
        require(loaded, account.of(loaded.site.user))
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    for warning in loaded.warnings:
        click.echo(str(warning), err=True)
    if shared := account.doubt(loaded.site.user):
        click.echo(f"{site}: warning: {shared}", err=True)
    model = loaded.site
    servers = sum(len(backend.servers) for backend in model.backends.values())
    click.echo(
        f"{site}: ok ({len(model.frontends)} frontends, {len(model.backends)} backends, {servers} servers, "
        f"{len(model.routes)} routes)"
    )


@main.command()
@click.argument("site", type=SITE_FILE)
@click.argument("method")
@click.argument("url")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help=("Header of the request; may be repeated.")
)
@click.option("--client", default="192.0.2.1", show_default=True, help="Address of the client.")
@click.option("--live", is_flag=True, help="Use the loads, sessions and health of the running gateway.")
@click.option("--assume", metavar="YAML", help="Suppose this, as in `assume` of tests: '{live: 2000, ticket: queued}'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(  # noqa: PLR0913 - one an option
    site: Path,
    method: str,
    url: str,
    headers: tuple[str, ...],
    client: str,
    *,
    live: bool,
    assume: str | None,
    as_json: bool,
) -> None:
    """Explain step by step how SITE handles a request: METHOD and the full URL. Sends nothing."""
    from gateway.explain.asked import Asked  # noqa: PLC0415
    from gateway.explain.report import tree  # noqa: PLC0415
    from gateway.explain.sandbox import Sandbox  # noqa: PLC0415

    pairs = [(name.strip(), value.strip()) for name, _, value in (header.partition(":") for header in headers)]
    try:
        asked = Asked.parse(f"{method} {url}", pairs, client)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    assumption = _assumption(assume) if assume is not None else None
    loaded = _load(site, network=False)
    running = _ask_control(loaded) if live else None
    remark = running.remark(loaded) if running is not None else ""

    def show() -> tuple[str, int]:
        with Sandbox(loaded, running) as sandbox:
            if assumption is not None:
                sandbox.assume(assumption)
            found = sandbox.decide(asked)
        if as_json:
            about = {"live": remark} if remark else {}
            return json.dumps({"request": str(asked), **about, **found}, indent=2, default=_plain), 0
        return tree(asked, found, sandbox.site, remark), 0

    _as_user(loaded, show)


def _assumption(text: str) -> "Assumption":
    """What --assume says; ends the program if it is wrong."""
    import yaml  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415

    from gateway.config.expectation import Assumption  # noqa: PLC0415

    try:
        return Assumption.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise click.UsageError(f"--assume: {where}: {first['msg']}") from None
    except yaml.YAMLError:
        raise click.UsageError("--assume: this is not YAML: write it as '{live: 2000, ticket: queued}'") from None


def _ask_control(loaded: "Loaded") -> "Live":
    """What the gateway that runs this site knows; ends the program if there is none."""
    from gateway.explain.live import Live, NoAnswer  # noqa: PLC0415

    try:
        return Live.ask(loaded, _running(str(loaded.path)))
    except NoAnswer as error:
        click.echo(str(error), err=True)
        sys.exit(1)


def _plain(value: object) -> str:
    """For JSON: bodies are bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@main.command()
@click.argument("site", type=SITE_FILE)
def test(site: Path) -> None:
    """Run the tests of SITE without using the network; exit status 1 if one fails."""
    from gateway.explain import trial  # noqa: PLC0415

    loaded = _load(site, network=False)

    def show() -> tuple[str, int]:
        verdicts = trial.run(loaded)
        failed = [verdict for verdict in verdicts if verdict.differences]
        lines = [trial.diff(verdict, str(site)) for verdict in failed]
        lines.append(f"{len(failed)} of {len(verdicts)} tests failed" if failed else f"{len(verdicts)} tests passed")
        return "\n".join(lines), bool(failed)

    _as_user(loaded, show)


def _as_user(loaded: "Loaded", show: Callable[[], tuple[str, int]]) -> None:
    """Print the text of `show` and end with its status. It runs code of the site: in a child, as the site's user."""
    from gateway.hardening import account  # noqa: PLC0415
    from gateway.hardening.confinement import Bounds, settle  # noqa: PLC0415
    from gateway.hardening.roles import RULES  # noqa: PLC0415
    from gateway.process.helper import run_helper  # noqa: PLC0415
    from loadagent.printable import printable_lines  # noqa: PLC0415

    said = run_helper(
        lambda: lambda write: write(json.dumps(show()).encode()),
        partial(settle, account.of(loaded.site.user), RULES, Bounds.of(loaded.site)),
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


def _load(site: Path, *, network: bool = True) -> "Loaded":
    """Load SITE, or say what is wrong and end. Without a network, every server's name stands for one address."""
    from gateway.config import ConfigError, load  # noqa: PLC0415
    from gateway.supervisor.startup_lookup import addresses  # noqa: PLC0415

    try:
        return load(site, addresses if network else lambda _, hosts: dict.fromkeys(hosts, "192.0.2.1"))
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(1)


@main.command()
@TARGET
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--metrics", is_flag=True, help="Print metrics in the Prometheus text format.")
def status(target: str | None, *, as_json: bool, metrics: bool) -> None:
    """Show the state of a gateway that runs on this machine: servers, cluster nodes and shared addresses.

    Without an argument it is the only one that runs; several are listed.
    """
    from gateway.admin.metrics import text as figures  # noqa: PLC0415
    from gateway.control import show as servers  # noqa: PLC0415
    from gateway.heartbeat import show as cluster  # noqa: PLC0415
    from gateway.heartbeat.client import NoAnswer, ask  # noqa: PLC0415
    from loadagent.printable import printable_lines, printable_values  # noqa: PLC0415

    gateway = _running(target)
    about = _order(gateway, "about", UPGRADE_LIMIT)
    whom = ["heartbeat", "control"] if about["cluster"] else ["control"]
    answers = {}
    for who in whom:
        try:
            answers[who] = ask(gateway.sockets, "status", who, gateway.pid)
        except NoAnswer as error:
            click.echo(str(error), err=True)
    if as_json and answers:
        click.echo(json.dumps({**answers.get("heartbeat", {}), **answers.get("control", {})}, indent=2))
    elif metrics:
        click.echo(figures(answers.get("control"), answers.get("heartbeat")), nl=False)
    elif answers:
        click.echo(printable_lines(servers.heading(about)), nl=False)
        shows = {"heartbeat": cluster, "control": servers}
        shown = {who: printable_values(answer) for who, answer in answers.items()}
        click.echo("\n".join(shows[who].text(answer) for who, answer in shown.items()), nl=False)
    sys.exit(len(answers) < len(whom))


@main.command()
@TARGET
@click.option("--timeout", default=60.0, show_default=True, metavar="SECONDS", help="Maximum time to wait.")
def evacuate(target: str | None, timeout: float) -> None:
    """Move every shared address to other nodes, one by one, and wait; `gateway join` takes part again.

    The exit status is 1 if an address is still here because no other node took it.
    """
    gateway = _running(target)
    answer = _ask_heartbeat(gateway, "drain")
    end = time.monotonic() + timeout
    while True:
        node = answer["node"]
        elsewhere = [item for item in answer["addresses"] if item["owner"] not in (None, node)]
        if len(elsewhere) == len(answer["addresses"]):
            for item in elsewhere:
                click.echo(f"{item['address']} is at {item['owner']}")
            return
        if time.monotonic() > end:
            here = ", ".join(item["address"] for item in answer["addresses"] if item["owner"] in (None, node))
            click.echo(f"no other node has taken {here}", err=True)
            sys.exit(1)
        time.sleep(0.05)
        answer = _ask_heartbeat(gateway, "status")


@main.command()
@TARGET
def standby(target: str | None) -> None:
    """Move every shared address to other nodes as soon as they can take it, and take none."""
    click.echo(f"{_ask_heartbeat(_running(target), 'standby')['node']} is on standby")


@main.command()
@TARGET
def join(target: str | None) -> None:
    """Take part again, after `gateway standby` or `gateway evacuate`."""
    click.echo(f"{_ask_heartbeat(_running(target), 'join')['node']} takes part")


def _ask_heartbeat(gateway: "Running", command: str) -> dict[str, Any]:
    """Return the answer of the heartbeat of a gateway; ends the program without one."""
    from gateway.heartbeat.client import NoAnswer, ask  # noqa: PLC0415

    try:
        return ask(gateway.sockets, command, parent=gateway.pid)
    except NoAnswer as error:
        click.echo(str(error), err=True)
        sys.exit(1)


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
@click.option("--port", default=8080, show_default=True, help="Port to listen on, on 127.0.0.1.")
def demo(port: int) -> None:
    """Run a demo on this machine: a gateway and three servers (one fast, one slow, one busy with other work)."""
    from gateway import demo as show  # noqa: PLC0415
    from gateway.supervisor import supervisor  # noqa: PLC0415

    sys.exit(show.run(port, supervisor.run))
