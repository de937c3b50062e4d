"""What Apache's rules files say: rewrite rules with their conditions, by virtual host and directory."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.config import apache_directives as directives
from gateway.config.apache_text import Part


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


@dataclass(slots=True)
class Rules:
    """A parsed file. A map is a dict, or the name of an internal function; `random`: maps with alternatives."""

    base: str | None = None
    enabled: bool = False
    rules: list[Rule] = field(default_factory=list)
    maps: dict[str, dict[str, str] | str] = field(default_factory=dict)
    random: set[str] = field(default_factory=set)
    document_root: str | None = None
    other: directives.Directives = field(default_factory=directives.Directives)
    hosts: list["VirtualHost"] = field(default_factory=list)
    directories: list[tuple[str, "Rules"]] = field(default_factory=list)
    """The mod_rewrite rules in each <Directory>, with its path below the document root."""
    warnings: list[tuple[int, str]] = field(default_factory=list)

    @property
    def rewrites(self) -> Iterator[Rule]:
        """Every RewriteRule, including those of virtual hosts and directories."""
        yield from self.rules
        for _, inner in self.directories:
            yield from inner.rewrites
        for host in self.hosts:
            yield from host.rules.rewrites

    @property
    def user_files(self) -> frozenset[str]:
        """Every AuthUserFile, as it is written, including those of virtual hosts."""
        own = {item.login.users for item in self.other.access if item.login.users is not None}
        return frozenset(own).union(*(host.rules.user_files for host in self.hosts))

    @property
    def proxied(self) -> Iterator[directives.Passed]:
        """Every ProxyPass."""
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


def front_controller(rule: Rule) -> str | None:
    """The script that handles every URL without a file, if a rule does that."""
    everything = not rule.negate and rule.pattern in (
        "",
        ".",
        ".*",
        ".+",
        "^",
        "^.*$",
        "^(.*)$",
        "(.*)",
        "^(.+)$",
        "^.+$",
        "^(.*)",
    )
    without = any(cond.kind == "file" and cond.negate and cond.text in "fFs" for cond in rule.conds)
    if not everything or not without or not rule.to or rule.flags.keys() & {"R", "P", "F", "G"}:
        return None
    match = re.match(r"/?(?:[^/?]+/)*[^/?]+\.(?:php|html?|cgi|fcgi|py|pl)(?=[/?]|$)", rule.to[0][1])
    return match[0] if match and rule.to[0][0] == "text" else None
