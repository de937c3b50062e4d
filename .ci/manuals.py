"""Writes a manual page for each command, made of its help, and the completions for shells: `make manuals`."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gateway import __version__
from gateway.cli import main as gateway
from loadagent.cli import main as loadagent

COMMANDS = {"gateway": gateway, "loadagent": loadagent}
COMPLETIONS = {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}
"""File names, as each shell looks for them."""


def pages(name: str, command: click.Command, above: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of the page of a command, and of those below it."""
    context = click.Context(command, info_name=name, parent=above, **command.context_settings)
    yield context.command_path.replace(" ", "-"), "\n".join(page(context)) + "\n"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from pages(each, command.commands[each], context)


def page(context: click.Context) -> Iterator[str]:
    """Yield the lines of one page (groff_man(7))."""
    command, title = context.command, context.command_path.replace(" ", "-")
    yield f'.TH "{plain(title.upper())}" "1" "" "gateway {__version__}" "User Commands"'
    yield from (".SH NAME", plain(f"{title} - {command.get_short_help_str(200)}"))
    yield from (
        ".SH SYNOPSIS",
        rf"\fB{plain(context.command_path)}\fR {plain(' '.join(command.collect_usage_pieces(context)))}",
    )
    yield ".SH DESCRIPTION"
    for paragraph in re.split(r"\n\s*\n", (command.help or "").replace("\b", "").strip()):
        yield from (".PP", plain(" ".join(paragraph.split())))
    options = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    yield ".SH OPTIONS"
    for flags, text in filter(None, (each.get_help_record(context) for each in options)):
        yield from (".TP", rf"\fB{plain(flags)}\fR", plain(text))
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for name in command.list_commands(context):
            about = command.commands[name].get_short_help_str(200)
            yield from (".TP", rf"\fB{plain(title)}\-{plain(name)}\fR(1)", plain(about))
    root = context.find_root()
    yield from (".SH EXIT STATUS", plain((root.command.epilog or "").removeprefix("Exit status: ")))
    if context.parent is not None:
        yield from (".SH SEE ALSO", rf"\fB{plain(context.parent.command_path.replace(' ', '-'))}\fR(1)")


def plain(text: str) -> str:
    """Text in which nothing is a request or an escape of roff."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write(directory: Path) -> None:
    """Write everything below `directory`, in the places that a package has them below /usr/share."""
    manuals = directory / "man" / "man1"
    manuals.mkdir(parents=True, exist_ok=True)
    for name, command in COMMANDS.items():
        for title, text in pages(name, command):
            (manuals / f"{title}.1").write_text(text)
        for shell, file in COMPLETIONS.items():
            place = {
                "bash": "bash-completion/completions",
                "zsh": "zsh/site-functions",
                "fish": "fish/vendor_completions.d",
            }
            target = directory / place[shell] / file.format(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            program = f"from {name}.cli import main; main(['completion', '{shell}'])"
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
            target.write_bytes(done.stdout)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
