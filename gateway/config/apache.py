"""Parser of Apache's mod_rewrite files: RewriteEngine, RewriteBase, RewriteCond, RewriteRule and RewriteMap.

Any other directive in such a file, and every flag, variable or test without a meaning here, is an error with line and
reason: nothing is ignored silently. Described in httpd.apache.org/docs/2.4/mod/mod_rewrite.html.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gateway.config.pattern import Pattern
from gateway.config.problem import Fault, suggest

MAX_RULES: Final = 10_000

Part: TypeAlias = tuple[str, str, "tuple[Part, ...]", "tuple[Part, ...] | None"]
"""A piece of an expandable text: (kind, value, key, default). Kinds: text; rule and cond (the number of a group); var
(a name); header, env (a name); map (a name, with its key and default)."""

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
NOT_HERE: Final = {
    "REMOTE_USER": "the gateway does not know who has logged in",
    "REMOTE_IDENT": "nobody asks clients for it",
    "REMOTE_PORT": "the ports of clients are not kept",
    "AUTH_TYPE": "the gateway does not know who has logged in",
    "SERVER_ADDR": "a gateway has several addresses; say in match which requests the file is for, or use SERVER_PORT",
    "SERVER_ADMIN": "write the address itself",
    "SERVER_SOFTWARE": "write the name itself",
    "API_VERSION": "there are no modules of Apache here",
    "HANDLER": "there are no handlers here",
    "CONTEXT_PREFIX": "there are no aliases here; write the path itself",
    "CONTEXT_DOCUMENT_ROOT": "write DOCUMENT_ROOT, or the path itself",
}
"""Variables of Apache without a value here, and what to do."""
INTERNAL: Final = ("toupper", "tolower", "escape", "unescape")

_RULE_FLAGS: Final = {
    "b": "B", "escapebackreferences": "B", "bnp": "BNP", "backrefnoplus": "BNP", "c": "C", "chain": "C",
    "co": "CO", "cookie": "CO", "e": "E", "env": "E", "end": "END", "f": "F", "forbidden": "F", "g": "G",
    "gone": "G", "l": "L", "last": "L", "n": "N", "next": "N", "nc": "NC", "nocase": "NC", "ne": "NE",
    "noescape": "NE", "ns": "NS", "nosubreq": "NS", "p": "P", "proxy": "P", "pt": "PT", "passthrough": "PT",
    "qsa": "QSA", "qsappend": "QSA", "qsd": "QSD", "qsdiscard": "QSD", "qsl": "QSL", "qslast": "QSL", "r": "R",
    "redirect": "R", "s": "S", "skip": "S", "t": "T", "type": "T", "unsafeallow3f": "UNSAFEALLOW3F",
    "dpi": "DPI", "discardpath": "DPI", "unsafeprefixstat": "UNSAFEPREFIXSTAT",
}  # fmt: skip
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
_SECTION: Final = re.compile(r"<(/?)(\w+)\s*([^>]*)>")
_ARGUMENT: Final = re.compile(r"\s*(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|((?![\"'])(?:[^\s\\]|\\.)+))(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Cond:
    """A RewriteCond. kind: regex, less, more, equal, at_most, at_least, file (text: the letter), or int (eq, …)."""

    test: tuple[Part, ...]
    kind: str
    text: str
    against: tuple[Part, ...]
    negate: bool
    ignore_case: bool
    alternative: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """A RewriteRule with its conditions; `to` is None for "-"."""

    line: int
    pattern: str
    negate: bool
    to: tuple[Part, ...] | None
    flags: Mapping[str, str]
    environment: tuple[tuple[Part, ...], ...]
    cookies: tuple[tuple[Part, ...], ...]
    conds: tuple[Cond, ...]


@dataclass(slots=True)
class Rules:
    """A parsed file. A map is a dict, or the name of an internal function; `random`: maps with alternatives."""

    base: str | None = None
    enabled: bool = False
    rules: list[Rule] = field(default_factory=list)
    maps: dict[str, dict[str, str] | str] = field(default_factory=dict)
    random: set[str] = field(default_factory=set)


class ApacheError(Exception):
    """The problems of a file: (line, reason) for each."""

    def __init__(self, problems: list[tuple[int, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"line {line}: {reason}" for line, reason in problems))


def parse(content: bytes, read: Callable[[str], bytes]) -> Rules:
    """Parse the rules of a file; `read` returns the content of a map's file. Raises ApacheError with all problems."""
    return _Reader(read).run(content.decode("latin-1"))


def files(content: bytes) -> Iterator[tuple[int, str]]:
    """The names of the map files in `content`, each with its line."""
    for number, line in _lines(content.decode("latin-1")):
        words = line.split()
        if len(words) == 3 and words[0].lower() == "rewritemap" and words[2].lower().startswith(("txt:", "rnd:")):
            yield number, words[2].strip("\"'")[4:]


def target(rule: Rule) -> str | None:
    """The host in the URL of a [P]."""
    if "P" not in rule.flags or not rule.to:
        return None
    return re.split("[/?]", rule.to[0][1].split("://", 1)[1], maxsplit=1)[0]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines (lines that end with a backslash are joined to the next), with the number of the first line."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first or number
        if line.endswith("\\"):
            joined += line[:-1]
            continue
        stripped = (joined + line).strip()
        if stripped and not stripped.startswith("#"):
            yield first, stripped
        joined, first = "", 0


class _Reader:
    def __init__(self, read: Callable[[str], bytes]) -> None:
        self.read = read
        self.problems: list[tuple[int, str]] = []
        self.conds: list[Cond] = []
        self.sections: list[tuple[str, bool]] = []
        self.used: list[tuple[int, str]] = []
        self.found = Rules()

    def run(self, text: str) -> Rules:
        number = 1
        for number, line in _lines(text):
            try:
                self.line(number, line)
            except Fault as fault:
                self.problems.append((number, str(fault)))
        if self.sections:
            self.problems.append((number, f"<{self.sections[-1][0]}> is not closed"))
        if self.conds:
            self.problems.append((number, "RewriteCond is not followed by a RewriteRule"))
        for line_number, name in self.used:
            if name not in self.found.maps:
                self.problems.append((line_number, f"there is no RewriteMap {name}{suggest(name, self.found.maps)}"))
        if self.problems:
            raise ApacheError(sorted(self.problems))
        if not self.found.enabled:
            self.found.rules.clear()  # the last RewriteEngine decides, also on the rules before it
        return self.found

    def line(self, number: int, line: str) -> None:
        if section := _SECTION.fullmatch(line):
            self.section(*section.groups())
            return
        if any(skipped for _, skipped in self.sections):
            return
        name, _, rest = line.partition(" ") if " " in line.split("\t", maxsplit=1)[0] else line.partition("\t")
        match name.lower():
            case "rewriteengine":
                if rest.strip().lower() not in ("on", "off"):
                    raise Fault("RewriteEngine must be on or off")
                self.found.enabled = rest.strip().lower() == "on"
            case "rewritebase":
                (self.found.base,) = self.arguments(rest, 1, 1)
                if not self.found.base.startswith("/"):
                    raise Fault("RewriteBase must begin with /")
            case "rewritecond":
                self.cond(number, rest)
            case "rewriterule":
                self.rule(number, rest)
            case "rewritemap":
                self.map(rest)
            case _:
                raise Fault(f"{name} is not supported: only RewriteEngine, -Base, -Cond, -Rule and -Map are")

    def section(self, closes: str, name: str, argument: str) -> None:
        if closes:
            if not self.sections or self.sections[-1][0].lower() != name.lower():
                raise Fault(f"</{name}> has no matching opening tag")
            self.sections.pop()
            return
        if name.lower() != "ifmodule":
            self.sections.append((name, False))
            raise Fault(f"<{name}> is not supported: select the file's requests with match in the site file")
        module = argument.strip().strip('"')
        ours = module.lstrip("!").strip() in ("mod_rewrite.c", "rewrite_module", "rewrite")
        self.sections.append((name, ours and module.startswith("!")))

    def arguments(self, text: str, least: int, most: int) -> list[str]:
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

    def map(self, text: str) -> None:
        name, source = self.arguments(text, 2, 2)
        kind, _, where = source.partition(":")
        if kind.lower() == "int":
            if where not in INTERNAL:
                raise Fault(f"there is no internal function {where}{suggest(where, INTERNAL)}")
            self.found.maps[name] = where
            return
        if kind.lower() not in ("txt", "rnd"):
            raise Fault(
                f"maps are txt, rnd or int, and this is {kind}: a program or database is never asked; "
                "write its entries to a text file and name that as txt:FILE"
            )
        entries: dict[str, str] = {}
        for line in self.read(where).decode("latin-1").splitlines():
            words = line.split("#", 1)[0].split() if line.startswith("#") else line.split()
            if len(words) >= 2:
                entries.setdefault(words[0], words[1])
        self.found.maps[name] = entries
        if kind.lower() == "rnd":
            self.found.random.add(name)

    def cond(self, number: int, text: str) -> None:
        arguments = self.arguments(text, 2, 3)
        test, pattern = arguments[:2]
        flags = (
            self.flags(arguments[2], {"nc": "NC", "nocase": "NC", "or": "OR", "ornext": "OR", "nv": "NV"})
            if len(arguments) == 3
            else {}
        )
        if test == "expr":
            raise Fault("Apache expressions are not supported: use `when` in the site file")
        negate = pattern.startswith("!")
        kind, value, against = self.comparison(number, pattern[negate:], ignore_case="NC" in flags)
        parts = self.expandable(number, test)
        self.conds.append(Cond(parts, kind, value, against, negate, "NC" in flags, "OR" in flags))

    def comparison(self, number: int, pattern: str, *, ignore_case: bool) -> tuple[str, str, tuple[Part, ...]]:
        """The operand of a CondPattern: kind, text, and an expandable text for lexical comparisons."""
        for sign, kind in (("<=", "at_most"), (">=", "at_least"), ("<", "less"), (">", "more"), ("=", "equal")):
            if pattern.startswith(sign) and len(pattern) > len(sign):
                rest = pattern[len(sign) :]
                return kind, "", self.expandable(number, "" if rest == '""' else rest)
        if pattern.startswith("-") and len(pattern) == 2:
            if pattern[1] not in _FILE_TESTS:
                raise Fault(f"there is no test {pattern}")
            return "file", pattern[1], ()
        if pattern[:1] == "-" and pattern[1:3].lower() in _INTEGER_TESTS:
            return pattern[1:3].lower(), "", self.expandable(number, pattern[3:].strip())
        Pattern(pattern, ignore_case=ignore_case, backtrack=True)
        return "regex", pattern, ()

    def rule(self, number: int, text: str) -> None:
        conds, self.conds = tuple(self.conds), []
        arguments = self.arguments(text, 2, 3)
        pattern, to = arguments[:2]
        environment: list[tuple[Part, ...]] = []
        cookies: list[tuple[Part, ...]] = []
        flags = self.flags(arguments[2], _RULE_FLAGS) if len(arguments) == 3 else {}
        for name, found in (("E", environment), ("CO", cookies)):
            found += [self.expandable(number, value) for value in flags.pop(name, "").split("\0") if value]
        self.check(flags, to)
        negate = pattern.startswith("!")
        Pattern(pattern[negate:], ignore_case="NC" in flags, backtrack=True)
        if len(self.found.rules) == MAX_RULES:
            raise Fault(f"more than {MAX_RULES} rules")
        parts = None if to == "-" else self.expandable(number, to)
        self.found.rules.append(
            Rule(number, pattern[negate:], negate, parts, flags, tuple(environment), tuple(cookies), conds)
        )

    def check(self, flags: dict[str, str], to: str) -> None:
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

    def flags(self, text: str, known: dict[str, str]) -> dict[str, str]:
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

    def expandable(self, number: int, text: str) -> tuple[Part, ...]:
        parts, at = _expandable(text, 0, "")
        del at
        self.used += [(number, name) for name in _maps(parts)]
        return parts


def _maps(parts: tuple[Part, ...]) -> Iterator[str]:
    for kind, value, key, default in parts:
        if kind == "map":
            yield value
        yield from _maps(key)
        yield from _maps(default or ())


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
    if colon and family.upper() == "HTTP":
        return "header", rest, (), None
    if colon and family.upper() == "ENV":
        return "env", rest, (), None
    if colon and family.upper() in ("LA-U", "LA-F") and rest.upper() in FILE_NAMES:
        return "var", "LA-F", (), None
    if colon and family.upper() in ("LA-U", "LA-F"):
        return _variable(rest)  # nothing else changes on the way to a file
    if colon:
        raise Fault(f"%{{{name}}} is not supported: there are no variables of other modules")
    if name.upper() in NOT_HERE:
        raise Fault(f"the variable {name} is not supported: {NOT_HERE[name.upper()]}")
    if name.upper() not in VARIABLES:
        raise Fault(f"the variable {name} is not supported{suggest(name.upper(), VARIABLES)}")
    return "var", name.upper(), (), None
