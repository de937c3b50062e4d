"""The conditions of a route or a class."""

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import Field

from gateway.config import expression
from gateway.config.fields import (
    ClassName,
    CookieMatches,
    ExpressionField,
    FrontendName,
    Given,
    HeaderMatches,
    Host,
    Method,
    Model,
    Network,
    OneOrMany,
    PathField,
    PathMatch,
    QueryMatches,
    Some,
)
from gateway.config.pattern import Pattern
from gateway.config.problem import Loc

_VALUE_FORMS: Final = (
    'text to equal, "~" and a regular expression, "!~" and one that must not match, true (present) or false (absent).'
)


class Match(Model):
    """The requests of a route; all given keys must match, of a list one item."""

    frontend: Annotated[tuple[FrontendName, ...], OneOrMany()] = Field(
        (), description="Name of the frontend that the request has come to."
    )
    scheme: Annotated[Literal["http", "https"] | None, Given()] = Field(None, description="http or https.")
    host: Annotated[tuple[Host, ...], OneOrMany()] = Field(
        (), description='Requested host, without port; "*.example.com" is every host below example.com.'
    )
    method: Annotated[tuple[Method, ...], OneOrMany()] = Field((), description="GET, POST and so on.")
    path: Annotated[tuple[PathField, ...], OneOrMany()] = Field(
        (),
        description='Prefix of the path, "= /exact" for the whole of it, or "~" and a regular expression (RE2) that '
        "matches somewhere in it.",
    )
    query: QueryMatches = Field((), description=f"Parameters of the query, decoded: {_VALUE_FORMS}")
    header: HeaderMatches = Field((), description=f"Headers of the request: {_VALUE_FORMS}")
    cookie: CookieMatches = Field((), description=f"Cookies: {_VALUE_FORMS}")
    source: Annotated[tuple[Network, ...], OneOrMany()] = Field((), description="Networks the client is in.")
    class_: Annotated[tuple[ClassName, ...], OneOrMany()] = Field(
        (), alias="class", description="Class that an earlier route has given the request."
    )
    when: Annotated[ExpressionField | None, Given()] = Field(
        None, description="Expression over the request, the time and the state of the backends (a subset of CEL)."
    )

    not_: Annotated[tuple["Match", ...], OneOrMany()] = Field(
        (), alias="not", description="A match that must not hold; of a list, none may."
    )
    any_: Annotated[tuple["Match", ...], Some()] = Field(
        (), alias="any", description="Matches of which one must hold, beside the rest."
    )
    all_: Annotated[tuple["Match", ...], Some()] = Field(
        (), alias="all", description="Matches that must all hold, beside the rest."
    )

    @property
    def everything(self) -> bool:
        """Whether it matches every request, so that none is left for later routes."""
        return (
            self.scheme is None
            and not (self.host or self.method or self.query or self.header or self.cookie or self.source)
            and not (self.frontend or self.class_ or self.not_ or self.any_ or self.all_)
            and self.when is None
            and (not self.path or any(item == PathMatch("/", exact=False) for item in self.path))
        )

    def places_of(self, *variables: str) -> Iterator[tuple[Loc, str, int]]:
        """Where this match, or one within it, asks for `class` or an expression uses one of `variables`.

        The place, the variable, and its position within its text.
        """
        if self.class_ and "class" in variables:
            yield ("class",), "class", 0
        if self.when is not None:
            for name, at in expression.variables(self.when.node):
                if name in variables:
                    yield ("when",), name, at
        for key, matches in (("not", self.not_), ("any", self.any_), ("all", self.all_)):
            for i, match in enumerate(matches):
                yield from (((key, i, *loc), name, at) for loc, name, at in match.places_of(*variables))

    @cached_property
    def groups(self) -> dict[str, str]:
        """The named groups of the regular expressions, each with the key (path, query, …) that it comes from."""
        found = dict.fromkeys(
            (name for item in self.path if item.regex for name, _ in Pattern(item.path).names), "path"
        )
        for key in ("query", "header", "cookie"):
            for _, items in getattr(self, key):
                for item in items:
                    if item.kind == "matches":
                        found |= dict.fromkeys((name for name, _ in Pattern(item.text).names), key)
        return found
