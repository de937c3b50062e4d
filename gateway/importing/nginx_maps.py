"""Variables that nginx makes of others: map, geo, split_clients."""

import re
from dataclasses import dataclass, field
from ipaddress import ip_network

from gateway.importing.draft import Draft
from gateway.importing.nginx_text import Texts, expression_of, field_of, variable
from gateway.importing.nginx_tree import Directive
from gateway.importing.report import MISFITS, NotPossible, reason


@dataclass(slots=True)
class Choice:
    """A variable with finitely many values: of a map (`expression` finds it), or by shares."""

    values: list[str]
    expression: str = ""
    default: str = ""
    shares: dict[str, str] = field(default_factory=dict)
    by: str = ""


class Variables:
    """The variables of a configuration."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.texts: dict[str, str] = {}
        """Each as a text with fields."""
        self.choices: dict[str, Choice] = {}
        self.upgrades: set[str] = set()
        """Variables for the Connection header of a WebSocket."""

    def add(self, directive: Directive) -> None:
        """Take up a map, geo or split_clients, and say what became of it."""
        report = self.draft.report
        self.draft.at = directive.line
        try:
            if directive.name == "split_clients":
                self._split(directive)
            elif directive.args[:1] == ["$http_upgrade"]:
                self.upgrades.add(variable(directive.args[1]))
                report.needless(directive.line, "WebSockets pass without a word")
            else:
                self._map(directive)
        except MISFITS as why:
            report.impossible(directive.line, reason(why))
            for entry in directive.block:
                report.impossible(entry.line, "left out with the directive around it")
            return
        report.taken(directive.line)
        for entry in directive.block:
            report.taken(entry.line)

    def _map(self, directive: Directive) -> None:
        geo = directive.name == "geo"
        name = variable(directive.args[-1])
        source = variable(directive.args[0]) if len(directive.args) > 1 else "remote_addr" if geo else ""
        if not source:
            raise NotPossible("a map of more than one variable: let its lines be routes")
        where = field_of(source)
        default, hostnames, pairs = "", False, []
        for entry in directive.block:
            if entry.name == "default":
                default = entry.args[0] if entry.args else ""
            elif entry.name == "hostnames":
                hostnames = True
            elif entry.name in ("volatile", "ranges", "include", "delete", "proxy", "proxy_recursive"):
                raise NotPossible(f"{entry.name} in a {directive.name} has no counterpart")
            else:
                pairs.append((entry.name, entry.args[0] if entry.args else ""))
        if any("$" in value for value in (default, *(value for _, value in pairs))):
            raise NotPossible("values with variables: let its lines be routes")
        if geo:
            kind, lines = "network", [(str(ip_network(key, strict=False)), value) for key, value in pairs]
        elif hostnames and not any(key.startswith("~") for key, _ in pairs):
            kind, lines = "host", list(_hosts(pairs))
        else:
            kind, lines = "regex", [(_pattern(key), value) for key, value in _in_order(pairs)]
        if any(not value for _, value in lines):
            raise NotPossible("an empty value cannot stand in a map here: leave the key out")
        content = "".join(f"{key}\t{value}\n" for key, value in lines)
        made = self.draft.add_map(name, content, keys=kind, **({"default": default} if default else {}))
        self.texts[name] = f"{{map:{made}:{where}}}"
        values = list(dict.fromkeys(value for _, value in lines))
        try:
            expression = f'map("{made}", {expression_of(where)})'
        except NotPossible:
            return
        self.choices[name] = Choice(values, expression, default)

    def _split(self, directive: Directive) -> None:
        name = variable(directive.args[1])
        by = Texts(self.texts).template(directive.args[0])
        shares: dict[str, float] = {}
        for entry in directive.block:
            value = entry.args[0] if entry.args else ""
            share = 100 - sum(shares.values()) if entry.name == "*" else float(entry.name.rstrip("%"))
            shares[value] = shares.get(value, 0) + round(share, 6)
        if round(sum(shares.values()), 6) != 100:
            raise NotPossible("the shares must be 100 % together: write * for the rest")
        texts = {value: f"{share:g}%" for value, share in shares.items()}
        self.choices[name] = Choice(list(shares), shares=texts, by=by)
        self.draft.report.approximated(directive.line, "by another hash: other clients than before are in a share")


def _hosts(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for key, value in pairs:
        if key.endswith(".*"):
            raise NotPossible("a host name with .* at its end: write a pattern")
        if key.startswith("."):
            found[key[1:].lower()] = value
            found[f"*{key.lower()}"] = value
        else:
            found[key.lower()] = value
    return list(found.items())


def _in_order(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Plain keys before patterns, as nginx looks for them."""
    return [pair for pair in pairs if not pair[0].startswith("~")] + [pair for pair in pairs if pair[0].startswith("~")]


def _pattern(key: str) -> str:
    if key.startswith("~*"):
        text = f"(?i){key[2:]}"
    elif key.startswith("~"):
        text = key[1:]
    else:
        text = f"(?i)^{re.escape(key.removeprefix(chr(92)))}$"
    return re.sub(r"\\?\s", r"\\s", text)
