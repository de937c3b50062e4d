"""Makes text from others safe for a log, a terminal and a label: special characters are shown, not interpreted.

Escape sequences can rewrite a terminal's screen, title and clipboard; a line break forges a log line; the bidirectional
controls of Unicode change the order in which text is displayed (CVE-2021-42574). Python considers none of these
printable (str.isprintable: all but the Unicode categories "Other" and "Separator", plus the space).
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
    """The same for text with intended line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def printable_values(value: Any) -> Any:
    """The same for all texts in a JSON value, keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable_values(key): printable_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable_values(item) for item in value]
    return value


class LineFormatter(logging.Formatter):
    """Formats a record as one line; further lines of a message or traceback are indented.

    So every line that begins with a time is the start of a record.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the indented lines that belong to it."""
        return f"\n{INDENT}".join(printable(line.expandtabs()) for line in super().format(record).split("\n"))


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
