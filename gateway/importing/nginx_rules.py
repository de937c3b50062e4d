"""What nginx does before it passes a request on: return, rewrite, if, set (ngx_http_rewrite_module)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.importing.draft import Draft
from gateway.importing.matches import Match, both, either, negated
from gateway.importing.nginx_maps import Choice
from gateway.importing.nginx_text import Texts, expression_of, field_of, variable
from gateway.importing.nginx_tree import Directive
from gateway.importing.patterns import anchored, quoted, with_names
from gateway.importing.report import MISFITS, NotPossible, reason

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_WITH_QUERY: Final[Match] = {"when": 'uri.contains("?")'}
RULES: Final = ("return", "rewrite", "if", "set", "break")


@dataclass(slots=True)
class Rewrite:
    """A rewrite that stays in its location (break)."""

    match: Match
    to: str


class Rules:
    """Makes the routes of such directives."""

    def __init__(self, draft: Draft, choices: Mapping[str, Choice]) -> None:
        self.draft = draft
        self._choices = choices
        """The variables of maps."""

    def add(self, directives: list[Directive], base: Match, texts: Texts) -> tuple[list[Rewrite], bool]:
        """Add the routes for requests of `base`.

        Returns the rewrites that stay in their location, and whether an answer is always given.
        """
        kept: list[Rewrite] = []
        for at, directive in enumerate(directives):
            self.draft.at = directive.line
            try:
                ended = self._one(directive, base, texts, kept)
                self.draft.report.taken(directive.line)
            except MISFITS as why:
                self.draft.report.impossible(directive.line, f"{reason(why)}; left out")
                for each in directive.block:
                    self.draft.report.impossible(each.line, "left out with the condition around it")
                continue
            if ended:
                for each in directives[at + 1 :]:
                    self.draft.report.needless(each.line, "never reached")
                return kept, directive.name == "return"
        return kept, False

    def _one(self, directive: Directive, base: Match, texts: Texts, kept: list[Rewrite]) -> bool:
        match directive.name:
            case "return":
                self.answer(directive, base, texts)
                return True
            case "break":
                return True
            case "set":
                texts.variables[variable(directive.args[0])] = texts.template(directive.args[1])
            case "rewrite":
                self._rewrite(directive, base, texts, kept)
            case "if":
                self._if(directive, base, texts)
        return False

    # --------------------------------------------------------------------------------------------------------- answers

    def answer(self, directive: Directive, base: Match, texts: Texts) -> None:
        """A return. Raises NotPossible."""
        words = directive.args
        if not words[0].isdigit():
            self._redirect(base, words[0], 302, texts)
            return
        status = int(words[0])
        if status == 444:
            self.draft.route(base, close=True)
        elif status in _REDIRECTS:
            self._redirect(base, words[1] if len(words) > 1 else "/", status, texts)
        elif status < 200 or 300 <= status < 400:
            raise NotPossible(f"{status} is not an answer of the gateway")
        else:
            respond: dict[str, Any] = {"status": status}
            if len(words) > 1 and words[1]:
                if "$" in words[1]:
                    raise NotPossible("a body has no fields: put them into a header, or let a server answer")
                respond["body"] = words[1]
            self.draft.route(base, respond=respond)

    def _redirect(self, base: Match, text: str, status: int, texts: Texts) -> None:
        to, with_query = texts.target(text)
        if with_query:
            self.draft.route(both(base, _WITH_QUERY), redirect={"to": f"{to}?{{query}}", "status": status})
        self.draft.route(base, redirect={"to": to, "status": status})

    # -------------------------------------------------------------------------------------------------------- rewrites

    def _rewrite(self, directive: Directive, base: Match, texts: Texts, kept: list[Rewrite]) -> None:
        pattern, replacement, *flags = directive.args
        flag = flags[0] if flags else ""
        named, names = with_names(pattern)
        inside = texts.but({number: f"{{{name}}}" for number, name in names.items()})
        for name in names.values():
            inside.variables[name] = f"{{{name}}}"
        match = _with_pattern(base, named)
        outside = replacement.startswith(("http://", "https://", "$scheme"))
        if flag in ("redirect", "permanent") or outside:
            status = 301 if flag == "permanent" else 302
            to = replacement.removesuffix("?")
            made = inside.template(to.replace("$http_host", "$host"))
            if not replacement.endswith("?"):
                more = f"{made}{'&' if '?' in made else '?'}{{query}}"
                self.draft.route(both(match, _WITH_QUERY), redirect={"to": more, "status": status})
            self.draft.route(match, redirect={"to": made, "status": status})
            return
        made = inside.template(replacement)
        ways: list[tuple[Match, str]] = [(match, made)]
        if "?" in made and not replacement.endswith("?"):  # the query that came follows the new one
            ways = [(both(match, _WITH_QUERY), f"{made}&{{query}}"), (both(match, negated(_WITH_QUERY)), made)]
        for way, to in ways:
            if flag == "break":
                kept.append(Rewrite(way, to))
            else:
                self.draft.route(way, rewrite=to)
        if flag == "last":
            self.draft.report.approximated(directive.line, "later rewrites see the new path, too")

    # ------------------------------------------------------------------------------------------------------ conditions

    def _if(self, directive: Directive, base: Match, texts: Texts) -> None:
        condition, groups = self._of_map(directive.args) or _condition(directive.args)
        inside = texts.but(groups)
        match = both(base, condition)
        for each in directive.block:
            if each.name not in ("return", "rewrite", "break"):
                raise NotPossible(f"{each.name} in an if: make a route with a match of your own")
        kept, _ = self.add(directive.block, match, inside)
        for rewrite in kept:
            self.draft.route(rewrite.match, rewrite=rewrite.to)

    def _of_map(self, words: list[str]) -> tuple[Match, dict[str, str]] | None:
        """A condition on the variable of a map; None for any other one."""
        choice = self._choices.get(variable(words[0])) if len(words) in (1, 3) else None
        if choice is None or not choice.expression:
            return None
        if len(words) == 3:
            operator, value = words[1:]
            if operator not in ("=", "!=") or "$" in value:
                raise NotPossible("the value of a map is compared with a text: write the condition into the map")
            return {"when": f"{choice.expression} {'==' if operator == '=' else '!='} {quoted(value)}"}, {}
        return {"when": f'{choice.expression} != "" && {choice.expression} != "0"'}, {}


def _with_pattern(base: Match, pattern: str) -> Match:
    """A match with the pattern in its first place, so that its groups are known; a path that it has is in `all`."""
    if base is None:
        return None
    rest = {key: value for key, value in base.items() if key == "path"}
    others = {key: value for key, value in base.items() if key != "path"}
    return {**others, "path": f"~ {pattern}", **({"all": [*others.get("all", []), rest]} if rest else {})}


def _condition(words: list[str]) -> tuple[Match, dict[str, str]]:
    """A condition of `if`, and its groups. Raises NotPossible."""
    if len(words) == 1:
        name = variable(words[0])
        if not name:
            raise NotPossible("files cannot be looked for: a server does that")
        return _of(name, "!=", "")
    if words[0].startswith(("-", "!-")):
        raise NotPossible("files cannot be looked for: a server does that")
    if len(words) != 3 or not variable(words[0]):
        raise NotPossible("a condition that is not understood")
    return _of(variable(words[0]), words[1], words[2])


def _of(name: str, operator: str, value: str) -> tuple[Match, dict[str, str]]:
    """The match for a comparison of a variable, and what its groups are called. Raises NotPossible."""
    if operator.startswith("!"):
        match, _ = _of(name, {"!=": "=", "!~": "~", "!~*": "~*"}[operator], value)
        return either([negated(match), _first_differs(field_of(name), operator, value)]), {}
    if operator not in ("~", "~*"):
        return _equal(field_of(name), value), {}
    text, names = with_names(value)
    groups = {number: f"{{{group}}}" for number, group in names.items()}
    pattern = f"(?i){text}" if operator == "~*" else text
    if (field := field_of(name)) in ("uri", "query"):
        return _like_of_query(field, f"(?i){value}" if operator == "~*" else value), {}
    return _like(field, value, pattern), groups


def _first_differs(field: str, operator: str, value: str) -> Match:
    """That the first of several values is another one: nginx compares that one, a match finds any."""
    if ":" not in field or not value:
        return None
    first = expression_of(field)
    if operator == "!=":
        return {"when": f"{first} != {quoted(value)}"}
    return {"when": f"!{first}.matches({quoted(f'(?i){value}' if operator == '!~*' else value)})"}


def _equal(field: str, value: str) -> Match:
    if "$" in value:
        raise NotPossible("two fields of a request are not compared: leave it to the servers")
    kind, _, key = field.partition(":")
    made: dict[str, Match] = {
        "scheme": {"scheme": value},
        "method": {"method": value.upper()},
        "path": {"path": f"= {value}"},
        "client": {"source": value},
    }
    if field in ("host", "header:Host"):
        plain = re.fullmatch(r"[a-zA-Z0-9._-]+", value)
        return {"host": value.lower()} if plain else {"header": {"Host": f"~{anchored(value, 'str')}"}}
    if key:
        return {kind: {key: value}} if value else {"any": [{kind: {key: False}}, {kind: {key: "~^$"}}]}
    if kind == "query" and not value:
        return negated(_WITH_QUERY)
    if kind not in made:
        raise NotPossible(f"a condition on {kind} such as this has no counterpart")
    return made[kind]


def _like_of_query(field: str, pattern: str) -> Match:
    """A pattern of the whole request target, or of what follows its first question mark. Groups have no names."""
    if field == "uri":
        return {"when": f"uri.matches({quoted(pattern)})"}
    flags, rest = ("(?i)", pattern[4:]) if pattern.startswith("(?i)") else ("", pattern)
    if "^" in rest[1:].replace("[^", "") or (rest.startswith("^") and "|" in rest):
        raise NotPossible("a pattern of the query with ^ inside: write a match on query")
    anywhere = f"{flags}[?]{rest[1:]}" if rest.startswith("^") else f"{flags}[?].*(?:{rest})"
    return {"when": f"uri.matches({quoted(anywhere)})"}


def _like(field: str, value: str, pattern: str) -> Match:
    kind, _, key = field.partition(":")
    if field in ("host", "header:Host"):
        return {"header": {"Host": f"~{pattern}"}}
    if key:
        return {kind: {key: f"~{pattern}"}}
    if kind == "method":
        return {"method": _methods(value)}
    if kind == "path":
        return {"path": f"~ {pattern}"}
    raise NotPossible(f"a condition on {kind} such as this has no counterpart")


def _methods(pattern: str) -> Any:
    found = re.fullmatch(r"\^?\(?([A-Z|]+)\)?\$?", pattern)
    if found is None:
        raise NotPossible("methods are listed by name")
    names = found[1].split("|")
    return names if len(names) > 1 else names[0]
