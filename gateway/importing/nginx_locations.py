"""Which location of nginx gets a request: matches in an order that keeps nginx's precedence.

nginx takes an exact location; else it finds the longest prefix, and if that has no `^~`, the first pattern that matches
(nginx.org: ngx_http_core_module, location). In the one found it looks again among the locations inside of it: an exact
one and a pattern there come before the patterns outside, a prefix there does not.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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
    inner: "tuple[Location, ...]" = ()

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
        return cls(directive, modifier, text, tuple(cls.inside(directive)))

    @classmethod
    def inside(cls, block: Directive) -> "Iterator[Location]":
        """Those of a block but the named ones."""
        for directive in block.all("location"):
            with suppress(NotPossible):
                yield cls.of(directive)

    @property
    def is_pattern(self) -> bool:
        """Whether it looks for a regular expression."""
        return self.modifier in ("~", "~*")

    def match(self) -> tuple[Match, dict[str, str]]:
        """The match for its paths alone, and what the groups of its pattern are called."""
        if self.is_pattern:
            pattern, names = with_names(self.text)
            groups = {number: f"{{{name}}}" for number, name in names.items()}
            groups |= {name: f"{{{name}}}" for name in names.values()}
            return {"path": f"~ {'(?i)' if self.modifier == '~*' else ''}{pattern}"}, groups
        if self.modifier == "=":
            return {"path": f"= {self.text}"}, {}
        return ({} if self.text == "/" else {"path": self.text}), {}


@dataclass(frozen=True, slots=True)
class Place:
    """A location in its order, with its match, and the locations around it, the outermost first."""

    location: Location
    match: Match
    groups: dict[str, str]
    wanted: Match
    """The match that holds wherever in the order the route stands."""
    around: tuple[Directive, ...] = ()
    decided: bool = False
    """No pattern outside is tried once this one is found."""


def in_order(locations: Sequence[Location]) -> list[Place]:
    """The locations in the order of their routes, with those inside of them."""
    exact = [each for each in locations if each.modifier == "="]
    patterns = [each for each in locations if each.is_pattern]
    prefixes = sorted((each for each in locations if each.modifier in ("", "^~")), key=lambda each: -len(each.text))
    fixed = [each for each in prefixes if each.modifier == "^~"] if patterns else []
    found = [_place(each, {}, exact, prefixes) for each in exact]
    for each in prefixes if patterns else []:
        longer = [other.text for other in prefixes if other.text.startswith(each.text) and other.text != each.text]
        if each in fixed:
            plain = [text for text in longer if not any(other.text == text for other in fixed)]
            found += _group(each, _none_of(plain), exact, prefixes)
        else:
            found += _hoisted(each, _place(each, _none_of(longer), exact, prefixes))
    for each in patterns:
        found += [replace(place, decided=True) for place in _group(each, {}, exact, prefixes)]
    for each in prefixes:
        if each not in fixed:
            found += [place for place in _group(each, {}, exact, prefixes) if not (patterns and place.decided)]
    return found


def _none_of(prefixes: list[str]) -> Match:
    return {"not": [{"path": single(prefixes)}]} if prefixes else {}


def _group(location: Location, beside: Match, exact: list[Location], prefixes: list[Location]) -> list[Place]:
    """A location behind those inside of it."""
    own = _place(location, beside, exact, prefixes)
    return [*_inside(location, own), own]


def _hoisted(location: Location, own: Place) -> Iterator[Place]:
    """What is found inside of a location before the patterns that stand beside that one are tried."""
    hidden = _none_of([each.text for each in location.inner if each.modifier == "^~"])
    for place in _inside(location, own):
        if place.decided:
            pattern = place.location.is_pattern
            yield replace(place, match=both(place.match, hidden)) if pattern else place


def _inside(location: Location, own: Place) -> Iterator[Place]:
    """The locations inside of one, for the requests that come there."""
    rest = {key: value for key, value in (own.match or {}).items() if key != "path"}
    for place in in_order(location.inner):
        # What begins with a longer path, or is that path, is in the outer location by itself.
        within = rest if not location.is_pattern and not place.location.is_pattern else own.match
        yield replace(
            place,
            match=both(place.match, within),
            wanted=both(place.wanted, own.wanted),
            groups={**own.groups, **place.groups},
            around=(location.directive, *place.around),
        )


def _place(location: Location, beside: Match, exact: list[Location], prefixes: list[Location]) -> Place:
    match, groups = location.match()
    others: list[str] = []
    if location.modifier in ("", "^~"):
        others += [f"= {each.text}" for each in exact if each.text.startswith(location.text)]
        longer = [each.text for each in prefixes if each.text.startswith(location.text) and each.text != location.text]
        others += longer
    wanted = both(match, {"not": [{"path": single(others)}]} if others else {})
    decided = location.modifier == "=" or location.is_pattern
    return Place(location, both(match, beside), groups, wanted, decided=decided)
