import logging

import pytest

from loadagent.printable import LineFormatter, printable, printable_lines, printable_values

HOSTILE = {
    "\x1b[2J": "\\x1b[2J",  # clears the screen
    "a\rb\nc": "a\\x0db\\x0ac",
    "\x9b31m": "\\x9b31m",  # the same as ESC [ to a terminal in 8 bits
    "\x00\x07\x7f": "\\x00\\x07\\x7f",
    "\u202egpj.exe": "\\u202egpj.exe",  # right to left from here on
    "\u2066x\u2069": "\\u2066x\\u2069",
    "\u2028\u2029\u200b\ufeff": "\\u2028\\u2029\\u200b\\ufeff",
    "\U000e0041": "\\U000e0041",  # a tag that nothing shows
    "\ud800": "\\ud800",
}


@pytest.mark.parametrize("text, shown", HOSTILE.items())
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["", "plain", "Grüße, 世界", "a\\b 'c' \"d\""])
def test_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_lines_and_json() -> None:
    assert printable_lines("a\n\x1bb\n") == "a\n\\x1bb\n"
    value = {"a\x1b": ["\r", 1, None, {"b": "\u202e"}], "c": True}
    assert printable_values(value) == {"a\\x1b": ["\\x0d", 1, None, {"b": "\\u202e"}], "c": True}


def test_a_log_line_cannot_be_forged() -> None:
    formatter = LineFormatter("%(levelname)s %(message)s")
    record = logging.LogRecord("x", logging.ERROR, "", 0, "it says %s", ("\x1b[31mno\nERROR forged\r",), None)
    assert formatter.format(record) == "ERROR it says \\x1b[31mno\n    ERROR forged\\x0d"
