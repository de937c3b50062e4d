"""Loads the site file of a command, and runs its code as the site's user."""

import json
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import complain, fail, fitted, wants_json

if TYPE_CHECKING:
    from gateway.config import Loaded, Problem, Site
    from gateway.hardening.account import Account


SITE_FILE = click.Path(path_type=Path)


OFFLINE = click.option(
    "--offline",
    is_flag=True,
    help="Without the files of production: keys, certificates, logs and a user that are not on this machine are notes, "
    "and no host name is looked up.",
)


SHOW_LIMIT = 300.0
"""Seconds for the tests of a site file, or for one request that is explained."""
SHOW_BYTES = 64 * 1024 * 1024


def load_site(site: Path, *, offline: bool) -> "Loaded":
    """Load SITE without looking up host names, or say what is wrong and end."""
    from gateway.config import ConfigError, load  # noqa: PLC0415

    try:
        loaded = load(site, no_lookup, offline=offline)
    except ConfigError as error:
        fail(str(error), {"problems": [problem_json(problem) for problem in error.problems]})
    for warning in loaded.warnings:
        if warning.severity == "note":
            complain(str(warning))
    return loaded


def no_lookup(_: "Site", hosts: Collection[str]) -> dict[str, str | OSError]:
    """One address stands for every server's name."""
    return dict.fromkeys(hosts, "192.0.2.1")


def run_as_user(
    loaded: "Loaded", show: Callable[[], tuple[str, int]], paint: Callable[[str], str], *, offline: bool
) -> None:
    """Print the text of `show`, with colours for people, and end with its status.

    It runs code of the site: in a child, as the site's user.
    """
    from gateway.hardening.confinement import Bounds, settle  # noqa: PLC0415
    from gateway.hardening.roles import RULES  # noqa: PLC0415
    from gateway.process.helper import run_helper  # noqa: PLC0415
    from loadagent.printable import printable_lines  # noqa: PLC0415

    said = run_helper(
        lambda: lambda write: write(json.dumps(show()).encode()),
        partial(settle, account_of(loaded, offline=offline), RULES, Bounds.of(loaded.site)),
        SHOW_LIMIT,
        SHOW_BYTES,
        f"{loaded.path}: cannot compute the result",
    )
    try:
        text, status = json.loads(said)
    except ValueError:
        click.echo(f"{loaded.path}: stopped, or not finished within {SHOW_LIMIT:g} s", err=True)
        sys.exit(1)
    shown = printable_lines(str(text))
    click.echo(shown if wants_json() else paint(fitted(shown)))
    sys.exit(bool(status))


def account_of(loaded: "Loaded", *, offline: bool) -> "Account | None":
    """The account for code of the site; offline, nobody stands for a user that is not on this machine."""
    from gateway.hardening import account  # noqa: PLC0415

    try:
        return account.of(loaded.site.user)
    except account.NoAccount as error:
        if offline:
            return account.of("nobody")
        raise click.ClickException(str(error)) from None


def problem_json(problem: "Problem") -> dict[str, Any]:
    """A problem of a site file, for JSON."""
    return {**asdict(problem), "path": str(problem.path)}
