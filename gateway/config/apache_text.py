"""Expandable texts of Apache's rules: plain characters, groups of patterns, variables and maps. See
httpd.apache.org/docs/2.4/mod/mod_rewrite.html.
"""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from gateway.config.problem import Fault, suggest

Part: TypeAlias = tuple[str, str, "tuple[Part, ...]", "tuple[Part, ...] | None"]
"""A piece of an expandable text: (kind, value, key, default). Kinds: text; rule and cond (the number of a group); var
(a name); header, env (a name); map (a name, with its key and default); function (a name, with its argument as the key);
answer (a field, or "status")."""

VARIABLES: Final = frozenset(
    [
        "HTTP_USER_AGENT",
        "HTTP_REFERER",
        "HTTP_COOKIE",
        "HTTP_FORWARDED",
        "HTTP_HOST",
        "HTTP_PROXY_CONNECTION",
        "HTTP_ACCEPT",
        "REMOTE_ADDR",
        "CONN_REMOTE_ADDR",
        "REMOTE_HOST",
        "REQUEST_METHOD",
        "REQUEST_FILENAME",
        "SCRIPT_FILENAME",
        "PATH_INFO",
        "QUERY_STRING",
        "DOCUMENT_ROOT",
        "SERVER_NAME",
        "SERVER_ADDR",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "REQUEST_URI",
        "REQUEST_SCHEME",
        "HTTPS",
        "THE_REQUEST",
        "TIME",
        "TIME_YEAR",
        "TIME_MON",
        "TIME_DAY",
        "TIME_HOUR",
        "TIME_MIN",
        "TIME_SEC",
        "TIME_WDAY",
        "IS_SUBREQ",
    ]
)
FILE_NAMES: Final = ("REQUEST_FILENAME", "SCRIPT_FILENAME")
OF_ANSWER: Final = {"CONTENT_TYPE": "content-type", "REQUEST_STATUS": "status"}
"""Variables of the answer, which the test of a Header may ask for, as fields; status is its status."""
FUNCTIONS: Final = ("toupper", "tolower", "escape", "unescape")
"""Of maps, and of expressions."""
NOT_HERE: Final = {
    "CONTENT_TYPE": "the answer is not known yet; only the expr= of a Header can ask for it",
    "REQUEST_STATUS": "the answer is not known yet; only the expr= of a Header can ask for it",
    "REMOTE_USER": "users log in by basic_auth of a route, whose texts have {user}",
    "REMOTE_IDENT": "the gateway does not query it",
    "REMOTE_PORT": "the ports of clients are not kept",
    "AUTH_TYPE": "users log in by basic_auth of a route",
    "SERVER_ADMIN": "write the address itself",
    "SERVER_SOFTWARE": "write the name itself",
    "API_VERSION": "there are no modules of Apache here",
    "HANDLER": "there are no handlers here",
    "CONTEXT_PREFIX": "there are no aliases here; write the path itself",
    "CONTEXT_DOCUMENT_ROOT": "write DOCUMENT_ROOT, or the path itself",
}
"""Variables of Apache without a value here, and the alternative."""


def expandable(text: str, *, of_answer: bool = False) -> tuple[Part, ...]:
    """The parts of a text with references to groups, variables and maps. Raises Fault.

    `of_answer`: variables of the answer are known as well.
    """
    whole = re.fullmatch(r"%\{(?:(resp):)?([^{}:]+)\}", text, re.IGNORECASE) if of_answer else None
    if whole and (whole[1] or whole[2].upper() in OF_ANSWER):
        return (("answer", whole[2].lower() if whole[1] else OF_ANSWER[whole[2].upper()], (), None),)
    parts, _ = _expandable(text, 0, "")
    return parts


def numbered(text: str) -> tuple[Part, ...]:
    """The parts of a text with $1 to $9 only."""
    found: list[Part] = []
    for piece in re.split(r"(\\\$|\$[0-9&])", text):
        if re.fullmatch(r"\$[0-9&]", piece):
            found.append(("rule", piece[1].replace("&", "0"), (), None))
        elif piece:
            found.append(("text", piece.replace("\\$", "$"), (), None))
    return tuple(found)


def maps_in(parts: tuple[Part, ...]) -> Iterator[str]:
    """The names of the maps that a text uses."""
    for kind, value, key, default in parts:
        if kind == "map":
            yield value
        yield from maps_in(key)
        yield from maps_in(default or ())


def _expandable(text: str, at: int, until: str) -> tuple[tuple[Part, ...], int]:
    """Pieces of `text` from `at` up to one of the characters in `until`, and the position of that."""
    parts: list[Part] = []
    literal = ""
    while at < len(text) and text[at] not in until:
        part, width = _piece(text, at)
        if part is None:
            literal += text[at + width - 1]
        else:
            if literal:
                parts.append(("text", literal, (), None))
            literal = ""
            parts.append(part)
        at += width
    if literal:
        parts.append(("text", literal, (), None))
    return tuple(parts), at


def _piece(text: str, at: int) -> tuple[Part | None, int]:
    """A reference, or None for a plain character; and its length."""
    char, after = text[at], text[at + 1 : at + 2]
    if char == "\\" and after:
        return None, 2
    if char not in "$%" or not after:
        return None, 1
    if after.isdecimal() and after.isascii():
        return ("rule" if char == "$" else "cond", after, (), None), 2
    if after != "{":
        return None, 1
    if char == "%":
        end = text.find("}", at)
        if end < 0:
            raise Fault(f"{text[at:]} is not closed")
        return _variable(text[at + 2 : end]), end + 1 - at
    colon = text.find(":", at)
    if colon < 0:
        raise Fault("a map is used as ${map:key} or ${map:key|default}")
    key, end = _expandable(text, colon + 1, "|}")
    default: tuple[Part, ...] | None = None
    if text[end : end + 1] == "|":
        default, end = _expandable(text, end + 1, "}")
    if end >= len(text):
        raise Fault(f"{text[at:]} is not closed")
    return ("map", text[at + 2 : colon], key, default), end + 1 - at


def _variable(name: str) -> Part:
    family, colon, rest = name.partition(":")
    if colon and family.upper() in ("HTTP", "REQ"):
        return "header", rest, (), None
    if colon and family.upper() in ("ENV", "REQENV"):
        return "env", rest, (), None
    if colon and family.upper() in ("LA-U", "LA-F") and rest.upper() in FILE_NAMES:
        return "var", family.upper(), (), None
    if colon and family.upper() in ("LA-U", "LA-F"):
        return _variable(rest)  # nothing else changes before the path is mapped to a file
    if colon:
        raise Fault(f"%{{{name}}} is not supported: there are no variables of other modules")
    if name.upper() in NOT_HERE:
        raise Fault(f"the variable {name} is not supported: {NOT_HERE[name.upper()]}")
    if name.upper() not in VARIABLES:
        raise Fault(f"the variable {name} is not supported{suggest(name.upper(), VARIABLES)}")
    return "var", name.upper(), (), None
