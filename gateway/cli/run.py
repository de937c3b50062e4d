"""`gateway run`."""

import sys
from pathlib import Path

import click

from gateway.cli.sites import SITE_FILE


@click.command()
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
    from gateway.supervisor import supervisor  # noqa: PLC0415

    sys.exit(supervisor.run(site, pid_file, (sys.executable, *sys.orig_argv[1:]), strict=strict))
