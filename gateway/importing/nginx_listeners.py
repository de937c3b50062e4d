"""The addresses of nginx's servers, as frontends of a site file."""

from dataclasses import dataclass, field
from typing import Any, Final

from gateway.importing import units
from gateway.importing.draft import Draft
from gateway.importing.haproxy_binds import ANY, EVERYWHERE
from gateway.importing.nginx_scope import Scope
from gateway.importing.nginx_tree import Directive
from gateway.importing.report import MISFITS, NotPossible, reason

_SILENT: Final = frozenset(
    [
        "default_server",
        "default",
        "reuseport",
        "ipv6only",
        "deferred",
        "bind",
        "so_keepalive",
        "backlog",
        "fastopen",
        "rcvbuf",
        "sndbuf",
        "setfib",
    ]
)
_VERSIONS: Final = {"TLSv1": "1.0", "TLSv1.1": "1.1", "TLSv1.2": "1.2", "TLSv1.3": "1.3"}


@dataclass(slots=True)
class Entrance:
    """An address with the servers that listen there, the default one first."""

    listen: str
    servers: list[Directive] = field(default_factory=list)
    default: Directive | None = None
    tls: bool = False
    http2: bool = False
    proxy_protocol: bool = False


class Listeners:
    """The entrances of a configuration."""

    def __init__(self, draft: Draft, http: Directive) -> None:
        self.draft = draft
        self._http = http
        self._entrances: dict[str, Entrance] = {}

    def add(self, server: Directive) -> None:
        """Take up what a server listens on."""
        listens = list(server.all("listen"))
        for directive in listens:
            try:
                self._listen(server, directive)
                self.draft.report.taken(directive.line)
            except MISFITS as why:
                self.draft.report.impossible(directive.line, reason(why))
        if not listens:
            self._entrance(f"{ANY}:80").servers.append(server)

    def _entrance(self, listen: str) -> Entrance:
        return self._entrances.setdefault(listen, Entrance(listen))

    def _listen(self, server: Directive, directive: Directive) -> None:
        address, *options = directive.args
        if "quic" in options:
            raise NotPossible("HTTP/3 is not spoken")
        entrance = self._entrance(_address(address))
        if server not in entrance.servers:
            entrance.servers.append(server)
        for option in options:
            name = option.partition("=")[0]
            if name in ("default_server", "default"):
                entrance.default = server
            elif name == "ssl":
                entrance.tls = True
            elif name == "http2":
                entrance.http2 = True
            elif name == "proxy_protocol":
                entrance.proxy_protocol = True
            elif name not in _SILENT:
                self.draft.report.impossible(directive.line, f"{name} has no counterpart and is left out")
        switch = server.last("http2")
        if switch is not None and switch.args == ["on"]:
            entrance.http2 = True

    def make(
        self, trusted: list[str], client_from: str, limits: dict[str, Any]
    ) -> list[tuple[Directive, list[str], list[str]]]:
        """Add the frontends; return each server with its frontends, and those whose default server it is."""
        groups: list[list[Entrance]] = []
        for entrance in self._entrances.values():
            key = (entrance.servers, entrance.default, entrance.tls, entrance.http2, entrance.proxy_protocol)
            for group in groups:
                one = group[0]
                if (one.servers, one.default, one.tls, one.http2, one.proxy_protocol) == key:
                    group.append(entrance)
                    break
            else:
                groups.append([entrance])
        names: dict[int, list[str]] = {}
        defaults: dict[int, list[str]] = {}
        order: dict[int, Directive] = {}
        taken: set[str] = set()
        for group in groups:
            first = group[0]
            made = self._frontend(group, trusted, client_from, limits)
            name = wanted = "https" if first.tls else "http"
            number = 1
            while name in taken:
                number += 1
                name = f"{wanted}-{number}"
            taken.add(name)
            self.draft.frontends.append({"name": name, **made})
            self.draft.lines[name] = first.servers[0].line
            for server in first.servers:
                order[id(server)] = server
                names.setdefault(id(server), []).append(name)
            defaults.setdefault(id(first.default or first.servers[0]), []).append(name)
        ordered = sorted(order.values(), key=lambda each: (str(each.line.path), each.line.number))
        return [(server, names[id(server)], defaults.get(id(server), [])) for server in ordered]

    def _frontend(
        self, group: list[Entrance], trusted: list[str], client_from: str, limits: dict[str, Any]
    ) -> dict[str, Any]:
        first = group[0]
        made: dict[str, Any] = {"listen": [each.listen for each in group]}
        if first.proxy_protocol:
            made |= {"trusted_proxies": trusted or EVERYWHERE, "proxy_protocol": True}
        elif trusted:
            made["trusted_proxies"] = trusted
            if client_from:
                made["client_from"] = client_from
        if first.http2:
            made["http2"] = True
        own = dict(limits)
        for server in first.servers:
            own |= self.limits(server)
        if own:
            made["limits"] = own
        if first.tls:
            made["tls"] = self._tls(first)
        return made

    def limits(self, block: Directive) -> dict[str, Any]:
        """The limits on clients of a block."""
        made: dict[str, Any] = {}
        for name, key in (("keepalive_timeout", "idle_timeout"), ("client_header_timeout", "header_timeout")):
            directive = block.last(name)
            if directive is not None:
                try:
                    if units.milliseconds(directive.args[0], "s"):
                        made[key] = units.duration(directive.args[0], "s")
                    self.draft.report.taken(directive.line)
                except ValueError as why:
                    self.draft.report.impossible(directive.line, reason(why))
        return made

    def _tls(self, entrance: Entrance) -> dict[str, Any]:
        report = self.draft.report
        certificates: list[dict[str, str]] = []
        made: dict[str, Any] = {}
        default = entrance.default or entrance.servers[0]
        for server in [default, *(each for each in entrance.servers if each is not default)]:
            scope = Scope((self._http, server))
            keys = scope.all("ssl_certificate_key")
            for directive, key in zip(scope.all("ssl_certificate"), keys, strict=False):
                pair = {"cert": self.draft.file(directive.args[0]), "key": self.draft.file(key.args[0])}
                if pair not in certificates:
                    certificates.append(pair)
                report.taken(directive.line)
                report.taken(key.line)
            for directive in scope.all("ssl_protocols"):
                made |= _protocols(directive.args)
                report.taken(directive.line)
            for directive in scope.all("ssl_client_certificate"):
                made["client_ca"] = self.draft.file(directive.args[0])
                report.taken(directive.line)
            for directive in scope.all("ssl_verify_client"):
                if directive.args[0] in ("on", "optional"):
                    made["require_client_cert"] = directive.args[0] == "on"
                    report.approximated(
                        directive.line, "for all servers of the address; see require_client_cert in a route"
                    )
                else:
                    report.impossible(directive.line, "certificates are asked for and checked, or not asked for")
        if not certificates:
            report.impossible(default.line, "no ssl_certificate: write the certificate into the site file")
            certificates = [{"cert": "server.crt", "key": "server.key"}]
        return {"certificates": certificates, **made}


def _protocols(words: list[str]) -> dict[str, Any]:
    versions = sorted(_VERSIONS[word] for word in words if word in _VERSIONS)
    if not versions:
        return {}
    return {"policy": "old", "min_version": versions[0]} if versions[0] < "1.2" else {"min_version": versions[0]}


def _address(text: str) -> str:
    if text.startswith("unix:"):
        return text
    if text.isdigit():
        return f"{ANY}:{text}"
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "80"
    if not port.isdigit():
        raise NotPossible(f"one port is needed, not {port}: list them")
    return f"{ANY if host == '*' else host}:{port}"
