"""What Apache's rules files say: rewrite rules with their conditions, by virtual host and directory."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.config import apache_directives as directives
from gateway.config.apache_text import FILE_NAMES, Part
from gateway.config.pattern import Pattern


@dataclass(frozen=True, slots=True)
class Cond:
    """One RewriteCond.

    kind: regex, less, more, equal, at_most, at_least, file (text: the letter), expr (expression), or int (eq, …).
    """

    test: tuple[Part, ...]
    kind: str
    text: str
    against: tuple[Part, ...]
    negate: bool
    ignore_case: bool
    alternative: bool
    expression: directives.Test = ()


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


@dataclass(frozen=True, slots=True)
class Program:
    """A program that answers the keys of a map: its path, and its arguments."""

    command: tuple[str, ...]


@dataclass(slots=True)
class Rules:
    """A parsed file. A map is a dict, a Program, or the name of an internal function; `random`: maps with alternatives.

    `encoded_slashes`: AllowEncodedSlashes, in lower case; None: the file does not say it.
    """

    base: str | None = None
    enabled: bool = False
    rules: list[Rule] = field(default_factory=list)
    maps: dict[str, dict[str, str] | str | Program] = field(default_factory=dict)
    random: set[str] = field(default_factory=set)
    document_root: str | None = None
    encoded_slashes: str | None = None
    other: directives.Directives = field(default_factory=directives.Directives)
    hosts: list["VirtualHost"] = field(default_factory=list)
    directories: list[tuple[str, "Rules"]] = field(default_factory=list)
    """The mod_rewrite rules in each <Directory>, with its path below the document root."""
    warnings: list[tuple[int, str]] = field(default_factory=list)

    @property
    def rewrites(self) -> Iterator[Rule]:
        """Every RewriteRule, including those of virtual hosts and directories."""
        for part in self.lists:
            yield from part.rules

    @property
    def lists(self) -> Iterator["Rules"]:
        """Every list of rules: this one, and those of virtual hosts and directories."""
        yield self
        for _, inner in self.directories:
            yield from inner.lists
        for host in self.hosts:
            yield from host.rules.lists

    @property
    def programs(self) -> frozenset[Program]:
        """The programs of all maps, including those of virtual hosts."""
        return frozenset(made for part in self.lists for made in part.maps.values() if isinstance(made, Program))

    @property
    def user_files(self) -> frozenset[str]:
        """Every AuthUserFile, as it is written, including those of virtual hosts."""
        own = {item.login.users for item in self.other.access if item.login.users is not None}
        return frozenset(own).union(*(host.rules.user_files for host in self.hosts))

    @property
    def proxied(self) -> Iterator[directives.Passed]:
        """Every ProxyPass."""
        yield from self.other.located
        yield from self.other.passed
        for host in self.hosts:
            yield from host.rules.proxied


@dataclass(slots=True)
class VirtualHost:
    """A <VirtualHost>: its names, its port (0: any), and its content."""

    line: int
    port: int
    names: list[str]
    rules: Rules


def target(rule: Rule) -> str | None:
    """The host in the URL of a [P]."""
    if "P" not in rule.flags or not rule.to:
        return None
    return re.split("[/?]", rule.to[0][1].split("://", 1)[1], maxsplit=1)[0]


def front_controllers(rules: Sequence[Rule]) -> dict[int, str]:
    """The rules of a list that send every URL without a file to one script: the script, by line."""
    found: dict[int, str] = {}
    kept = False  # whether a rule before leaves URLs of files as they are
    for rule in rules:
        script = _script(rule)
        if script is not None and (kept or any(_without_file(cond) for cond in rule.conds)):
            found[rule.line] = script
        kept |= rule.to is None and bool(rule.flags.keys() & {"L", "END"}) and any(map(_of_file, rule.conds))
    return found


def names_a_file(rule: Rule) -> bool:
    """Whether a rule redirects to a path that is relative to its directory.

    Without RewriteBase, Apache takes that for the name of a file.
    """
    if not rule.to or not 300 <= int(rule.flags.get("R", 0)) <= 399:
        return False
    kind, text, _, _ = rule.to[0]
    return kind == "rule" or (kind == "text" and not re.match(r"/|[a-z][a-z0-9+.-]*:", text, re.IGNORECASE))


_PAGES: Final = (b"a", b"some/page", b"Some-page_1.x/2/")
"""Paths that a pattern for every path matches."""


def _script(rule: Rule) -> str | None:
    """The script that every path leads to by a rule, if its conditions hold."""
    if rule.negate or not rule.to or rule.flags.keys() & {"R", "P", "F", "G"}:
        return None
    pattern = Pattern(rule.pattern, ignore_case="NC" in rule.flags, dot_all=True, backtrack=True)
    if not all(pattern.search(page) for page in _PAGES):
        return None
    rest = list(itertools.dropwhile(lambda part: part[0] in ("env", "var", "cond"), rule.to))
    text = rest[0][1] if rest and rest[0][0] == "text" else ""
    match = re.match(r"/?(?:[^/?]+/)*[^/?]+\.(?:php|html?|cgi|fcgi|py|pl)(?=[/?]|$)", text)
    return match[0] if match else None


def _without_file(cond: Cond) -> bool:
    """Whether a condition holds for URLs without a file: by a test, or by the ends of names."""
    if not cond.negate:
        return False
    names: list[tuple[Part, ...]] = [(("var", name, (), None),) for name in FILE_NAMES]
    of_name = cond.kind == "regex" and cond.test in names
    return (cond.kind == "file" and cond.text in "fFs") or (of_name and re.search(r"\\\.\(", cond.text) is not None)


def _of_file(cond: Cond) -> bool:
    return cond.kind == "file" and not cond.negate and cond.text in "fFs"
