"""`gateway schema`."""

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON schema of the site file, for editors."""
    from gateway.config import schema as site_schema  # noqa: PLC0415

    click.echo(json.dumps(site_schema(), indent=2))
