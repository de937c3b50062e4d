"""Which location of nginx gets a request: matches in an order that keeps nginx's precedence.

nginx takes an exact location; else it finds the longest prefix, and if that has no `^~`, the first pattern that matches
(nginx.org: ngx_http_core_module, location).
"""

from dataclasses import dataclass
from typing import Final

from gateway.importing.matches import Match, both, single
from gateway.importing.nginx_tree import Directive
from gateway.importing.patterns import with_names
from gateway.importing.report import NotPossible

_MODIFIERS: Final = frozenset({"=", "^~", "~", "~*"})


@dataclass(frozen=True, slots=True)
class Location:
    """A location: modifier (`=`, `^~`, `~`, `~*` or nothing) and what it looks for."""

    directive: Directive
    modifier: str
    text: str

    @classmethod
    def of(cls, directive: Directive) -> "Location":
        """Of a directive `location`. Raises NotPossible for a named one."""
        words = list(directive.args)
        modifier = words.pop(0) if words and words[0] in _MODIFIERS else ""
        text = words[0] if words else "/"
        if not modifier:
            for each in ("~*", "^~", "=", "~"):
                if text.startswith(each):
                    modifier, text = each, text[len(each) :]
                    break
        if text.startswith("@"):
            raise NotPossible("a named location: its directives belong where it is named")
        return cls(directive, modifier, text)

    def match(self) -> tuple[Match, dict[str, str]]:
        """The match for its paths alone, and what the groups of its pattern are called."""
        if self.modifier in ("~", "~*"):
            pattern, names = with_names(self.text)
            groups = {number: f"{{{name}}}" for number, name in names.items()}
            groups |= {name: f"{{{name}}}" for name in names.values()}
            return {"path": f"~ {'(?i)' if self.modifier == '~*' else ''}{pattern}"}, groups
        if self.modifier == "=":
            return {"path": f"= {self.text}"}, {}
        return ({} if self.text == "/" else {"path": self.text}), {}


@dataclass(frozen=True, slots=True)
class Place:
    """A location in its order, with its match; `longer` are prefixes that begin with its own."""

    location: Location
    match: Match
    groups: dict[str, str]
    wanted: Match
    """The match that holds wherever in the order the route stands."""


def in_order(locations: list[Location]) -> list[Place]:
    """The locations in the order of their routes."""
    exact = [each for each in locations if each.modifier == "="]
    patterns = [each for each in locations if each.modifier in ("~", "~*")]
    prefixes = sorted((each for each in locations if each.modifier in ("", "^~")), key=lambda each: -len(each.text))
    fixed = [each for each in prefixes if each.modifier == "^~"] if patterns else []
    found = [_place(each, None, exact, prefixes) for each in exact]
    for each in fixed:
        longer = [other.text for other in prefixes if other.text.startswith(each.text) and other.text != each.text]
        plain = [text for text in longer if not any(other.text == text for other in fixed)]
        found.append(_place(each, {"not": [{"path": single(plain)}]} if plain else None, exact, prefixes))
    found += [_place(each, None, exact, prefixes) for each in patterns]
    found += [_place(each, None, exact, prefixes) for each in prefixes if each not in fixed]
    return found


def _place(location: Location, beside: Match, exact: list[Location], prefixes: list[Location]) -> Place:
    match, groups = location.match()
    others: list[str] = []
    if location.modifier in ("", "^~"):
        others += [f"= {each.text}" for each in exact if each.text.startswith(location.text)]
        longer = [each.text for each in prefixes if each.text.startswith(location.text) and each.text != location.text]
        others += longer
    wanted = both(match, {"not": [{"path": single(others)}]} if others else {})
    return Place(location, both(match, beside or {}), groups, wanted)
