"""Colours of what commands print for people. `click.echo` leaves them out where there is no terminal. Pure.

Each function gets a text that is safe to print, and changes nothing but the colours.
"""

import re
from typing import Final

import click

_PLACE: Final = re.compile(r"(?P<place>\S+:\d+:\d+: )(?P<severity>(?:error|warning|note): )?(?P<text>.*)")
_STATE: Final = re.compile(
    r"(?P<name>\S+/\S+ +|^ {20})(?P<state>(?:up|down|unknown)(?:, [a-z0-9% ]+?)*)(?P<rest>  .*|)"
)
_LOUD: Final = re.compile(r"RELOAD REFUSED|ACCESS LOG|STARTED WITH THE LAST GOOD|MAY SPLIT|warning: |\bdead\b")
_TITLES: Final = ("frontend ", "backend/server ", "class ", "overload control ", "node ", "address ", "differs from ")
_SEVERITIES: Final = {"error: ": "red", "warning: ": "yellow", "note: ": "cyan"}


def problems(text: str) -> str:
    """Problems of a site file: their places stand out, and how bad they are."""
    return "\n".join(map(_problem, text.split("\n")))


def _problem(line: str) -> str:
    found = _PLACE.fullmatch(line)
    if found is None:
        return line
    severity = found["severity"] or ""
    word = click.style(severity, fg=_SEVERITIES[severity]) if severity else ""
    text = found["text"] if severity else click.style(found["text"], fg="red")
    return click.style(found["place"], bold=True) + word + text


def good(text: str) -> str:
    """A result as it should be."""
    return click.style(text, fg="green")


def tests(text: str) -> str:
    """Tests that failed, with what was expected and found, and how many there are."""
    *lines, last = text.split("\n")
    shown = [_changed(line) if line.startswith("  ") else _problem(line) for line in lines]
    return "\n".join([*shown, click.style(last, fg="red" if last.endswith("failed") else "green", bold=True)])


def differences(text: str) -> str:
    """Lines of a difference."""
    return "\n".join(map(_changed, text.split("\n")))


def _changed(line: str) -> str:
    sign = line.lstrip()[:1]
    return click.style(line, fg={"-": "red", "+": "green"}[sign]) if sign in {"-", "+"} else line


def steps(text: str) -> str:
    """What happens to a request: what does not match is faint, the end stands out."""
    first, *lines = text.split("\n")
    return "\n".join([click.style(first, bold=True), *map(_step, lines)])


def _step(line: str) -> str:
    if line.startswith("└─"):
        failed = line.startswith(("└─ refused", "└─ no server", "└─ closed"))
        return click.style(line, fg="red" if failed else "green", bold=True)
    if " does not match: " in line:
        return click.style(line, dim=True)
    return click.style(line, fg="cyan") if " matches: " in line or line.startswith("│  →") else line


def status(text: str) -> str:
    """The tables of a gateway: what is wrong stands out."""
    first, *lines = text.split("\n")
    return "\n".join([click.style(first, bold=True), *map(_row, lines)])


def _row(line: str) -> str:
    if line.startswith(_TITLES):
        return click.style(line, dim=True)
    if _LOUD.search(line):
        return click.style(line, fg="red", bold=True)
    found = _STATE.fullmatch(line)
    if found is None:
        return line
    state = found["state"]
    bad = "down" in state or "ejected" in state
    colour = "red" if bad else "green" if state == "up" else "yellow"
    return found["name"] + click.style(state, fg=colour, bold=bad or None) + found["rest"]
