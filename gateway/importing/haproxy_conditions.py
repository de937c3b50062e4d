"""ACLs and conditions of HAProxy as matches of routes (HAProxy's configuration manual, section 7)."""

import operator
import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from gateway.importing.haproxy_text import calls
from gateway.importing.matches import Match, both, either, negated, single
from gateway.importing.patterns import anchored, quoted
from gateway.importing.report import NotPossible

_METHODS: Final = frozenset({"str", "beg", "end", "sub", "dir", "dom", "reg", "found"})
_OPERATORS: Final = {"eq": "==", "ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_COMPARED: Final = {"==": operator.eq, ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_PREDEFINED: Final[dict[str, Match]] = {
    "TRUE": {},
    "FALSE": None,
    "HTTP": {},
    "WAIT_END": {},
    "METH_GET": {"method": ["GET", "HEAD"]},
    **{f"METH_{name}": {"method": name} for name in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT")},
    "LOCALHOST": {"source": ["127.0.0.0/8", "::1/128"]},
}
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


@dataclass(frozen=True, slots=True)
class Rate:
    """A condition on how often a client has come: more than `count` times in the period of its table.

    `table` is "" if the table is that of the counter (0 to 2; "": none).
    """

    count: int
    table: str
    counter: str


@dataclass(frozen=True, slots=True)
class User:
    """A condition on the client's password."""

    userlist: str


@dataclass(slots=True)
class Case:
    """One alternative of a condition: a match; and what no match can express."""

    match: Match = field(default_factory=dict)
    rate: Rate | None = None
    user: User | None = None
    known: bool = True
    """Whether the user has given the right password, or not."""
    status: list[int | str] = field(default_factory=list)
    """Statuses of a response."""


@dataclass(slots=True)
class Acl:
    """A named test: each of its lines is enough."""

    lines: list[list[str]] = field(default_factory=list)


class Conditions:
    """The conditions of a section, by its ACLs."""

    def __init__(self, directory: Path, ports: dict[int, list[str]], backends: Container[str]) -> None:
        self.backends = backends
        """Those that have a server."""
        self.acls: dict[str, Acl] = {}
        self._directory = directory
        self._ports = ports
        """Frontends by the port that they listen on."""

    def cases(self, words: list[str]) -> list[Case]:
        """The alternatives of `if …` or `unless …`; of nothing, one that always holds. Raises NotPossible."""
        if not words:
            return [Case()]
        kind, *rest = words
        if kind not in ("if", "unless"):
            raise NotPossible(f"{kind} was not understood here")
        alternatives = [[self._term(*term) for term in terms] for terms in _alternatives(rest)]
        if kind == "if":
            return [self._all(terms) for terms in alternatives]
        if all(len(terms) == 1 for terms in alternatives):
            return [self._all([(not held, test) for ((held, test),) in alternatives])]
        return [Case(negated(either(self._all(terms, special=False).match for terms in alternatives)))]

    def match(self, words: list[str]) -> Match:
        """The match of a condition without rates, users and responses. Raises NotPossible."""
        cases = self.cases(words)
        if any(case.rate or case.user or case.status for case in cases):
            raise NotPossible("a rate, a password or a status cannot be a condition here")
        return either(case.match for case in cases)

    def _term(self, held: bool, name: str | list[str]) -> tuple[bool, Any]:  # noqa: FBT001 - a parsed sign
        return held, self._named(name) if isinstance(name, str) else self._test(name)

    def _all(self, terms: list[tuple[bool, Any]], *, special: bool = True) -> Case:
        case = Case()
        for held, test in terms:
            if isinstance(test, dict | None):
                case.match = both(case.match, test if held else negated(test))
            elif not special:
                raise NotPossible("a rate, a password or a status cannot be part of this condition")
            elif isinstance(test, Rate):
                if not held or case.rate:
                    raise NotPossible("only one condition on a rate that is exceeded can be expressed")
                case.rate = test
            elif isinstance(test, User):
                case.user, case.known = test, held
            elif held:
                case.status += test
            else:
                raise NotPossible("a condition on a status cannot be negated: say which statuses it is for")
        return case

    def _named(self, name: str) -> Any:
        if name in self.acls:
            tests = [self._test(words) for words in self.acls[name].lines]
            if len(tests) == 1:
                return tests[0]
            if any(not isinstance(test, dict | None) for test in tests):
                raise NotPossible(f"{name} mixes kinds of tests")
            return either(tests)
        if name in _PREDEFINED:
            return _PREDEFINED[name]
        if name.startswith("HTTP_"):
            raise NotPossible("versions of HTTP are no condition here")
        raise NotPossible(f"there is no acl {name}")

    def _test(self, words: list[str]) -> Any:
        """A test: CRITERION FLAGS VALUES."""
        if not words:
            raise NotPossible("an empty test")
        (fetch, argument), *converters = calls(words[0])
        how, any_case, values = self._flags(words[1:])
        fetch, suffix = _without_suffix(fetch)
        how = suffix or how
        if any(name == "lower" for name, _ in converters):
            any_case = True
        others = [name for name, _ in converters if name not in ("lower", "host_only")]
        if others:
            raise NotPossible(f"the converter {others[0]} cannot be part of a condition: try a map in `when`")
        return self._criterion(fetch, argument, _Values(how, values, any_case=any_case))

    def _flags(self, words: list[str]) -> tuple[str, bool, list[str]]:
        how, any_case, values = "str", False, []
        at = 0
        while at < len(words):
            match words[at]:
                case "-i":
                    any_case = True
                case "-n" | "--" | "-u":
                    pass
                case "-m" if at + 1 < len(words):
                    at += 1
                    how = words[at]
                case "-f" if at + 1 < len(words):
                    at += 1
                    values += self._file(words[at])
                case other:
                    values.append(other)
            at += 1
        return how, any_case, values

    def _file(self, name: str) -> list[str]:
        try:
            lines = (self._directory / name).read_text("utf-8", "replace").splitlines()
        except OSError as error:
            raise NotPossible(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from None
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def _criterion(self, fetch: str, argument: str, values: "_Values") -> Any:
        name = argument.split(",", maxsplit=1)[0].strip()
        if fetch in _OF_NAMES:
            key = _OF_NAMES[fetch]
            if "," in argument:
                raise NotPossible("a match looks at all values of a name, not at one by its number")
            if fetch in ("hdr", "req.hdr"):
                values.listed = True
            return values.host() if key == "header" and name.lower() == "host" else values.of(key, name)
        if fetch in _PLAIN:
            return _PLAIN[fetch](values)
        if fetch == "dst_port":
            names = [frontend for value in values.values for frontend in self._ports.get(int(value), [])]
            return {"frontend": single(names)} if names else None
        if fetch == "nbsrv":
            return values.servers(name, none=name not in self.backends)
        if fetch == "http_auth":
            return User(name)
        if (rate := re.fullmatch(r"(?:sc([0-2]?)|src)_(http_req|conn)_rate", fetch)) is not None:
            return self._rate(rate[2], rate[1] or "", argument, values)
        raise NotPossible(_INSTEAD.get(fetch, f"{fetch} has no counterpart in a match"))

    @staticmethod
    def _rate(kind: str, counter: str, argument: str, values: "_Values") -> Rate:
        if kind == "conn":
            raise NotPossible(
                "rates of connections are not limited; see connections_per_source and handshakes_per_source"
            )
        sign, number = values.comparison()
        if sign not in (">", ">="):
            raise NotPossible("only a rate above a number can be a condition")
        first, *rest = (part.strip() for part in argument.split(","))
        if first.isdigit():  # sc_http_req_rate(0), sc_http_req_rate(0,table)
            counter, first = first, ""
        return Rate(number - (sign == ">="), rest[0] if rest else first, counter)


_INSTEAD: Final = {
    "rand": "a random choice is a split between backends here",
    "var": "variables do not exist: repeat the condition, or give the requests a class",
    "req.ssl_sni": "connections are not chosen by SNI: every frontend speaks HTTP",
    "be_conn": "see queue and max_connections of a backend",
    "fe_conn": "see limits: connections of a frontend",
    "avg_queue": "see qos.overload",
    "wait_end": "needs no counterpart",
    "base": "base is not one field here: test the host and the path",
}


class _Values:
    """What a test compares with, and how."""

    def __init__(self, how: str, values: list[str], *, any_case: bool) -> None:
        if how not in _METHODS:
            raise NotPossible(f"-m {how} has no counterpart: str, beg, end, sub, dir, dom, reg and found do")
        self.how, self.values, self.any_case = how, values, any_case
        self.listed = False
        """Whether commas separate values: each is compared."""

    def path(self) -> Match:
        """A test of the path."""
        if self.how == "found":
            return {}
        if not self.any_case and self.how in ("str", "beg") and all(value.startswith("/") for value in self.values):
            return {"path": single(value if self.how == "beg" else f"= {value}" for value in self.values)}
        return {"path": single(f"~ {self._pattern(value)}" for value in self.values)}

    def of(self, key: str, name: str) -> Match:
        """A test of a header, cookie or parameter."""
        if self.how == "found":
            return {key: {name: True}}
        if self.how == "str" and not self.any_case and not self.listed:
            return {key: {name: single(_plain(value) for value in self.values)}}
        return {key: {name: single(f"~{self._pattern(value)}" for value in self.values)}}

    def url(self) -> Match:
        """A test of path and query."""
        if self.how == "beg" and not self.any_case and not any("?" in value for value in self.values):
            return self.path()
        texts = [f"uri.matches({quoted(self._pattern(value))})" for value in self.values]
        return {} if self.how == "found" else {"when": " || ".join(texts)}

    def host(self) -> Match:
        """A test of the host. Host names have no case."""
        hosts = [value.lower() for value in self.values]
        if self.how == "str" and all(_HOST.fullmatch(host) for host in hosts):
            return {"host": single(hosts)}
        if self.how == "found":
            return {"header": {"Host": True}}
        if self.how == "end" and all(host.startswith(".") and _HOST.fullmatch(host[1:]) for host in hosts):
            return {"host": single(f"*{host}" for host in hosts)}
        self.any_case = True
        return {"header": {"Host": single(f"~{self._pattern(value)}" for value in self.values)}}

    def comparison(self) -> tuple[str, int]:
        """Operator and number. Raises NotPossible."""
        if len(self.values) == 2 and self.values[0] in _OPERATORS and self.values[1].isdigit():
            return _OPERATORS[self.values[0]], int(self.values[1])
        if len(self.values) == 1 and self.values[0].isdigit():
            return "==", int(self.values[0])
        raise NotPossible(f"{' '.join(self.values)} is not a comparison with one number")

    def servers(self, backend: str, *, none: bool) -> Match:
        """A test of how many servers of a backend are up; `none`: it has none at all."""
        sign, number = self.comparison()
        if not none:
            return {"when": f'up("{backend}") {sign} {number}'}
        return {} if _COMPARED[sign](0, number) else None

    def _pattern(self, value: str) -> str:
        return anchored(value, self.how, any_case=self.any_case, listed=self.listed)


def _plain(value: str) -> str:
    """A text to equal: one that begins as a pattern does is written as a pattern."""
    return f"~{anchored(value, 'str')}" if value.startswith(("~", "!~")) or value in ("true", "false") else value


_OF_NAMES: Final = {
    **dict.fromkeys(("hdr", "req.hdr", "req.fhdr", "fhdr"), "header"),
    **dict.fromkeys(("cook", "req.cook"), "cookie"),
    **dict.fromkeys(("url_param", "urlp"), "query"),
}
_PLAIN: Final[dict[str, Callable[[_Values], Any]]] = {
    "path": _Values.path,
    **dict.fromkeys(("url", "pathq"), _Values.url),
    "method": lambda values: {"method": single(value.upper() for value in values.values)},
    "src": lambda values: {"source": single(str(ip_network(value, strict=False)) for value in values.values)},
    "ssl_fc": lambda values: {"scheme": "https" if values.values in ([], ["1"]) else "http"},
    "ssl_fc_sni": _Values.host,
    "always_true": lambda _: {},
    "always_false": lambda _: None,
    "status": lambda values: [value if "-" in value else int(value) for value in _statuses(values.values)],
}
"""Criteria without an argument."""


def _without_suffix(fetch: str) -> tuple[str, str]:
    """`path_beg` is path, beg."""
    name, _, suffix = fetch.rpartition("_")
    return (name, suffix) if name and suffix in _METHODS - {"str", "found"} else (fetch, "")


def _statuses(values: list[str]) -> Iterator[str]:
    if values and values[0] in _OPERATORS and len(values) == 2:
        low, high = {"ge": (values[1], "599"), "gt": (str(int(values[1]) + 1), "599"), "eq": (values[1],) * 2}.get(
            values[0], ("100", values[1])
        )
        yield f"{low}-{high}" if low != high else low
        return
    yield from (value.replace(":", "-") for value in values)


def _alternatives(words: list[str]) -> list[list[tuple[bool, str | list[str]]]]:
    """Split at `or`: lists of (whether it must hold, name or words of an anonymous test)."""
    found: list[list[tuple[bool, str | list[str]]]] = [[]]
    held = True
    at = 0
    while at < len(words):
        word = words[at]
        if word.lower() == "or" or word == "||":
            found.append([])
        elif word == "!":
            held = not held
        elif word in ("{", "!{"):
            if "}" not in words[at:]:
                raise NotPossible("a brace is not closed")
            end = words.index("}", at)
            found[-1].append((held != (word == "!{"), words[at + 1 : end]))
            held, at = True, end
        else:
            name = word.lstrip("!")
            found[-1].append((held != bool((len(word) - len(name)) % 2), name))
            held = True
        at += 1
    return found
