"""The command `gateway`. Each command loads what it needs when it runs, so that all of them start quickly."""

import click

from gateway import __version__
from gateway.cli import (
    check,
    completion,
    demo,
    evacuation,
    explain,
    history,
    import_,
    key,
    logs,
    overrides,
    reload,
    run,
    schema,
    shared_addresses,
    status,
    test,
    top,
    trace,
    witness,
    zone_file,
)
from gateway.cli.output import EPILOG, EXIT_STATUS, LAST_GOOD, use_colours

__all__ = ["EXIT_STATUS", "LAST_GOOD", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(__version__, prog_name="gateway")
@click.pass_context
def main(context: click.Context) -> None:
    """An intelligent HTTP gateway: accepts, routes, balances by measured load, forwards."""
    use_colours(context)


for command in (
    run.run,
    reload.reload,
    reload.upgrade,
    check.check,
    explain.explain,
    test.test,
    status.status,
    history.history,
    import_.import_,
    logs.logs,
    top.top,
    trace.trace,
    overrides.drain,
    overrides.maintenance,
    overrides.ready,
    overrides.weight,
    overrides.forget,
    evacuation.evacuate_site,
    zone_file.zone_file,
    shared_addresses.evacuate,
    shared_addresses.standby,
    shared_addresses.join,
    witness.witness,
    key.key,
    schema.schema,
    completion.completion,
    demo.demo,
):
    main.add_command(command)
