"""Texts with `{field}` placeholders: access-log lines, redirect targets. `{{` and `}}` stand for a brace."""

import re
from collections.abc import Collection
from typing import Final

from gateway.config.problem import Fault, suggest

FAMILIES: Final = ("header", "cookie")
"""Fields that are followed by a colon and a name, such as {header:Accept}."""
_NAMED: Final = re.compile(rf"({'|'.join(FAMILIES)}):[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BRACE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def parts(text: str, fields: Collection[str], *, named: bool = False) -> tuple[tuple[str, str | None], ...]:
    """Split `text` into (literal, field) pairs; the last pair's field is None. `named` allows those of FAMILIES.

    Raises Fault, with the offset of the character at fault, for a field that is not in `fields` or a lone
    brace.
    """
    pairs: list[tuple[str, str | None]] = []
    literal, end = "", 0
    for match in _BRACE.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        field = match[1]
        if match[0] in ("{{", "}}"):
            literal += match[0][0]
        elif field is None:
            raise Fault(f"a lone {match[0]}; write {match[0] * 2} for a brace", offset=match.start())
        elif field not in fields and not (named and _NAMED.fullmatch(field)):
            hint = suggest(field, fields) or f"; there are {', '.join(fields)}"
            raise Fault(f"unknown field {{{field}}}{hint}", offset=match.start())
        else:
            pairs.append((literal, field))
            literal = ""
    return (*pairs, (literal + text[end:], None))
