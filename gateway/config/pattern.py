"""Regular expressions with a guaranteed bound on matching time, for any input.

The syntax is RE2's, and RE2 needs time proportional to the length of the text. Most patterns of a site file are so
simple that backtracking is bounded as well: at most one unbounded repetition, or a search from every position, but
not both. Those use the standard library, whose call costs a tenth of RE2's. The same proof permits look-ahead and
look-behind in such patterns, which RE2 does not support: the rules of many web applications use them.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import re2

from gateway.config.backtracking import Backtracking
from gateway.config.problem import Fault
from gateway.config.words import words

MAX_PATTERN: Final = 4096
"""Characters of a pattern."""
MAX_FOLDED: Final = 32
"""Letters of a word searched for ignoring case: up to this many comparisons at each position of a text."""
MAX_WAYS: Final = 1000
"""Largest product of the ways in which bounded repetitions can match, for the standard library."""

_TOKEN: Final = re.compile(
    r"""
      (?P<set> \[\^? (?: [^]\\[] | \\[^0-9A-Za-z] | \\[dDwWsStnrf] )+ \] )
    | (?P<shorthand> \\[dDwWsSbBtnrfA] )
    | (?P<escape> \\[^0-9A-Za-z] )
    | (?P<open> \( (?: \? (?: : | P?<(?P<name>[A-Za-z_][A-Za-z0-9_]*)> | <?[=!] ) )? (?!\?) )
    | (?P<close> \) )
    | (?P<or> \| )
    | (?P<repeat>
        (?: (?P<sign>[*+?]) | \{ (?P<low>[0-9]{1,3}) (?: (?P<comma>,) (?P<high>[0-9]{1,3})? )? \} ) \?? (?![*+?{]) )
    | (?P<edge> [$^] )
    | (?P<any> \. )
    | (?P<literal> [^]\\[(){}*+?|.^$] )
    """,
    re.VERBOSE,
)
"""Syntax that both engines interpret alike; everything else is left to RE2."""
_LOOKS_AROUND: Final = re.compile(r"(?<!\\)\(\?<?[=!]")
_ANY_CASE: Final = "(?i)"
_SET_OPERATION: Final = re.compile(r"&&|\|\||~~|--")


@dataclass(slots=True)
class _Shape:
    """The result of scanning a pattern; `same`: both engines interpret it alike."""

    same: bool = True
    python: str = ""
    anchored: bool = False
    alternatives: bool = False
    unbounded: int = 0
    ways: int = 1
    prefix: str = ""

    @property
    def linear(self) -> bool:
        """Whether backtracking needs time proportional to the text."""
        return self.same and self.unbounded + (not self.anchored) <= 1 and self.ways <= MAX_WAYS


class Pattern:
    """A compiled pattern: `search(bytes)` gives a match object or None.

    `names` are the named groups in order, `groups` the number of all groups; every matching text begins with `prefix`
    and contains `needle`. `words`: if not empty, the pattern matches if one of them is found, ignoring case if
    `folded`. `dot_all`: a dot also matches a line break. `backtrack`: patterns that RE2 refuses use an engine with a
    limit on steps, whose searches may raise TooManySteps. Raises Fault.
    """

    __slots__ = ("folded", "groups", "names", "needle", "prefix", "search", "text", "words")

    def __init__(self, text: str, *, ignore_case: bool = False, dot_all: bool = False, backtrack: bool = False) -> None:
        if len(text) > MAX_PATTERN:
            raise Fault(f"a pattern has at most {MAX_PATTERN} characters")
        shape = _look(text)
        compiled: Any
        refused = not shape.linear and _LOOKS_AROUND.search(text)
        if refused and not backtrack:
            raise Fault(
                "(?= (?! (?<= and (?<! need a pattern that repeats nothing without bound, or begins with ^ and so "
                "repeats a single character once: anything else could take too long"
            )
        source = b""
        try:
            source = text.encode("latin-1")
            if refused:
                compiled = Backtracking(source, ignore_case=ignore_case, dot_all=dot_all)
            elif shape.linear:
                flags = re.IGNORECASE * ignore_case | re.DOTALL * dot_all
                compiled = re.compile(shape.python.encode("latin-1"), flags)
            else:
                options = re2.Options()
                options.encoding = re2.Options.Encoding.LATIN1
                options.log_errors = False
                options.case_sensitive = not ignore_case
                options.dot_nl = dot_all
                compiled = re2.compile(source, options)
        except UnicodeEncodeError as error:
            raise Fault("write characters outside Latin-1 in their encoded form", offset=error.start) from None
        except (re.error, RecursionError, OverflowError) as error:
            raise Fault(f"not a regular expression: {error}", offset=getattr(error, "pos", None) or 0) from None
        except re2.error as error:
            if not backtrack:
                raise Fault(f"not a regular expression: {_plain(error)}") from None
            compiled = Backtracking(source, ignore_case=ignore_case, dot_all=dot_all)
        self.text = text
        self.search = compiled.search
        self.groups: int = compiled.groups
        names = sorted(getattr(compiled, "groupindex", {}).items(), key=lambda item: item[1])
        self.names = tuple((name.decode() if isinstance(name, bytes) else name, index) for name, index in names)
        literal = b"" if ignore_case else shape.prefix.encode("latin-1")
        self.prefix = literal if shape.anchored else b""
        self.needle = literal
        self.folded = ignore_case or text.startswith(_ANY_CASE)
        self.words = words(text.removeprefix(_ANY_CASE))
        if self.folded and not all(word.text.isascii() and len(word.text) <= MAX_FOLDED for word in self.words):
            self.words = ()  # beyond ASCII the engines disagree on case folding


def _plain(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    return message.decode("latin-1") if isinstance(message, bytes) else str(message)


def _look(text: str) -> _Shape:
    """Scan `text` once, token by token."""
    shape = _Shape()
    at = depth = 0
    literal: str | None = ""  # literal text since the ^; None: it has ended
    single = False  # whether the previous token is a single character, and not a group
    while at < len(text) and shape.same:
        match = _TOKEN.match(text, at)
        if match is None:
            shape.same = False
            break
        kind, token = match.lastgroup, match[0]
        depth += (kind == "open") - (kind == "close")
        if kind == "repeat":
            _count(shape, match, single=single)
            literal = literal and literal[:-1]
        elif kind == "or":
            shape.ways += 1
            shape.alternatives |= depth == 0
        elif kind == "set":
            shape.same = not _SET_OPERATION.search(token)
        shape.anchored |= at == 0 and token in ("^", r"\A")
        named = match["name"] and f"(?P<{match['name']}>"
        shape.python += named or (token.replace("$", r"\Z") if kind == "edge" else token)
        if at or not shape.anchored:
            literal = _row(shape, literal, token[-1] if kind in ("literal", "escape") else "")
        single = kind not in ("open", "close", "or", "edge", "repeat")
        at = match.end()
    shape.anchored &= not shape.alternatives
    if not shape.same or shape.alternatives:
        shape.prefix = ""
    return shape


def _row(shape: _Shape, literal: str | None, char: str) -> str | None:
    """Extend the literal text at the beginning by `char`; "" if `char` ends it. Updates the shape."""
    if literal is None:
        return None
    shape.prefix = literal + char
    return shape.prefix if char else None


def _count(shape: _Shape, match: "re.Match[str]", *, single: bool) -> None:
    """Account for a quantifier."""
    if match["sign"] in ("*", "+") or (match["comma"] and not match["high"]):
        shape.unbounded += 1
        shape.same &= single
    elif match["sign"]:
        shape.ways *= 2
    else:
        shape.ways *= int(match["high"]) - int(match["low"]) + 1 if match["comma"] else 1
        shape.same &= single
