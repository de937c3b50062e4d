"""The expressions of `when:`: a subset of CEL, parsed and typed.

CEL is the Common Expression Language (grammar and operators: github.com/google/cel-spec, doc/langdef.md). Supported
are: bool, int, double, string, list, map and timestamp; all operators; `in`, `has`, indexing; the functions and
methods in FUNCTIONS and METHODS. Not supported are messages, bytes, uint, durations, null, and comprehensions: the
number of evaluation steps is limited by the length of the expression. All types are checked before the first request:
a type error is a Fault with its position.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from gateway.config.pattern import Pattern
from gateway.config.problem import Fault, suggest

MAX_TEXT: Final = 4096
MAX_DEPTH: Final = 64
"""Levels of brackets and prefix operators."""

VARIABLES: Final = {
    "scheme": "string",
    "method": "string",
    "host": "string",
    "path": "string",
    "uri": "string",
    "query": "map",
    "headers": "map",
    "cookies": "map",
    "client": "string",
    "class": "string",
    "time": "timestamp",
    "user": "string",
}
"""The request variables of expressions; maps are from string to string."""

FUNCTIONS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "load": (("backend",), "double"),
    "up": (("backend",), "int"),
    "sessions": ((), "int"),
    "site_load": (("site",), "double"),
    "map": (("map name", "string"), "string"),
    "in_network": (("string", "network"), "bool"),
    "size": (("sized",), "int"),
    "int": (("scalar",), "int"),
    "double": (("scalar",), "double"),
    "string": (("scalar",), "string"),
    "timestamp": (("moment",), "timestamp"),
}
"""Functions: types of their arguments, and of the result. backend, site, map name, network, pattern, zone, moment:
literals."""

METHODS: Final[dict[str, dict[str, tuple[tuple[str, ...], str]]]] = {
    "string": {
        "startsWith": (("string",), "bool"),
        "endsWith": (("string",), "bool"),
        "contains": (("string",), "bool"),
        "matches": (("pattern",), "bool"),
        "size": ((), "int"),
        "lowerAscii": ((), "string"),
        "upperAscii": ((), "string"),
    },
    "list": {"size": ((), "int")},
    "timestamp": dict.fromkeys(
        (
            *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
            *("getHours", "getMinutes", "getSeconds"),
        ),
        (("zone?",), "int"),
    ),
}
"""Methods by the type of their object, as FUNCTIONS; the last argument is optional if its type ends with "?"."""

_TOKEN: Final = re.compile(
    r"""
      (?P<space> \s+ | //[^\n]* )
    | (?P<number> (?: 0x[0-9a-fA-F]{1,16} | [0-9]{1,19}\.[0-9]{1,30}(?:[eE][+-]?[0-9]{1,3})? | [0-9]{1,19} )
                  (?![0-9A-Za-z_]) )
    | (?P<text> r?"(?:[^"\\\n]|\\.)*" | r?'(?:[^'\\\n]|\\.)*' )
    | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<sign> \|\||&&|==|!=|<=|>=|[-+*/%<>!?:.,()\[\]] )
    """,
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(?:([abfnrtv\\?\"'`])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))")
_SHORT: Final = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
_COMPARED: Final = ("==", "!=", "<", "<=", ">", ">=", "in")
_NUMBERS: Final = ("int", "double")
_NAMING: Final = {"load": "backend", "up": "backend", "site_load": "site", "map": "map"}
"""Functions whose first argument is the name of something in the site file."""


_SIGNS: Final = {
    "and": ": write &&",
    "or": ": write ||",
    "not": ": write !",
    "=": ": write ==",
    "=~": ': write path.matches("…")',
    "!~": ': write !path.matches("…")',
    "~": ': write path.matches("…")',
    "`": ': put text in "…"',
    "$": ": fields have no $ here",
    "&": ": write &&",
    "|": ": write ||",
}
"""Signs and words of other languages, and what to write."""


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Node:
    """A typed expression: `op` is literal, var, list, key, has, an operator, or the name of a function or method."""

    op: str
    type: str
    args: tuple[Any, ...]
    at: int
    """Position of its start in the text."""
    item: str = ""
    """Of a list: the type of its items."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression as written, and its parsed form."""

    text: str
    node: Node


def parse(text: str) -> Node:
    """Parse the boolean expression `text`. Raises Fault."""
    if len(text) > MAX_TEXT:
        raise Fault(f"an expression has at most {MAX_TEXT} characters")
    parser = _Parser(text)
    node = parser.choice()
    if parser.here.kind != "end":
        raise Fault(f"unexpected {parser.here.text}{_SIGNS.get(parser.here.text, '')}", offset=parser.here.at)
    if node.type != "bool":
        raise Fault(f"must be true or false, not {_named(node)}", offset=node.at)
    return node


def variables(node: Node) -> Iterator[tuple[str, int]]:
    """The name and position of each variable that an expression uses."""
    if node.op == "var":
        yield node.args[0], node.at
    for arg in node.args:
        if isinstance(arg, Node):
            yield from variables(arg)


def names(node: Node) -> Iterator[tuple[str, str, int]]:
    """("backend", "site" or "map", its name, position) for each that an expression names."""
    if node.op in _NAMING:
        yield _NAMING[node.op], node.args[0].args[0], node.args[0].at
    for arg in node.args:
        if isinstance(arg, Node):
            yield from names(arg)


def _named(node: Node) -> str:
    names = {"int": "an int", "map": "a map", "list": f"a list of {node.item}"}
    return names.get(node.type, f"a {node.type}")


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            sign = text[at : at + 2].rstrip() if text[at : at + 2] in _SIGNS else text[at]
            unexpected = f"unexpected {sign}{_SIGNS.get(sign, '')}"
            raise Fault("text without its closing quote" if text[at] in "\"'" else unexpected, offset=at)
        if match.lastgroup != "space":
            yield _Token(str(match.lastgroup), match[0], at)
        at = match.end()
    yield _Token("end", "end", at)


class _Parser:
    """Recursive descent, one method per level of the grammar."""

    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.index = 0
        self.depth = 0

    @property
    def here(self) -> _Token:
        return self.tokens[self.index]

    def take(self, *signs: str) -> _Token | None:
        """The next token, if it is one of `signs`."""
        token = self.here
        if token.kind in ("sign", "name") and token.text in signs:
            self.index += 1
            return token
        return None

    def need(self, sign: str) -> None:
        if not self.take(sign):
            raise Fault(f"expected {sign}, found {self.here.text}", offset=self.here.at)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Fault("nested too deeply", offset=self.here.at)

    def choice(self) -> Node:
        self.deeper()
        node = self.either()
        if self.take("?"):
            _is(node, "bool")
            yes = self.either()
            self.need(":")
            no = self.choice()
            if (yes.type, yes.item) != (no.type, no.item) or yes.type == "map":
                raise Fault(f"the first is {_named(yes)}, the second {_named(no)}", offset=no.at)
            node = Node("?:", yes.type, (node, yes, no), node.at, yes.item)
        self.depth -= 1
        return node

    def either(self) -> Node:
        node = self.both()
        while self.take("||"):
            node = Node("||", "bool", (_is(node, "bool"), _is(self.both(), "bool")), node.at)
        return node

    def both(self) -> Node:
        node = self.comparison()
        while self.take("&&"):
            node = Node("&&", "bool", (_is(node, "bool"), _is(self.comparison(), "bool")), node.at)
        return node

    def comparison(self) -> Node:
        node = self.sum()
        while sign := self.take(*_COMPARED):
            right = self.sum()
            _comparable(node, right, sign)
            node = Node(sign.text, "bool", (node, right), node.at)
        return node

    def sum(self) -> Node:
        node = self.product()
        while sign := self.take("+", "-"):
            node = _arithmetic(node, self.product(), sign)
        return node

    def product(self) -> Node:
        node = self.prefix()
        while sign := self.take("*", "/", "%"):
            node = _arithmetic(node, self.prefix(), sign)
        return node

    def prefix(self) -> Node:
        if sign := self.take("!", "-"):
            self.deeper()
            node = self.prefix()
            self.depth -= 1
            if sign.text == "!":
                return Node("!", "bool", (_is(node, "bool"),), sign.at)
            if node.type not in _NUMBERS:
                raise Fault(f"- takes a number, not {_named(node)}", offset=node.at)
            return Node("neg", node.type, (node,), sign.at)
        return self.member()

    def member(self) -> Node:
        node = self.primary()
        while sign := self.take(".", "["):
            if sign.text == "[":
                key = self.choice()
                self.need("]")
                node = _index(node, key)
                continue
            name = self.here
            if name.kind != "name":
                raise Fault(f"expected a name, found {name.text}", offset=name.at)
            self.index += 1
            if self.take("("):
                node = _method(node, name, self.arguments(")"))
            elif node.type == "map":
                node = Node("key", "string", (node, Node("literal", "string", (name.text,), name.at)), node.at)
            else:
                raise Fault(f"{_named(node)} has no fields", offset=name.at)
        return node

    def arguments(self, end: str) -> list[Node]:
        found: list[Node] = []
        while not self.take(end):
            if found:
                self.need(",")
            found.append(self.choice())
        return found

    def primary(self) -> Node:
        token = self.here
        self.index += 1
        match token.kind:
            case "number":
                return _number(token)
            case "text":
                return Node("literal", "string", (_text(token),), token.at)
            case "name":
                return self.named(token)
        if token.text == "(":
            node = self.choice()
            self.need(")")
            return node
        if token.text == "[":
            return _list(self.arguments("]"), token.at)
        what = "end of the expression" if token.kind == "end" else token.text
        raise Fault(f"unexpected {what}", offset=token.at)

    def named(self, token: _Token) -> Node:
        name = token.text
        if name in ("true", "false"):
            return Node("literal", "bool", (name == "true",), token.at)
        if self.take("("):
            arguments = self.arguments(")")
            if name == "has":
                return _has(arguments, token)
            if name not in FUNCTIONS:
                raise Fault(f"there is no function {name}{suggest(name, (*FUNCTIONS, 'has'))}", offset=token.at)
            return _call(token, arguments, *FUNCTIONS[name])
        if name not in VARIABLES:
            hint = suggest(name, VARIABLES) or f"; there are {', '.join(VARIABLES)}; put text in quotes"
            raise Fault(f"there is no {name}{hint}", offset=token.at)
        return Node("var", VARIABLES[name], (name,), token.at)


def _is(node: Node, wanted: str) -> Node:
    if node.type != wanted:
        raise Fault(f"expected a {wanted}, not {_named(node)}", offset=node.at)
    return node


def _comparable(left: Node, right: Node, sign: _Token) -> None:
    if sign.text == "in":
        wanted = "string" if right.type == "map" else right.item
        if right.type not in ("list", "map"):
            raise Fault(f"in takes a list or a map, not {_named(right)}", offset=right.at)
        if left.type != wanted and right.args:
            raise Fault(f"{_named(left)} is never in {_named(right)}", offset=left.at)
        return
    alike = left.type == right.type or (left.type in _NUMBERS and right.type in _NUMBERS)
    if not alike or left.type in ("map", "list"):
        raise Fault(f"{_named(left)} and {_named(right)} cannot be compared", offset=sign.at)
    if left.type == "bool" and sign.text not in ("==", "!="):
        raise Fault(f"{sign.text} does not compare true and false", offset=sign.at)


def _arithmetic(left: Node, right: Node, sign: _Token) -> Node:
    allowed = {"+": ("int", "double", "string"), "%": ("int",)}.get(sign.text, _NUMBERS)
    if left.type != right.type or left.type not in allowed:
        hint = ": make both double() or int()" if {left.type, right.type} == set(_NUMBERS) else ""
        raise Fault(f"{_named(left)} {sign.text} {_named(right)} is not possible{hint}", offset=sign.at)
    return Node(sign.text, left.type, (left, right), left.at)


def _index(node: Node, key: Node) -> Node:
    if node.type == "map":
        return Node("key", "string", (node, _is(key, "string")), node.at)
    if node.type == "list":
        return Node("index", node.item, (node, _is(key, "int")), node.at)
    raise Fault(f"{_named(node)} has no items", offset=key.at)


def _list(items: list[Node], at: int) -> Node:
    for item in items:
        if item.type != items[0].type or item.type in ("list", "map"):
            raise Fault(f"a list of {items[0].type} cannot hold {_named(item)}", offset=item.at)
    return Node("list", "list", tuple(items), at, items[0].type if items else "")


def _has(arguments: list[Node], token: _Token) -> Node:
    if len(arguments) != 1 or arguments[0].op != "key":
        raise Fault("has takes a field, such as headers.cookie", offset=token.at)
    return Node("has", "bool", arguments[0].args, token.at)


def _method(node: Node, name: _Token, arguments: list[Node]) -> Node:
    known = METHODS.get(node.type, {})
    if name.text not in known:
        raise Fault(f"{_named(node)} has no method {name.text}{suggest(name.text, known)}", offset=name.at)
    return _call(name, [node, *arguments], (node.type, *known[name.text][0]), known[name.text][1])


def _call(name: _Token, arguments: list[Node], wanted: tuple[str, ...], result: str) -> Node:
    least = len([kind for kind in wanted if not kind.endswith("?")])
    if not least <= len(arguments) <= len(wanted):
        raise Fault(f"{name.text} takes {least} arguments, not {len(arguments)}", offset=name.at)
    for argument, kind in zip(arguments, wanted, strict=False):
        _argument(argument, kind.rstrip("?"))
    return Node(name.text, result, tuple(arguments), arguments[0].at if arguments else name.at)


def _argument(node: Node, kind: str) -> None:
    """Check one argument of a function or method."""
    if kind == "sized":
        if node.type not in ("string", "list"):
            raise Fault(f"{_named(node)} has no size", offset=node.at)
    elif kind == "scalar":
        if node.type not in ("int", "double", "string", "bool"):
            raise Fault(f"{_named(node)} cannot be converted", offset=node.at)
    elif kind in ("string", "list", "map", "timestamp"):
        _is(node, kind)
    else:
        if _is(node, "string").op != "literal":
            raise Fault(f"the {kind} must be a literal text", offset=node.at)
        try:
            _LITERALS[kind](node.args[0])
        except Fault as fault:
            raise Fault(str(fault), offset=node.at) from None
        except (ValueError, KeyError, OSError):
            raise Fault(f"{node.args[0]} is not a {kind}", offset=node.at) from None


def moment(text: str) -> float:
    """Parse a time such as 2026-12-24T18:00:00Z into seconds since 1970. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


_LITERALS: Final[dict[str, Any]] = {
    "backend": str,
    "site": str,
    "map name": str,
    "network": ip_network,
    "pattern": Pattern,
    "zone": ZoneInfo,
    "moment": moment,
}


def _number(token: _Token) -> Node:
    if "." in token.text:
        return Node("literal", "double", (float(token.text),), token.at)
    value = int(token.text, 0 if token.text.startswith("0x") else 10)
    if value >= 1 << 63:
        raise Fault("an int has 64 bits", offset=token.at)
    return Node("literal", "int", (value,), token.at)


def _text(token: _Token) -> str:
    raw = token.text.startswith("r")
    inner = token.text[1 + raw : -1]

    def unescape(match: "re.Match[str]") -> str:
        short, byte, unit, unknown = match.groups()
        if unknown is not None:
            raise Fault(f'unknown escape \\{unknown}; a literal backslash is two, or r"..."', offset=token.at)
        return _SHORT.get(short, short) if short else chr(int(byte or unit, 16))

    return inner if raw else _ESCAPE.sub(unescape, inner)
