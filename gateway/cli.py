"""The command `gateway`: run, check, schema, demo."""

import json
import sys
from pathlib import Path

import click

from gateway import __version__

SITE_FILE = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """An intelligent HTTP gateway: accepts, routes, balances by measured load, forwards."""


@main.command()
@click.argument("site", type=SITE_FILE)
def run(site: Path) -> None:
    """Run the gateway described by SITE until it is told to stop.

    SIGHUP reloads SITE, SIGTERM lets running requests finish, SIGUSR1 reopens the access log.
    """
    from gateway import supervisor  # noqa: PLC0415 - each command loads what it needs

    sys.exit(supervisor.run(site))


@main.command()
@click.argument("site", type=SITE_FILE)
def check(site: Path) -> None:
    """Say everything that is wrong with SITE; exit status 1 if anything is."""
    from gateway.config import ConfigError, load  # noqa: PLC0415

    try:
        loaded = load(site)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    for warning in loaded.warnings:
        click.echo(str(warning), err=True)
    model = loaded.site
    servers = sum(len(backend.servers) for backend in model.backends.values())
    click.echo(
        f"{site}: ok ({len(model.frontends)} frontends, {len(model.backends)} backends, {servers} servers, "
        f"{len(model.routes)} routes)"
    )


@main.command()
def schema() -> None:
    """Print the JSON schema of the site file, for editors."""
    from gateway.config import schema as site_schema  # noqa: PLC0415

    click.echo(json.dumps(site_schema(), indent=2))


@main.command()
@click.option("--port", default=8080, show_default=True, help="Where the gateway listens, on 127.0.0.1.")
def demo(port: int) -> None:
    """Run a gateway with three servers on this machine: one quick, one slow, one busy with other work."""
    from gateway import demo as show  # noqa: PLC0415
    from gateway import supervisor  # noqa: PLC0415

    sys.exit(show.run(port, supervisor.run))
