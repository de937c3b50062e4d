"""`gateway reload` and `gateway upgrade`."""

import click

from gateway.cli.gateways import TARGET, TARGET_HERE, find, find_here, order
from gateway.cli.output import JSON, complain, fail, tell

RELOAD_LIMIT = 120.0
"""Seconds to wait for the outcome of a reload."""
UPGRADE_LIMIT = 60.0
"""The same for an upgrade; a new gateway has 15 to become ready."""


@click.command()
@TARGET
@JSON
def reload(target: str | None) -> None:
    """Tell a running gateway to reload its site file, and wait for the result.

    The exit status is 1 if it refused the file; it then keeps the one that is in force.
    """
    from gateway.config.units import version_text  # noqa: PLC0415

    gateway = find(target)
    answer = order(gateway, "reload", RELOAD_LIMIT)
    for line in answer.get("warnings", ()):
        complain(str(line))
    named = version_text(answer["version"], answer.get("history"))
    if not answer["accepted"]:
        fail(f"reload refused; keeping {named}:\n{answer['problems']}", answer)
    tell(f"reloaded: {named} of {gateway.site}", answer)


@click.command()
@TARGET_HERE
@JSON
def upgrade(target: str | None) -> None:
    """Replace a running gateway by the installed version without losing a request, and wait for the result.

    The exit status is 1 if the new one did not start; the old one then goes on.
    """
    gateway = find_here(target)
    answer = order(gateway, "upgrade", UPGRADE_LIMIT)
    tell(f"process {answer['pid']} has taken over from {gateway.pid}", {**answer, "before": gateway.pid})
