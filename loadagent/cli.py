"""The command `loadagent`."""

import asyncio
import json
import logging
import os
import pwd
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from loadagent.admin_state import write
from loadagent.agent import run_agent, take_sample
from loadagent.config import AgentConfig, ConfigError, Loc, load, read_file
from loadagent.hardening import harden
from loadagent.printable import LineFormatter
from loadagent.report import State
from loadagent.score import Sample

# Every key of the agent file is also an option: its place, type and help text.
_OPTIONS: tuple[tuple[tuple[str, ...], click.ParamType[Any], str], ...] = (
    (("server",), click.STRING, "The server's name in the gateway's site file; default: the host name."),
    (("backend",), click.STRING, "The server's backend, if several backends have a server of this name."),
    (("gateways",), click.STRING, "Push reports to this HOST:PORT; may be given several times."),
    (("key_file",), click.STRING, "File with the key that signs the reports, mode 600."),
    (("interval",), click.STRING, "Time between two reports, such as 500ms."),
    (("listen",), click.STRING, "Answer HTTP GET /load and agent checks on HOST:PORT."),
    (("allow",), click.STRING, "Network that may connect; may be given several times. Default: private networks."),
    (("state",), click.STRING, "Initial state: ready, drain or maintenance; the commands of these names change it."),
    (("state_file",), click.STRING, "File in which those commands store the state; default: AGENT.YAML.state."),
    (("metrics", "cpu"), click.FLOAT, "Utilisation at which the machine counts as full, up to 1.0."),
    (("metrics", "run_queue"), click.FLOAT, "Runnable tasks per core that count as full."),
    (("metrics", "memory"), click.FLOAT, "Share of memory in use that counts as full, up to 1.0."),
    (("metrics", "network", "interface"), click.STRING, "Network interface to measure."),
    (("metrics", "network", "bits"), click.STRING, "Capacity of the interface, such as 1Gbit."),
    (("metrics", "command", "run"), click.STRING, "Program that prints a load value of the application."),
    (("metrics", "command", "full"), click.FLOAT, "Value that counts as full load."),
    (("metrics", "command", "every"), click.STRING, "Time between two runs, such as 5s."),
    (("metrics", "url", "get"), click.STRING, "URL that returns a load value of the application."),
    (("metrics", "url", "full"), click.FLOAT, "Value that counts as full load."),
    (("metrics", "url", "every"), click.STRING, "Time between two requests, such as 1s."),
)


def _config_options(command: Callable[..., None]) -> Callable[..., None]:
    for place, kind, text in reversed(_OPTIONS):
        flag = "-".join(part for part in place if part != "metrics").replace("_", "-")
        several = place in {("gateways",), ("allow",)}
        command = click.option(f"--{flag}", "__".join(place), type=kind, help=text, multiple=several)(command)
    return click.argument("path", metavar="[AGENT.YAML]", required=False, type=click.Path(path_type=Path))(command)


def _given(options: dict[str, Any]) -> dict[Loc, object]:
    """The options given on the command line, by their places in the agent file."""
    return {
        tuple(name.split("__")): list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value is not None and value != ()
    }


def _load(path: Path | None, options: dict[str, Any]) -> AgentConfig:
    try:
        return load(path, _given(options))
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise click.exceptions.Exit(1) from None


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0: done; 1: refused or failed; the reason is on standard error; 2: the command line is wrong.",
)
@click.version_option(package_name="eddie-gateway")
def main() -> None:
    """Measure this machine and report its load to the gateways."""


@main.command()
@_config_options
@click.option(
    "--core-dumps", is_flag=True, help=("For debugging: allow core dumps and debuggers, which can reveal the key.")
)
def run(path: Path | None, *, core_dumps: bool, **options: Any) -> None:
    """Report this machine's load to the gateways until stopped. Options override the file."""
    config = _load(path, options)
    if not config.gateways and not config.listen:
        msg = "nothing to do: set gateways (and key_file), or listen"
        raise click.UsageError(msg)
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        harden(core_dumps=core_dumps)
        asyncio.run(_run_until_stopped(config))
    except OSError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@_config_options
@click.option("--replace", is_flag=True, help="Overwrite an existing agent file.")
@click.option("--root", default="/", type=click.Path(path_type=Path), help="Root of an image to install into.")
def install(path: Path | None, *, replace: bool, root: Path, **options: Any) -> None:
    """Make the agent a service: writes /etc/gateway/agent.yaml from the options, its key, and a systemd unit.

    Without options the existing agent file stays in use.
    """
    from loadagent import install as setup  # noqa: PLC0415 - not needed by a running agent

    if path is not None:
        raise click.UsageError("`install` writes /etc/gateway/agent.yaml itself: give options instead of a file")
    given = _given(options)
    config = _load(None, options) if given else None
    if config and not config.gateways and not config.listen:
        raise click.UsageError("nothing to do: set --gateways (and --key-file), or --listen")
    try:
        target = setup.Target(root.absolute(), setup.program(sys.argv[0]))
        if target.live and os.geteuid() != 0:
            raise setup.CannotInstall("only root can install a service; --root DIRECTORY prepares an image")
        key = read_file(config.key_file)[0] if config and config.key_file else None
        wanted = setup.files(target, given, key, replace=replace)
        for done in setup.install(target, wanted, setup.run_program, pwd.getpwnam):
            click.echo(done)
    except (setup.CannotInstall, OSError) as error:
        raise click.ClickException(str(error)) from None


JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _say(path: Path, state: State, *, as_json: bool) -> None:
    config = _load(path, {})
    target = config.state_file
    assert target is not None  # noqa: S101 - a state file is always beside an agent file
    try:
        write(target, state)
    except OSError as error:
        raise click.ClickException(f"cannot write {target}: {error.strerror}") from None
    word = state.name.lower()
    said = f"{config.server}: {word} (takes effect with the agent's next report)"
    click.echo(json.dumps({"server": config.server, "state": word}) if as_json else said)


@main.command()
@click.argument("path", metavar="AGENT.YAML", type=click.Path(path_type=Path))
@JSON
def drain(path: Path, *, as_json: bool) -> None:
    """Drain: this server keeps its sessions and gets no new ones."""
    _say(path, State.DRAIN, as_json=as_json)


@main.command()
@click.argument("path", metavar="AGENT.YAML", type=click.Path(path_type=Path))
@JSON
def ready(path: Path, *, as_json: bool) -> None:
    """Make this server ready to take requests again."""
    _say(path, State.READY, as_json=as_json)


@main.command()
@click.argument("path", metavar="AGENT.YAML", type=click.Path(path_type=Path))
@JSON
def maintenance(path: Path, *, as_json: bool) -> None:
    """Put this server into maintenance: no requests, no sessions."""
    _say(path, State.MAINTENANCE, as_json=as_json)


@main.command()
@_config_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sample(path: Path | None, *, as_json: bool, **options: Any) -> None:
    """Measure once and show how the score is computed."""
    config = _load(path, options)
    result = asyncio.run(take_sample(config))
    if as_json:
        metrics = {
            name: {"value": result.values.get(name), "limit": limit, "share": result.shares.get(name)}
            for name, limit in result.limits.items()
        }
        click.echo(json.dumps({"server": config.server, "score": result.score, "metrics": metrics}))
    else:
        _show(config, result)


@main.command()
@_config_options
@JSON
def test(path: Path | None, *, as_json: bool, **options: Any) -> None:
    """Ask every gateway what it thinks of this agent's reports, and change nothing there.

    Each one says whether it accepts them; if not: a wrong key, an unknown server, a clock that differs and by how much,
    or another machine that reports for this server. The exit status is 1 unless all accept them.
    """
    from loadagent.trial import ask_all  # noqa: PLC0415 - not needed by a running agent

    config = _load(path, options)
    if not config.gateways:
        raise click.UsageError("nothing to ask: set gateways (and key_file)")
    answers = []
    for answer in ask_all(config):
        answers.append(answer)
        if not as_json:
            click.echo(f"{answer.gateway}: {answer.sentence(config.server)}")
    if as_json:
        said = [answer.as_json(config.server) for answer in answers]
        click.echo(json.dumps({"server": config.server, "gateways": said}))
    sys.exit(0 if all(answer.good for answer in answers) else 1)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion of this command for a SHELL."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - not needed by a running agent

    found = get_completion_class(shell)
    if found is not None:
        click.echo(found(main, {}, "loadagent", "_LOADAGENT_COMPLETE").source())


async def _run_until_stopped(config: AgentConfig) -> None:
    agent = asyncio.ensure_future(run_agent(config))
    for stop in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(stop, agent.cancel)
    await asyncio.wait([agent])
    if not agent.cancelled():
        agent.result()


def _show(config: AgentConfig, result: Sample) -> None:
    from rich.console import Console  # noqa: PLC0415 - not needed by a running agent
    from rich.table import Table  # noqa: PLC0415

    score = result.score
    title = f"{config.server}: load " + ("not measurable" if score is None else f"{score:.0%}")
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for column in ("value", "limit", "share"):
        table.add_column(column, justify="right")
    for name, limit in result.limits.items():
        if name in result.values:
            table.add_row(name, f"{result.values[name]:.4g}", f"{limit:.4g}", f"{result.shares[name]:.0%}")
        else:
            table.add_row(name, "no answer", f"{limit:.4g}", "left out")
    Console().print(table)
