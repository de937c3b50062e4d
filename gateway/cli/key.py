"""`gateway key`: key files."""

import os
from pathlib import Path

import click

from gateway.cli.sites import SITE_FILE


@click.group()
def key() -> None:
    """Create key files: random keys, per-server keys for load reports, and keys that sign zones."""


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


@key.command()
@click.argument("file", type=SITE_FILE)
@click.argument("zone")
def dnssec(file: Path, zone: str) -> None:
    """Print the DS and DNSKEY records of ZONE by the key in FILE, which is made if there is none (mode 0600).

    The file is named by dnssec: {key_file: FILE} of the zone; the DS record goes to who runs the zone above it, once
    the zone answers with signatures.
    """
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    from gateway.config import files  # noqa: PLC0415
    from gateway.config.dns import domain  # noqa: PLC0415
    from gateway.dns import signing  # noqa: PLC0415

    try:
        name = domain(zone)
    except ValueError as error:
        raise click.UsageError(f"{zone!r} is not a zone: {error}") from None
    if not file.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        _write_key(file, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).rstrip())
    try:
        lines = signing.trust_lines(name, files.secret(file))
    except (OSError, ValueError) as error:
        reason = f"cannot read {file}: {error.strerror}" if isinstance(error, OSError) else f"{file}: {error}"
        raise click.ClickException(reason) from None
    for line in lines:
        click.echo(line)


def _write_key(file: Path, content: bytes) -> None:
    """Write a key file that only its owner may read; ends the program if that fails."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content + b"\n")
    except OSError as error:
        raise click.ClickException(f"cannot write {file}: {(error.strerror or '').lower()}") from None
