"""`gateway demo`."""

import sys

import click


@click.command()
@click.option("--port", default=8080, show_default=True, help="Port to listen on, on 127.0.0.1.")
def demo(port: int) -> None:
    """Run a demo on this machine: a gateway and three servers (one fast, one slow, one busy with other work)."""
    from gateway import demo as show  # noqa: PLC0415
    from gateway.supervisor import supervisor  # noqa: PLC0415

    sys.exit(show.run(port, supervisor.run))
