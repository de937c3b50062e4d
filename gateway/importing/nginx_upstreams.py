"""Upstreams of nginx, and what proxy_pass names, as backends."""

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.importing import units
from gateway.importing.draft import Draft, name_of
from gateway.importing.nginx_text import field_of, variable
from gateway.importing.nginx_tree import Directive
from gateway.importing.report import MISFITS, NotPossible, reason

_PORTS: Final = {"http": "80", "https": "443"}
_NEEDLESS: Final = {
    "keepalive": "idle connections are kept",
    "keepalive_requests": "idle connections are kept",
    "keepalive_time": "idle connections are kept",
    "keepalive_timeout": "see timeouts: idle",
    "zone": "all processes share the state of servers",
    "state": "see `gateway drain` and `maintenance`, which are kept",
}
_CAUSES: Final = {"error": "connect", "timeout": "connect", "invalid_header": "reset"}


@dataclass(frozen=True, slots=True)
class Pass:
    """What proxy_pass or grpc_pass says: the host or upstream, and the path that takes the place of the location's."""

    scheme: str
    authority: str
    path: str
    h2: bool = False
    """Over HTTP/2."""

    @classmethod
    def parse(cls, text: str) -> "Pass":
        """Of http://NAME[:PORT][/PATH] or http://unix:/SOCKET:[/PATH]. Raises NotPossible."""
        if socket := re.fullmatch(r"(https?)://(unix:/[^:]+):?(.*)", text):
            return cls(socket[1], socket[2], socket[3])
        if grpc := re.fullmatch(r"grpc(s?)://([^/]+)", text):
            return cls(f"http{grpc[1]}", grpc[2], "", h2=True)
        parts = urlsplit(text)
        if parts.scheme not in _PORTS or not parts.netloc:
            raise NotPossible(f"{text} is no http:// or https:// address of servers")
        if "@" in parts.netloc:
            raise NotPossible("a password in an address of servers: write it into set_header, as Authorization")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.netloc, path)


class Upstreams:
    """The upstreams of a configuration; a backend is made where one is used."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._found: dict[str, Directive] = {}
        self._made: dict[str, tuple[str, dict[str, Any]]] = {}

    def add(self, directive: Directive) -> None:
        """Take up an upstream."""
        self._found[directive.args[0]] = directive

    def unused(self) -> None:
        """Report what no location passes requests to."""
        for name, directive in self._found.items():
            if not any(made.partition("\0")[0] == name for made in self._made):
                self.draft.report.needless(directive.line, "no location passes requests to it")
                for each in directive.block:
                    self.draft.report.needless(each.line, "left out with its upstream")

    def backend(self, target: Pass, settings: dict[str, Any]) -> str:
        """The name of the backend for a target with these settings. Raises NotPossible."""
        key = f"{target.authority}\0{target.scheme}\0{sorted(settings.items())!r}"
        if key in self._made:
            return self._made[key][0]
        directive = self._found.get(target.authority)
        made = self._upstream(directive, target.scheme) if directive is not None else self._single(target)
        name = wanted = name_of(target.authority)
        number = 1
        while name in self.draft.backends:
            number += 1
            name = f"{wanted[:58]}-{number}"
        made |= settings
        self.draft.backends[name] = made
        if directive is not None or self.draft.at is not None:
            self.draft.lines[name] = directive.line if directive is not None else self.draft.at  # type: ignore[assignment]
        self._made[key] = (name, made)
        return name

    def _single(self, target: Pass) -> dict[str, Any]:
        return {
            "balance": "weighted-round-robin",
            "servers": [{"address": _address(target.authority, _PORTS[target.scheme])}],
        }

    def _upstream(self, directive: Directive, scheme: str) -> dict[str, Any]:
        report = self.draft.report
        made: dict[str, Any] = {"balance": "weighted-round-robin", "servers": []}
        report.taken(directive.line)
        for each in directive.block:
            try:
                if each.name == "server":
                    self._server(each, made, _PORTS[scheme])
                elif each.name in _NEEDLESS:
                    report.needless(each.line, _NEEDLESS[each.name])
                else:
                    self._method(each, made)
                    report.taken(each.line)
            except MISFITS as why:
                report.impossible(each.line, reason(why))
        if not made["servers"]:
            raise NotPossible(f"the upstream {directive.args[0]} has no server")
        return made

    def _method(self, directive: Directive, made: dict[str, Any]) -> None:
        report = self.draft.report
        if directive.name == "least_conn":
            made["balance"] = "weighted-least-connections"
        elif directive.name == "ip_hash":
            made["affinity"] = {"source": 24}
            report.approximated(directive.line, "affinity by the /24 of the client: another hash, so clients move once")
        elif directive.name == "random":
            made["balance"] = "two-choices"
        elif directive.name == "hash":
            field = field_of(variable(directive.args[0]) or directive.args[0])
            balance: Any = {"uri": "uri-hash", "path": "uri-hash", "client": "source-hash"}.get(field)
            if field.startswith("header:"):
                balance = {"hash": field}
            if balance is None:
                raise NotPossible(
                    f"a hash of {directive.args[0]}: client, URI and headers can be hashed; or see affinity"
                )
            made["balance"] = balance
            report.approximated(directive.line, "by another hash: requests move once")
        elif directive.name == "sticky" and directive.args[:1] == ["cookie"]:
            made["affinity"] = {"cookie": directive.args[1]}
            report.approximated(directive.line, "the cookie is signed and names the server")
        else:
            raise NotPossible(f"{directive.name} has no counterpart: see balance and affinity")

    def _server(self, directive: Directive, made: dict[str, Any], port: str) -> None:
        report = self.draft.report
        address, *options = directive.args
        server: dict[str, Any] = {"address": _address(address, port)}
        for option in options:
            name, _, value = option.partition("=")
            if name == "down":
                report.impossible(
                    directive.line, "left out: a server is put aside by `gateway maintenance`, not in the file"
                )
                return
            if name == "weight":
                server["weight"] = max(1, min(256, int(value)))
            elif name == "max_conns" and int(value):
                server["max_connections"] = int(value)
            elif name == "backup":
                server["backup"] = True
            elif name in ("max_fails", "fail_timeout"):
                self._outlier(name, value, made, directive)
            elif name == "slow_start":
                made["slow_start"] = units.duration(value, "s")
            elif name == "resolve":
                server["address"] = f"dns:{server['address']}"
            else:
                report.impossible(directive.line, f"{name} has no counterpart and is left out")
        if "max_connections" in server:
            report.approximated(directive.line, "when all servers are full: 503 at once; see queue")
        same = sum(other["address"] == server["address"] for other in made["servers"])
        if same:  # nginx takes one twice
            server["name"] = name_of(f"{server['address']}-{same + 1}")
        made["servers"].append(server)
        self.draft.server_lines[id(server)] = directive.line
        report.taken(directive.line)

    def _outlier(self, name: str, value: str, made: dict[str, Any], directive: Directive) -> None:
        outlier = made.setdefault("outlier", {})
        if name == "max_fails" and value == "0":
            del made["outlier"]
            return
        key, said = ("errors", int(value)) if name == "max_fails" else ("eject_for", units.duration(value, "s"))
        outlier[key] = said
        self.draft.report.approximated(
            directive.line, f"{name}: see outlier, which counts failures in a row, for all servers"
        )


def causes_of(directive: Directive | None) -> list[str]:
    """The causes of a retry that proxy_next_upstream names; none: those of a backend by default."""
    if directive is None or directive.args == ["off"]:
        return []
    causes = ["connect"]
    for word in directive.args:
        if word in _CAUSES:
            causes.append(_CAUSES[word])
        elif word.startswith("http_5"):
            causes.append(word.removeprefix("http_"))
    return list(dict.fromkeys(causes))


def _address(text: str, port: str) -> str:
    if text.startswith("unix:"):
        return text.rstrip(":")
    host, colon, given = text.rpartition(":")
    return text if colon and given.isdigit() and (host[-1:] == "]" or ":" not in host) else f"{text}:{port}"
