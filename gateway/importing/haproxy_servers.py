"""Backends of HAProxy: servers, balancing, checks, stickiness, timeouts."""

import re
from pathlib import Path
from typing import Any, Final

from gateway.config.address import is_ip
from gateway.importing import units
from gateway.importing.draft import Draft, name_of
from gateway.importing.haproxy_lines import Section, Statement
from gateway.importing.report import MISFITS, Line, NotPossible, reason

_BALANCE: Final = {
    "roundrobin": "weighted-round-robin",
    "static-rr": "weighted-round-robin",
    "leastconn": "weighted-least-connections",
    "source": "source-hash",
    "uri": "uri-hash",
    "random": "two-choices",
}
_FLAGS: Final = frozenset(
    [
        "check",
        "backup",
        "ssl",
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2-ssl",
        "send-proxy-v2-ssl-cn",
        "disabled",
        "enabled",
        "check-ssl",
        "check-send-proxy",
        "allow-0rtt",
        "no-check",
        "no-ssl",
        "no-backup",
        "no-tls-tickets",
        "no-sslv3",
        "no-tlsv10",
        "no-tlsv11",
        "ssl-reuse",
        "stick",
        "non-stick",
        "agent-check",
        "force-tlsv12",
        "force-tlsv13",
        "check-via-socks4",
        "tfo",
        "no-check-ssl",
        "no-send-proxy",
    ]
)
_SILENT: Final = frozenset(
    [
        "enabled",
        "id",
        "pool-max-conn",
        "pool-low-conn",
        "pool-purge-delay",
        "max-reuse",
        "resolvers",
        "resolve-prefer",
        "resolve-opts",
        "init-addr",
        "fastinter",
        "downinter",
        "ssl-reuse",
        "stick",
        "no-check",
        "no-ssl",
        "no-backup",
        "no-sslv3",
        "no-tlsv10",
        "no-tlsv11",
        "log-proto",
        "tfo",
        "error-limit",
        "check-send-proxy",
        "no-check-ssl",
        "no-send-proxy",
        "cookie",
        "on-error",
        "observe",
    ]
)
"""Options that need nothing here, or that are looked at together with others."""
_TIMEOUTS: Final = {"connect": "connect", "server": "response", "tunnel": "tunnel"}
_RETRIES: Final = {
    "conn-failure": "connect",
    "empty-response": "reset",
    "junk-response": "reset",
    "response-timeout": None,
    "all-retryable-errors": "reset",
    "500": "500",
    "502": "502",
    "503": "503",
    "504": "504",
}


class Servers:
    """Makes the backend of a section."""

    def __init__(self, draft: Draft, section: Section) -> None:
        self.draft = draft
        self.section = section
        self.made: dict[str, Any] = {"balance": "weighted-round-robin", "servers": []}
        self._checked: list[dict[str, str]] = []
        self._unchecked = 0

    def make(self, name: str) -> bool:
        """Add the backend as `name`; False: it has no server."""
        for statement in self.section.all("balance", "cookie", "stick", "retries", "retry-on", "timeout", "hash-type"):
            self._guarded(statement)
        defaults: dict[str, str] = {}
        for statement in self.section.all("default-server", "server", "server-template"):
            try:
                if statement.keyword == "default-server":
                    defaults |= self._options(statement.arguments)
                    self.draft.report.taken(statement.line)
                else:
                    self._server(statement, defaults)
            except MISFITS as why:
                self.draft.report.impossible(statement.line, reason(why))
        if not self.made["servers"]:
            return False
        if self.made.get("h2") and "proxy_protocol" in self.made:
            del self.made["h2"]
            self.draft.report.approximated(self.section.line, "in HTTP/1.1, for a PROXY header belongs to one client")
        for step in (self._check, self._queue):
            try:
                step()
            except MISFITS as why:
                self.draft.report.impossible(self.section.line, reason(why))
        self.draft.backends[name] = self.made
        self.draft.lines[name] = self.section.line
        return True

    def _guarded(self, statement: Statement) -> None:
        method = getattr(self, f"_{statement.keyword.replace('-', '_')}")
        try:
            method(statement)
            self.draft.report.taken(statement.line)
        except MISFITS as why:
            self.draft.report.impossible(statement.line, reason(why))

    # --------------------------------------------------------------------------------------------------------- settings

    def _balance(self, statement: Statement) -> None:
        how = statement.arguments[0] if statement.arguments else "roundrobin"
        if header := re.fullmatch(r"hdr\(([^()]+)\)", how):
            self.made["balance"] = {"hash": f"header:{header[1]}"}
            return
        plain = how.split("(")[0]
        if plain not in _BALANCE:
            raise NotPossible(f"balance {how} has no counterpart: measured, the default here, takes its place")
        self.made["balance"] = _BALANCE[plain]
        if plain in ("source", "uri"):
            self.draft.report.approximated(statement.line, "by another hash: clients move to other servers once")

    def _hash_type(self, statement: Statement) -> None:
        self.draft.report.needless(
            statement.line, "hashes are always consistent: a server that goes moves only its share"
        )

    def _retries(self, statement: Statement) -> None:
        number = int(statement.arguments[0])
        self.made.setdefault("retries", {})["attempts"] = min(number, 5)
        if number > 5:
            self.draft.report.approximated(statement.line, "at most 5")

    def _retry_on(self, statement: Statement) -> None:
        causes = [_RETRIES.get(word, "?") for word in statement.arguments]
        if "?" in causes or statement.arguments == ["none"]:
            raise NotPossible("only connect, reset and statuses from 500 are causes of a retry")
        if None in causes:
            self.draft.report.approximated(statement.line, "a response that is late is not tried again: it is 504")
        wanted = list(dict.fromkeys(["connect", *(cause for cause in causes if cause)]))
        self.made.setdefault("retries", {})["on"] = wanted

    def _timeout(self, statement: Statement) -> None:
        kind, value = statement.arguments[:2]
        if kind in _TIMEOUTS:
            self.made.setdefault("timeouts", {})[_TIMEOUTS[kind]] = units.duration(value, "ms")

    def _cookie(self, statement: Statement) -> None:
        name, *words = statement.arguments
        if "prefix" in words or "rewrite" in words:
            self.made["affinity"] = {"cookie": name, "learn": True}
            self.draft.report.approximated(statement.line, "the server is named behind the cookie's value, signed")
            return
        affinity: dict[str, Any] = {"cookie": name}
        affinity |= {"secure": True} if "secure" in words else {}
        affinity["http_only"] = "httponly" in words
        for word, key in (("maxlife", "max_age"), ("maxidle", "max_age")):
            if word in words[:-1]:
                affinity[key] = units.duration(words[words.index(word) + 1], "s")
        if "domain" in words[:-1]:
            affinity["domain"] = words[words.index("domain") + 1].lstrip(".")
        for at, word in enumerate(words[:-1]):
            if word == "attr" and words[at + 1].lower().startswith("samesite="):
                affinity["same_site"] = words[at + 1].partition("=")[2].lower()
        self.made["affinity"] = affinity
        self.draft.report.approximated(
            statement.line, "the cookie is signed and names the server: clients get a new one, once, and servers see it"
        )

    def _stick(self, statement: Statement) -> None:
        words = statement.arguments
        if len(words) > 1 and words[0] in ("on", "match", "store-request") and "affinity" not in self.made:
            if words[1] == "src":
                self.made["affinity"] = {"source": 32}
                self.draft.report.approximated(statement.line, "by a hash of the address: there is no table to fill")
                return
            if header := re.fullmatch(r"(?:req\.)?hdr\(([^()]+)\)", words[1]):
                self.made["affinity"] = {"header": header[1]}
                self.draft.report.approximated(statement.line, "by a hash of the value: there is no table to fill")
                return
        cookie = re.fullmatch(r"(?:res\.|req\.)?cook\(([^()]+)\)", words[1]) if len(words) > 1 else None
        if cookie is None:
            raise NotPossible("affinity is by cookie, url, source or header")
        self.made["affinity"] = {"cookie": cookie[1], "learn": True}
        self.draft.report.approximated(
            statement.line, "the server is named behind the cookie's value, signed: no table"
        )

    # ---------------------------------------------------------------------------------------------------------- servers

    def _options(self, words: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        rest = iter(words)
        for name in rest:
            found[name] = "" if name in _FLAGS else next(rest, "")
        return found

    def _server(self, statement: Statement, defaults: dict[str, str]) -> None:
        words = list(statement.arguments)
        template = statement.keyword == "server-template"
        if len(words) < (3 if template else 2):
            raise NotPossible("a server needs a name and an address")
        name = words.pop(0)
        if template:
            words.pop(0)
        given = {**defaults, **self._options(words[1:])}
        if "disabled" in given or given.get("weight") == "0":
            self.draft.report.impossible(
                statement.line, "left out: a server is put aside by `gateway maintenance` or `drain`, not in the file"
            )
            return
        address = _address(words[0])
        named = template and not _is_ip(address)
        server: dict[str, Any] = {"name": name_of(name), "address": f"dns:{address}" if named else address}
        if named:
            self.draft.report.approximated(statement.line, "every address of the name is a server; its name says which")
        elif template:
            self.draft.report.approximated(statement.line, "one server: the address is the same each time")
        if "weight" in given:
            server["weight"] = max(1, min(256, int(given["weight"])))
        if int(given.get("maxconn", "0")):
            server["max_connections"] = int(given["maxconn"])
        if "backup" in given:
            server["backup"] = True
        self._of_backend(given, statement)
        self.made["servers"].append(server)
        self.draft.server_lines[id(server)] = statement.line
        if "check" in given:
            self._checked.append(given)
        else:
            self._unchecked += 1
        self.draft.report.taken(statement.line)

    def _of_backend(self, given: dict[str, str], statement: Statement) -> None:
        """Options that a backend has here, not a server."""
        line = statement.line
        report = self.draft.report
        for name, value in given.items():
            if name in ("send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn"):
                self._all_servers("proxy_protocol", "v2", line)
            elif name == "send-proxy":
                self._all_servers("proxy_protocol", "v1", line)
            elif name == "proto":
                self._all_servers("h2", value == "h2", line)
            elif name == "ssl":
                self._all_servers("tls", self._tls(given, line), line)
            elif name == "slowstart":
                self.made["slow_start"] = units.duration(value, "ms")
            elif name == "agent-port":
                self.made["agent"] = {"connect": int(value)}
            elif name == "cookie":
                report.approximated(line, "the name of the server stands in the cookie, not this value")
            elif name == "observe":
                self.made["outlier"] = {"errors": int(given.get("error-limit", "10"))}
                report.approximated(line, "observe: see outlier, which ejects a server for a time")
            elif name in _UNSUPPORTED:
                report.impossible(line, _UNSUPPORTED[name])
            elif name not in _KNOWN and name not in _SILENT:
                report.impossible(line, f"{name} has no counterpart and is left out")

    def _all_servers(self, key: str, value: object, line: Line) -> None:
        """Set what all servers of a backend have alike here."""
        if key in self.made and self.made[key] != value:
            self.draft.report.approximated(line, f"{key} is the same for all servers of a backend: the last one counts")
        elif key not in self.made and self.made["servers"]:
            self.draft.report.approximated(
                line, f"{key} is the same for all servers of a backend, those before as well"
            )
        self.made[key] = value

    def _tls(self, given: dict[str, str], line: Line) -> dict[str, Any]:
        made: dict[str, Any] = {"verify": given.get("verify", "required") != "none"}
        if not made["verify"]:
            self.draft.report.taken(
                line, "without verification: attackers on the network path can read and change traffic"
            )
        if "ca-file" in given and given["ca-file"] != "@system-ca":
            made["ca"] = self.draft.file(given["ca-file"])
        if "crt" in given:
            made["certificate"] = {"cert": self.draft.file(given["crt"]), "key": self.draft.file(given["crt"])}
        wanted = given.get("verifyhost") or given.get("sni", "")
        if text := re.fullmatch(r"str\((.+)\)", wanted):
            made["server_name"] = text[1]
        elif re.fullmatch(r"(?:req\.)?hdr\(host\).*|ssl_fc_sni.*", wanted):
            made["server_name"] = "{host}"
        elif wanted and "(" not in wanted:
            made["server_name"] = wanted
        if "alpn" in given and "h2" in given["alpn"]:
            self.made["h2"] = True
        return made

    # --------------------------------------------------------------------------------------------- checks and the queue

    def _check(self) -> None:
        if not self._checked:
            return
        given = self._checked[0]
        check = self._probe()
        for name, key in (("rise", "rise"), ("fall", "fall"), ("port", "port")):
            if name in given:
                check[key] = int(given[name])
        if "inter" in given:
            check["interval"] = units.duration(given["inter"], "ms")
        timeout = self.section.last("timeout", "check")
        if timeout is not None:
            check["timeout"] = units.duration(timeout.arguments[1], "ms")
        if "check-ssl" in given and "ssl" not in given:
            check["tls"] = {"verify": given.get("verify", "required") != "none"}
        self.made["check"] = check
        if self._unchecked:
            last = next(iter(self.section.all("server")), None)
            if last is not None:
                self.draft.report.approximated(last.line, "all servers of the backend are checked, or none")

    def _probe(self) -> dict[str, Any]:
        statement = self.section.last("option", "httpchk")
        if statement is None:
            return {"tcp": True}
        words = statement.arguments[1:]
        check: dict[str, Any] = {"http": "/", "method": "OPTIONS"}
        headers: dict[str, str] = {}
        if len(words) == 1:
            check["http"] = words[0]
        elif len(words) >= 2:
            check |= {"method": words[0], "http": words[1]}
        version, *lines = (" ".join(words[2:])).replace("\r", "").split("\n")
        del version
        headers |= {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}
        for statement in self.section.all("http-check"):
            self._step(statement, check, headers)
        check.setdefault("expect", {"status": "200-399"})
        host = next((headers.pop(name) for name in list(headers) if name.lower() == "host"), None)
        check |= {"host": host} if host else {}
        check |= {"headers": headers} if headers else {}
        return check

    def _step(self, statement: Statement, check: dict[str, Any], headers: dict[str, str]) -> None:
        report, words = self.draft.report, statement.arguments
        if words[:1] == ["send"]:
            rest = iter(words[1:])
            for word in rest:
                if word == "meth":
                    check["method"] = next(rest, "GET")
                elif word == "uri":
                    check["http"] = next(rest, "/")
                elif word == "hdr":
                    headers[next(rest, "X")] = next(rest, "")
            report.taken(statement.line)
        elif words[:2] == ["expect", "status"] and len(words) > 2:
            check["expect"] = {"status": [_status(item) for item in words[2].split(",")]}
            report.taken(statement.line)
        elif words[:2] == ["expect", "string"] or words[:2] == ["expect", "rstring"]:
            text = " ".join(words[2:])
            check.setdefault("expect", {})["body"] = text if words[1] == "string" else f"~{text}"
            report.taken(statement.line)
        else:
            report.impossible(statement.line, "a check is one request: see check of a backend")

    def _queue(self) -> None:
        if any("max_connections" in server for server in self.made["servers"]):
            wanted = self.section.last("timeout", "queue") or self.section.last("timeout", "connect")
            timeout = units.duration(wanted.arguments[1], "ms") if wanted is not None else "5s"
            self.made["queue"] = {"timeout": timeout}


_KNOWN: Final = frozenset(
    [
        "check",
        "inter",
        "rise",
        "fall",
        "port",
        "agent-check",
        "weight",
        "maxconn",
        "backup",
        "ssl",
        "verify",
        "ca-file",
        "crt",
        "sni",
        "verifyhost",
        "alpn",
        "check-ssl",
        "disabled",
    ]
)
_UNSUPPORTED: Final = {
    "track": "track: give the server a check of its own",
    "redir": "redir: write a route with redirect",
    "source": "source: connections leave by the address that the system chooses",
    "maxqueue": "maxqueue: see queue: limit of the backend",
    "crl-file": "crl-file: revocation lists are not read",
    "ciphers": "ciphers: see tls: min_version",
    "on-marked-down": "on-marked-down: connections to a server that is down end by themselves",
}


def _is_ip(address: str) -> bool:
    """Whether an address of a server is no name that could have several."""
    return address.startswith("unix:") or is_ip(address.rpartition(":")[0].strip("[]"))


def _status(item: str) -> int | str:
    return item if "-" in item else int(item)


def _address(text: str) -> str:
    """An address of a server as a site file has it. Raises NotPossible."""
    for prefix in ("ipv4@", "ipv6@"):
        text = text.removeprefix(prefix)
    if text.startswith(("unix@", "/")):
        return f"unix:{Path(text.removeprefix('unix@'))}"
    if text.startswith(("abns@", "fd@", "quic")) or "+" in text:
        raise NotPossible(f"an address such as {text} has no counterpart")
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise NotPossible(f"say the port of the server: {text}:PORT")
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{host}:{port}"
