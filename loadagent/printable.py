"""Text from others, made fit for a log, a terminal and a label: what it says is shown, what it would do is not.

Escape sequences can rewrite a terminal's screen, title and clipboard; a line break forges a line of a log; the
bidirectional controls of Unicode show text in another order than it has (CVE-2021-42574). Python calls none of these
printable (str.isprintable: the categories "Other" and "Separator" of Unicode, but for the space).
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

INDENT: Final = "    "


def printable(text: str) -> str:
    r"""The text with every character that is not printable written as \xNN, \uNNNN or \UNNNNNNNN."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(ord(char)) for char in text)


def printable_lines(text: str) -> str:
    """The same of a text whose line breaks are meant."""
    return "\n".join(map(printable, text.split("\n")))


def printable_values(value: Any) -> Any:
    """The same JSON value with every text in it printable, keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable_values(key): printable_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable_values(item) for item in value]
    return value


class LineFormatter(logging.Formatter):
    """Formats a record as one line; those that a message or a traceback has beside are indented.

    So a line that begins with a time is always one that this program has written.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the indented ones that belong to it."""
        return f"\n{INDENT}".join(printable(line.expandtabs()) for line in super().format(record).split("\n"))


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
