"""The arguments and flags of mod_rewrite's directives."""

import re
from collections.abc import Callable
from typing import Final

from gateway.config.apache_text import Part
from gateway.config.pattern import Pattern
from gateway.config.problem import Fault

RULE_FLAGS: Final = {
    "b": "B", "escapebackreferences": "B", "bnp": "BNP", "backrefnoplus": "BNP", "c": "C", "chain": "C",
    "co": "CO", "cookie": "CO", "e": "E", "env": "E", "end": "END", "f": "F", "forbidden": "F", "g": "G",
    "gone": "G", "l": "L", "last": "L", "n": "N", "next": "N", "nc": "NC", "nocase": "NC", "ne": "NE",
    "noescape": "NE", "ns": "NS", "nosubreq": "NS", "p": "P", "proxy": "P", "pt": "PT", "passthrough": "PT",
    "qsa": "QSA", "qsappend": "QSA", "qsd": "QSD", "qsdiscard": "QSD", "qsl": "QSL", "qslast": "QSL", "r": "R",
    "redirect": "R", "s": "S", "skip": "S", "t": "T", "type": "T", "unsafeallow3f": "UNSAFEALLOW3F",
    "dpi": "DPI", "discardpath": "DPI", "unsafeprefixstat": "UNSAFEPREFIXSTAT",
}  # fmt: skip
COND_FLAGS: Final = {"nc": "NC", "nocase": "NC", "or": "OR", "ornext": "OR", "nv": "NV"}
_WITH_VALUE: Final = {"B": False, "CO": True, "E": True, "N": False, "R": False, "S": True, "T": True}
"""Flags with a value, and whether it is required."""
_UNSUPPORTED: Final = {
    "h": "there are no handlers here", "handler": "there are no handlers here",
    "bctls": "write the characters to escape as B=…", "bne": "write the characters to escape as B=…",
    "unc": "there are no files here",
}  # fmt: skip
_STATUSES: Final = {"temp": 302, "permanent": 301, "seeother": 303}
_FILE_TESTS: Final = frozenset("fdslhLxFU")
_INTEGER_TESTS: Final = ("eq", "ge", "gt", "le", "lt", "ne")
_ARGUMENT: Final = re.compile(r"\s*(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|((?![\"'])(?:[^\s\\]|\\.)+))(?=\s|$)")


def arguments(text: str, least: int, most: int) -> list[str]:
    """Split into arguments: words, or quoted texts; backslashes stay for the argument's own parser."""
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _ARGUMENT.match(text, at)
        if match is None:
            raise Fault("a quote is not closed")
        found.append(next(group for group in match.groups() if group is not None))
        at = match.end()
    if not least <= len(found) <= most:
        raise Fault(
            f"takes {least} to {most} arguments, not {len(found)}" if least < most else f"takes {least} arguments"
        )
    return found


def comparison(
    pattern: str, expand: Callable[[str], tuple[Part, ...]], *, ignore_case: bool
) -> tuple[str, str, tuple[Part, ...]]:
    """The operand of a CondPattern: kind, text, and an expandable text for lexical comparisons."""
    for sign, kind in (("<=", "at_most"), (">=", "at_least"), ("<", "less"), (">", "more"), ("=", "equal")):
        if pattern.startswith(sign) and len(pattern) > len(sign):
            rest = pattern[len(sign) :]
            return kind, "", expand("" if rest == '""' else rest)
    if pattern.startswith("-") and len(pattern) == 2:
        if pattern[1] not in _FILE_TESTS:
            raise Fault(f"there is no test {pattern}")
        return "file", pattern[1], ()
    if pattern[:1] == "-" and pattern[1:3].lower() in _INTEGER_TESTS:
        return pattern[1:3].lower(), "", expand(pattern[3:].strip())
    Pattern(pattern, ignore_case=ignore_case, backtrack=True)
    return "regex", pattern, ()


def check_flags(flags: dict[str, str], to: str) -> None:
    """Check the values of flags, and flags that need others."""
    if "R" in flags:
        status = str(_STATUSES.get(flags["R"].lower(), flags["R"] or 302))
        if not re.fullmatch("[1-5][0-9]{2}", status) or int(status) < 200:
            raise Fault(f"R={flags['R']} is not a status")
        flags["R"] = status
    for name in ("S", "N"):
        if flags.get(name) and not flags[name].isdecimal():
            raise Fault(f"{name}={flags[name]} is not a number")
    if "P" in flags and not re.match(r"(https?|wss?|balancer)://[^/$%?]+(/|$|\?)", to):
        raise Fault("P needs a fixed host: http://NAME/…, where NAME is a backend or the address of a server")


def parse_flags(text: str, known: dict[str, str]) -> dict[str, str]:
    """Flags with their values, "" if there is none; values of repeated flags are joined by NUL."""
    if not (text.startswith("[") and text.endswith("]")):
        raise Fault(f"flags must be in brackets: [{text}]")
    found: dict[str, str] = {}
    for item in text[1:-1].split(","):
        name, equals, value = item.strip().partition("=")
        flag = known.get(name.lower())
        if flag is None:
            reason = _UNSUPPORTED.get(name.lower())
            raise Fault(f"the flag {name} is not supported: {reason}" if reason else f"there is no flag {name}")
        if bool(equals) > (flag in _WITH_VALUE) or (_WITH_VALUE.get(flag) and not value):
            raise Fault(f"{flag} takes {'a' if flag in _WITH_VALUE else 'no'} value")
        found[flag] = f"{found[flag]}\0{value}" if flag in ("E", "CO") and flag in found else value
    return found
