"""The command that prints a zone for other name servers."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.gateways import ask_control, find
from gateway.cli.sites import OFFLINE, SITE_FILE, load_site, run_as_user

if TYPE_CHECKING:
    from gateway.balance.site_shares import SiteState


@click.command()
@click.argument("site", type=SITE_FILE)
@click.argument("zone")
@click.option("--live", is_flag=True, help="With the addresses of the sites that the running gateway knows to work.")
@OFFLINE
def zone_file(site: Path, zone: str, *, live: bool, offline: bool) -> None:
    """Print a ZONE of the name server of SITE as a zone file, for BIND, NSD, Knot or PowerDNS.

    Balanced names have the addresses of all sites, or with --live of those that take clients now. The serial number is
    the time, unless the site file says another.
    """
    from gateway.balance.site_shares import states_of  # noqa: PLC0415
    from gateway.dns import zone_file as text  # noqa: PLC0415
    from gateway.dns.table import Table  # noqa: PLC0415

    loaded = load_site(site, offline=offline)
    model = loaded.site.dns
    if model is None:
        raise click.UsageError(f"{site} has no dns section")
    states: dict[str, SiteState] = {}
    if live:
        report = ask_control(find(str(loaded.path)))
        states = states_of({name: asdict(state) for name, state in report.site_states.items()})

    def show() -> tuple[str, int]:
        table = Table.of(model, loaded.files, int(time.time()), database=loaded.database)
        table.move(states, 0.0)
        try:
            return "\n".join(text.lines(table, zone)), 0
        except ValueError as error:
            return str(error), 2

    run_as_user(loaded, show, str, offline=offline)
