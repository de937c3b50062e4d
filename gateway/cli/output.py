"""What commands print, for people and as JSON, and the exit status."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn, TextIO

import click

EXIT_STATUS = {
    0: "done",
    1: "refused or failed; the reason is on standard error",
    2: "the command line is wrong",
    3: "gateway check: the site file has a mistake, and gateway run would start with the last good configuration",
}


LAST_GOOD = 3
"""See EXIT_STATUS."""
EPILOG = "Exit status: " + "; ".join(f"{status}: {meaning}" for status, meaning in EXIT_STATUS.items()) + "."


def _ask_for_json(context: click.Context, _: click.Parameter, value: object) -> None:
    context.meta[JSON_KEY] = value


JSON_KEY = "gateway.json"
JSON = click.option(
    "--json", is_flag=True, expose_value=False, callback=_ask_for_json, help="Print JSON, a failure included."
)


def use_colours(context: click.Context) -> None:
    """Let NO_COLOR (https://no-color.org) turn colours off; without it they are where a terminal is."""
    if os.environ.get("NO_COLOR"):
        context.color = False


def tell(text: str, data: Mapping[str, Any]) -> None:
    """Print a result, as JSON if that was asked for."""
    click.echo(json.dumps(data, indent=2) if wants_json() else text)


def fail(text: str, data: Mapping[str, Any] = MappingProxyType({}), status: int = 1) -> NoReturn:
    """Say why on standard error, as JSON also on standard output if that was asked for, and end the program."""
    complain(text)
    if wants_json():
        click.echo(json.dumps({"error": text, **data}, indent=2))
    sys.exit(status)


def wants_json() -> bool:
    """Whether the command was asked for JSON."""
    return bool(click.get_current_context().meta.get(JSON_KEY))


def complain(text: str) -> None:
    """Print on standard error what may hold text of others, such as a file."""
    from gateway.cli import colour  # noqa: PLC0415
    from loadagent.printable import printable_lines  # noqa: PLC0415

    click.echo(colour.problems(fitted(printable_lines(text), sys.stderr)), err=True)


def fitted(text: str, stream: TextIO | None = None) -> str:
    """The text in lines as long as the terminal is wide, if `stream` (standard output) is one."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return text
    from gateway.cli.folding import folded  # noqa: PLC0415

    return folded(text, shutil.get_terminal_size().columns)
