"""What a frontend of HAProxy listens on, as frontends of a site file."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from gateway.importing import units
from gateway.importing.draft import Draft, name_of
from gateway.importing.haproxy_lines import Section, Statement
from gateway.importing.report import MISFITS, Line, NotPossible, reason

_FLAGS: Final = frozenset(
    [
        "ssl",
        "accept-proxy",
        "v4v6",
        "v6only",
        "transparent",
        "defer-accept",
        "tfo",
        "strict-sni",
        "allow-0rtt",
        "no-sslv3",
        "no-tlsv10",
        "no-tlsv11",
        "no-tlsv12",
        "no-tlsv13",
        "no-tls-tickets",
        "prefer-client-ciphers",
        "generate-certificates",
        "quic-force-retry",
        "force-tlsv12",
    ]
)
_SILENT: Final = frozenset(
    [
        "tfo",
        "defer-accept",
        "name",
        "id",
        "level",
        "backlog",
        "maxconn",
        "no-sslv3",
        "no-tlsv10",
        "no-tlsv11",
        "prefer-client-ciphers",
        "process",
        "thread",
        "shards",
        "nice",
        "mss",
        "v4v6",
        "v6only",
        "ca-verify-file",
        "expose-fd",
    ]
)
_OWN: Final = frozenset(
    [
        "ssl",
        "crt",
        "crt-list",
        "alpn",
        "npn",
        "ca-file",
        "verify",
        "ssl-min-ver",
        "accept-proxy",
        "strict-sni",
        "mode",
        "user",
        "group",
    ]
)
ANY: Final = str(IPv4Address(0))
EVERYWHERE: Final = ["0.0.0.0/0", "::/0"]


class Binds:
    """Makes the frontends of a section; `base` is the directory of certificates, if global names one."""

    def __init__(self, draft: Draft, section: Section, base: str, policy: dict[str, Any]) -> None:
        self.draft = draft
        self.section = section
        self._base = base
        self._policy = policy

    def make(self) -> list[dict[str, Any]]:
        """The frontends; those with the same settings are one."""
        made: list[dict[str, Any]] = []
        for statement in self.section.all("bind"):
            try:
                entrance = self._bind(statement)
            except MISFITS as why:
                self.draft.report.impossible(statement.line, reason(why))
                continue
            same = [one for one in made if {**one, "listen": 0} == {**entrance, "listen": 0}]
            if same:
                same[0]["listen"] += entrance["listen"]
            else:
                made.append(entrance)
            self.draft.report.taken(statement.line)
        limits = self._limits()
        for number, entrance in enumerate(made):
            suffix = "" if number == 0 else ("-tls" if "tls" in entrance else f"-{number + 1}")
            taken = {one["name"] for one in self.draft.frontends}
            name = name_of(self.section.name + suffix)
            entrance["name"] = name if name not in taken else name_of(f"{name}-{number + 1}")
            if limits:
                entrance["limits"] = limits
            self.draft.lines[entrance["name"]] = self.section.line
            self.draft.frontends.append({"name": entrance.pop("name"), **entrance})
        return self.draft.frontends[len(self.draft.frontends) - len(made) :]

    def _bind(self, statement: Statement) -> dict[str, Any]:
        if not statement.arguments:
            raise NotPossible("bind needs an address")
        given: dict[str, list[str]] = {}
        rest = iter(statement.arguments[1:])
        for name in rest:
            given.setdefault(name, []).extend([] if name in _FLAGS else [next(rest, "")])
        listen = [_listen(text, "v4v6" in given) for text in statement.arguments[0].split(",")]
        made: dict[str, Any] = {"listen": listen}
        if "accept-proxy" in given:
            made |= {"trusted_proxies": EVERYWHERE, "proxy_protocol": True}
            self.draft.report.approximated(
                statement.line, "accept-proxy trusts every peer: name the balancers in trusted_proxies of the frontend"
            )
        if "h2" in ",".join(given.get("alpn", [])) or given.get("proto") == ["h2"]:
            made["http2"] = True
        if "mode" in given:
            made["socket_mode"] = given["mode"][0].zfill(4)
        if "ssl" in given:
            made["tls"] = self._tls(given, statement.line)
        for name in given:
            if name in ("ciphers", "ciphersuites", "curves", "ecdhe", "ssl-max-ver", "ssl-default-bind-ciphers"):
                self.draft.report.approximated(statement.line, f"{name}: the ciphers are those of tls: policy")
            elif name not in _OWN | _SILENT:
                self.draft.report.impossible(statement.line, f"{name} has no counterpart and is left out")
        return made

    def _tls(self, given: dict[str, list[str]], line: Line) -> dict[str, Any]:
        names = list(given.get("crt", []))
        for listing in given.get("crt-list", []):
            names += self._listed(listing)
        if not names:
            raise NotPossible("a certificate is needed: crt FILE")
        made: dict[str, Any] = {"certificates": [self._certificate(name) for name in names], **self._policy}
        if "strict-sni" in given:
            made["strict_sni"] = True
        if version := given.get("ssl-min-ver"):
            made |= _min_version(version[0])
        if "ca-file" in given:
            made["client_ca"] = self.draft.file(given["ca-file"][0])
            made["require_client_cert"] = given.get("verify") == ["required"]
            self.draft.report.approximated(
                line, "servers get the result in X-Client-Cert-Verify and other headers of that kind"
            )
        return made

    def _listed(self, name: str) -> list[str]:
        try:
            lines = Path(self.draft.file(name)).read_text("utf-8", "replace").splitlines()
        except OSError as error:
            raise NotPossible(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from None
        return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]

    def _certificate(self, name: str) -> dict[str, str]:
        path = Path(self.draft.file(str(Path(self._base, name))))
        if path.is_dir() or name.endswith("/"):
            return {"directory": str(path)}
        key = path.with_name(path.name + ".key")
        return {"cert": str(path), "key": str(key if key.exists() else path)}

    def _limits(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for words, key in (
            (("timeout", "http-request"), "header_timeout"),
            (("timeout", "client"), "idle_timeout"),
            (("timeout", "http-keep-alive"), "idle_timeout"),
        ):
            statement = self.section.last(*words)
            if statement is None or len(statement.arguments) < 2:
                continue
            try:
                made[key] = units.duration(statement.arguments[1], "ms")
            except ValueError as error:
                self.draft.report.impossible(statement.line, str(error))
                continue
            if words[1] == "client":
                self.draft.report.approximated(
                    statement.line, "for connections that wait; see body_rate for slow bodies"
                )
            else:
                self.draft.report.taken(statement.line)
        limit = self.section.last("maxconn")
        if limit is not None and limit.arguments and limit.arguments[0].isdigit():
            made["connections"] = max(1, int(limit.arguments[0]))
            self.draft.report.taken(limit.line)
        return made


def _min_version(version: str) -> dict[str, str]:
    number = version.removeprefix("TLSv")
    return {"policy": "old", "min_version": number} if number in ("1.0", "1.1") else {"min_version": number}


def _listen(text: str, dual: bool) -> str:  # noqa: FBT001 - HAProxy's own flag
    """An address to listen on. Raises NotPossible."""
    text = text.removeprefix("ipv4@").removeprefix("ipv6@")
    if text.startswith(("unix@", "/")):
        return f"unix:{text.removeprefix('unix@')}"
    if "@" in text:
        raise NotPossible(f"an address such as {text} has no counterpart")
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise NotPossible(f"one port is needed, not {port or text}: list them")
    if not 0 < int(port) < 65536:
        raise NotPossible("a port is between 1 and 65535")
    if host in ("::", "[::]"):
        return f":{port}" if dual else f"[::]:{port}"
    if host in ("", "*"):
        return f"{ANY}:{port}"
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
