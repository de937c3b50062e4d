"""`gateway witness`."""

import sys
from pathlib import Path

import click

from gateway.cli.sites import SITE_FILE


@click.command()
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
