"""Which server of nginx gets a request: by address, then by the kinds of names, in nginx's order of precedence."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.importing.matches import Match, either
from gateway.importing.nginx_tree import Directive
from gateway.importing.patterns import with_names

EXACT, LEADING, TRAILING, PATTERN, DEFAULT = range(5)
"""Kinds of names, in the order in which nginx looks (nginx.org: Server names)."""
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


@dataclass(frozen=True, slots=True)
class Name:
    """A server name of a kind; of wildcards the longest counts, of patterns the first."""

    kind: int
    text: str

    @property
    def rank(self) -> tuple[int, int]:
        """Where it stands among the names of other servers."""
        return self.kind, -len(self.text) if self.kind in (LEADING, TRAILING) else 0

    def match(self) -> tuple[Match, dict[str, str]]:
        """The match for it, and what its groups are called."""
        if self.kind == EXACT:
            return {"host": self.text}, {}
        if self.kind == LEADING:
            return {"host": f"*{self.text}"}, {}
        if self.kind == TRAILING:
            pattern = f"(?i)^{re.escape(self.text)}"
            return {"header": {"Host": f"~{pattern}"}}, {}
        pattern, names = with_names(self.text)
        if pattern.endswith("$") and not pattern.endswith("\\$"):
            pattern = f"{pattern[:-1]}(:[0-9]+)?$"
        return {"header": {"Host": f"~(?i){pattern}"}}, {name: f"{{{name}}}" for name in names.values()}

    def covers(self, other: "Name") -> bool:
        """Whether some host may have both names."""
        pair = {self.kind: self.text, other.kind: other.text}
        if set(pair) == {EXACT, LEADING}:
            return pair[EXACT].endswith(pair[LEADING])
        if set(pair) == {EXACT, TRAILING}:
            return pair[EXACT].startswith(pair[TRAILING])
        return set(pair) != {EXACT} or self.text == other.text


def names_of(server: Directive) -> list[Name]:
    """The names of a server."""
    found: list[Name] = []
    for directive in server.all("server_name"):
        for word in directive.args:
            text = word.lower()
            if text.startswith("~"):
                found.append(Name(PATTERN, word[1:]))
            elif text.startswith("*."):
                found.append(Name(LEADING, text[1:]))
            elif text.startswith("."):
                found += [Name(EXACT, text[1:]), Name(LEADING, text)]
            elif text.endswith(".*"):
                found.append(Name(TRAILING, text[:-1]))
            elif text not in ("", "_") and _HOST.fullmatch(text):
                found.append(Name(EXACT, text))
    return list(dict.fromkeys(found))


@dataclass(slots=True)
class Part:
    """Routes of one server for some of its names; without names, for all hosts that no other server has."""

    server: Directive
    frontends: list[str]
    names: list[Name] = field(default_factory=list)

    @property
    def rank(self) -> tuple[int, int]:
        """Its place in the order of nginx."""
        return max((name.rank for name in self.names), default=(DEFAULT, 0))

    def match(self) -> tuple[Match, dict[str, str]]:
        """The match for its hosts, and the groups of its only name."""
        if not self.names:
            return {}, {}
        made = [name.match() for name in self.names]
        return either(match for match, _ in made), made[0][1] if len(made) == 1 else {}


def in_order(servers: list[tuple[Directive, list[str], list[str]]]) -> list[Part]:
    """The parts of all servers in the order of their routes.

    Each server comes with the frontends that it is in, and those of them whose default it is.
    """
    parts: list[Part] = []
    for server, frontends, default in servers:
        parts += [Part(server, frontends, [name]) for name in names_of(server)]
        if default:
            parts.append(Part(server, default))
    parts.sort(key=lambda part: part.rank)  # stable: patterns stay in the order of the file
    return _joined(parts)


def _joined(parts: list[Part]) -> list[Part]:
    """Let parts of one server be one, where no part between them may want the same requests."""
    made: list[Part] = []
    for part in parts:
        for at in range(len(made) - 1, -1, -1):
            before = made[at]
            if before.server is not part.server or set(part.frontends) != set(before.frontends):
                continue
            if not _alike(before, part):
                continue
            between = made[at + 1 :]
            if not any(_meet(other, part) for other in between):  # the later one can stand where the earlier one does
                before.names = [*before.names, *part.names] if part.names else []
                break
            if not any(_meet(other, before) for other in between):
                del made[at]
                made.append(Part(part.server, part.frontends, [*before.names, *part.names] if part.names else []))
                break
        else:
            made.append(part)
    return made


def _alike(before: Part, part: Part) -> bool:
    """Whether their routes are the same but for the host: those of patterns may use their groups."""
    return bool(before.names) and not any(name.kind == PATTERN for name in (*before.names, *part.names))


def _meet(one: Part, other: Part) -> bool:
    """Whether a request may be for both."""
    if not set(one.frontends) & set(other.frontends):
        return False
    if not one.names or not other.names:
        return True
    return any(first.covers(second) for first in one.names for second in other.names)


def described(frontends: list[str], names: list[str]) -> dict[str, Any]:
    """A match for some of the frontends, if there are others."""
    if set(names) == set(frontends):
        return {}
    return {"frontend": names if len(names) > 1 else names[0]}
