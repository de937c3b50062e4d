"""Makes a site file of a configuration of HAProxy (versions 2.0 and later)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gateway.importing import units
from gateway.importing.draft import Draft, name_of
from gateway.importing.haproxy_binds import Binds
from gateway.importing.haproxy_conditions import Acl, Conditions
from gateway.importing.haproxy_lines import Section, Statement, sections
from gateway.importing.haproxy_maps import MapText
from gateway.importing.haproxy_rules import Rules, Table, split_condition
from gateway.importing.haproxy_servers import Servers
from gateway.importing.haproxy_text import Texts, calls, field_of
from gateway.importing.matches import Match, both
from gateway.importing.report import MISFITS, NotPossible, reason

_OPTIONS_NEEDLESS: Final = {
    "httplog": "every request is logged in whole",
    "dontlognull": "connections without a request are not logged",
    "http-server-close": "connections to servers are kept",
    "http-keep-alive": "connections are kept",
    "http-no-delay": "done always",
    "prefer-last-server": "see affinity",
    "redispatch": "a retry goes to another server",
    "forwardfor": "X-Forwarded-For is always sent; what clients say in it is dropped, unless they are trusted_proxies",
    "tcp-smart-accept": "done always",
    "tcp-smart-connect": "done always",
    "splice-auto": "done always",
    "contstats": "counters are continuous",
    "log-health-checks": "changes of state are logged",
    "tcpka": "sessions are bounded in time",
    "clitcpka": "sessions are bounded in time",
    "srvtcpka": "sessions are bounded in time",
    "http-ignore-probes": "connections without a request are not logged",
    "nolinger": "done where it is needed",
    "abortonclose": "a request whose client has left is not sent",
    "log-separate-errors": "failures caused by servers are in the error log as well",
    "logasap": "see upstream_ms in the access log",
    "http-use-htx": "a matter of HAProxy alone",
    "h1-case-adjust-bogus-client": "names of headers are passed on as they came",
    "h1-case-adjust-bogus-server": "names of headers are passed on as they came",
    "dontlog-normal": "see `gateway logs`, which filters",
}
_OPTIONS: Final = {
    "httpclose": "connections are kept: servers that close theirs may do so",
    "allbackups": "one backup server after the other is used, not all at once",
    "http-buffer-request": "bodies are streamed",
}
_CHECKS_BY_CONNECTION: Final = frozenset(
    ["tcp-check", "mysql-check", "pgsql-check", "redis-check", "smtpchk", "ldap-check", "ssl-hello-chk"]
)
_NEEDLESS: Final = {
    "mode": "every frontend speaks HTTP",
    "daemon": "`gateway run` stays in the foreground, for systemd",
    "chroot": "the kernel holds each process to its role (docs/security.md)",
    "group": "see user",
    "uid": "see user",
    "gid": "see user",
    "pidfile": "commands find the gateway by its socket",
    "master-worker": "done always",
    "stats": "see admin",
    "nbproc": "see workers",
    "log-tag": "log lines are the gateway's own",
    "log-format": "see access_log: format",
    "log-format-sd": "see access_log: format",
    "http-reuse": "idle connections to servers are shared",
    "unique-id-format": "every request has an id: X-Request-ID",
    "unique-id-header": "every request has an id: X-Request-ID",
    "ulimit-n": "set by the supervisor",
    "node": "see node",
    "description": "a remark",
    "spread-checks": "checks are spread",
    "fullconn": "see qos.overload",
    "load-server-state-from-file": "states of servers are kept over reloads and restarts",
    "server-state-file": "states of servers are kept over reloads and restarts",
    "external-check": "see check of a backend",
    "presetenv": "environment",
    "setenv": "environment",
    "id": "a number of HAProxy's own",
    "enabled": "every section is, unless it says disabled",
    "no": "an option that is off",
    "busy-polling": "a matter of HAProxy alone",
    "cpu-map": "see workers",
    "ssl-engine": "a matter of HAProxy alone",
    "ssl-dh-param-file": "a matter of ciphers that are not offered",
    "h1-case-adjust": "names of headers are passed on as they came",
    "h1-case-adjust-file": "names of headers are passed on as they came",
    "resolve-opts": "names are followed by their TTL",
}
_IMPOSSIBLE: Final = {
    "compression": "answers are not compressed: let the servers do it",
    "filter": "filters have no counterpart: compression and caches belong to servers",
    "use-server": "a route chooses a backend: make one of that server",
    "errorloc": "write a page of your own: pages, in the site file or a route",
    "errorloc302": "write a page of your own: pages, in the site file or a route",
    "errorloc303": "write a page of your own: pages, in the site file or a route",
    "errorfiles": "name each page in pages",
    "tcp-request": "see limits of a frontend (connections_per_source), rates, and qos: classes with admit: never",
    "tcp-response": "connections as such have no rules",
    "declare": "captures have no counterpart: write header:NAME in access_log: format",
    "capture": "write header:NAME in access_log: format",
    "email-alert": "see conf/prometheus-alerts.yml",
    "lua-load": "write a rule in Python (docs/rules.md)",
    "dispatch": "name the server in a backend",
    "reqrep": "not part of HAProxy any more: see rewrite",
    "reqadd": "not part of HAProxy any more: see set_header",
    "rspadd": "not part of HAProxy any more: see set_response_header",
    "force-persist": "see `gateway drain` and affinity",
    "ignore-persist": "see affinity: false in a route",
    "monitor": "see /readyz of `admin: listen`",
    "http-error": "name the page in pages",
    "http-send-name-header": "servers are not told their names: give each one a backend, with set_header in its route",
    "rate-limit": "connections have no rate: write a route with rate for requests, see connections_per_source and"
    " handshakes_per_source in limits of a frontend, or qos",
    "monitor-uri": "its path begins with /: write a route with respond",
}
_SECTIONS: Final = {
    "peers": "stick-tables are not replicated: gateways of a cluster share rates and sessions (cluster: listen)",
    "mailers": "see conf/prometheus-alerts.yml",
    "program": "start it by systemd",
    "cache": "answers are not cached: put a cache behind the gateway",
    "ring": "see access_log",
    "fcgi-app": "servers speak HTTP",
    "http-errors": "name each page in pages",
}
_HANDLED: Final = frozenset(
    [
        "bind",
        "server",
        "server-template",
        "default-server",
        "balance",
        "cookie",
        "stick",
        "retries",
        "retry-on",
        "hash-type",
        "http-check",
        "acl",
        "http-request",
        "http-response",
        "http-after-response",
        "redirect",
        "use_backend",
        "default_backend",
        "timeout",
        "maxconn",
    ]
)
_RULES: Final = ("http-request", "redirect")
_RESPONSES: Final = ("http-response",)
_ANSWERS: Final = ("http-after-response",)
"""Of answers of HAProxy itself as well: before the rules that answer."""
_REWRITES: Final = frozenset(
    {"set-path", "set-pathq", "set-uri", "set-query", "replace-path", "replace-pathq", "replace-uri"}
)
_PERIOD: Final = re.compile(r"http_req_rate\(([^)]+)\)")


def draft_of(path: Path) -> Draft:
    """The draft of a site file. Raises BadInput."""
    return _Configuration(path, sections(path)).draft


class _Configuration:
    """One configuration on its way."""

    def __init__(self, path: Path, found: list[Section]) -> None:
        self.draft = Draft(path)
        self.report = self.draft.report
        self.texts = Texts(path.parent, self._add_map)
        self.rules = Rules(self.draft, self.texts)
        self._sections = found
        self._backends = {one.name: one for one in found if one.kind in ("backend", "listen")}
        self._made: dict[str, str] = {}
        self._policy: dict[str, Any] = {}
        self._crt_base = ""
        self._frontends: dict[str, list[dict[str, Any]]] = {}
        self._ports: dict[int, list[str]] = {}
        self._all()

    def _add_map(self, found: MapText) -> str:
        keys: dict[str, Any] = {"keys": found.keys} if found.keys != "exact" else {}
        if found.default is not None:
            keys["default"] = found.default
        return self.draft.add_map(found.name, found.content, **keys)

    def _all(self) -> None:
        for section in self._sections:
            self.report.taken(section.line)
            if section.kind in _SECTIONS:
                self._left_out(section, _SECTIONS[section.kind])
        for kind, take in (("global", self._global), ("userlist", self._userlist), ("resolvers", self._resolvers)):
            for section in self._kind(kind):
                take(section)
        http = [
            one
            for one in self._kind("frontend", "backend", "listen")
            if self._is_enabled(one) and self._speaks_http(one) and not self._shows_statistics(one)
        ]
        for section in http:
            self._settings(section)
            self._tables(section)
        for section in (one for one in http if one.kind != "frontend"):
            self._backend(section)
        for section in (one for one in http if one.kind != "backend"):
            self._frontends[section.name] = Binds(self.draft, section, self._crt_base, self._policy).make()
        self._find_ports()
        for section in (one for one in http if self._frontends.get(one.name)):
            self._routes(section)
        for section in self._backends.values():
            for statement in section.all(*_RULES, *_RESPONSES, *_ANSWERS):
                if statement.line not in self.report.entries:
                    self.report.needless(statement.line, f"no frontend uses the backend {section.name}")

    def _find_ports(self) -> None:
        for frontend in self.draft.frontends:
            for listen in frontend["listen"]:
                port = listen.rpartition(":")[2]
                if port.isdigit():
                    self._ports.setdefault(int(port), []).append(frontend["name"])

    def _kind(self, *kinds: str) -> Iterator[Section]:
        return (section for section in self._sections if section.kind in kinds)

    def _left_out(self, section: Section, why: str) -> None:
        self.report.impossible(section.line, why)
        for statement in section.statements:
            # What comes from defaults is for other sections, too.
            if statement.line.number > section.line.number and statement.line not in self.report.entries:
                self.report.impossible(statement.line, "left out with its section")

    def _is_enabled(self, section: Section) -> bool:
        said = [each.keyword for each in section.statements if each.keyword in ("enabled", "disabled")]
        if said[-1:] != ["disabled"]:
            return True
        self._left_out(section, "it is disabled; remove this word if it is to be imported")
        return False

    def _speaks_http(self, section: Section) -> bool:
        mode = section.last("mode")
        # A section that says nothing, and whose defaults say nothing, is of TCP in HAProxy.
        if mode is not None and mode.arguments[:1] == ["http"]:
            return True
        self._left_out(section, "connections as such (mode tcp) are not forwarded yet: keep HAProxy for them")
        return False

    def _shows_statistics(self, section: Section) -> bool:
        """Whether a section is there for nothing but statistics, which `admin` has."""
        own = [each for each in section.statements if each.line.number > section.line.number]
        if section.kind == "backend" or not any(each.keyword == "stats" for each in own):
            return False
        if any(each.keyword in ("server", "server-template", "default_backend", "use_backend") for each in own):
            return False
        for statement in own:
            if statement.keyword == "stats":
                self._stats(statement)
            else:
                self.report.needless(statement.line, "statistics are at 127.0.0.1:8900 alone: see admin")
        return True

    # -------------------------------------------------------------------------------------------------------- sections

    def _global(self, section: Section) -> None:
        for statement in section.statements:
            keyword, words = statement.keyword, statement.arguments
            if keyword == "nbthread" and words[:1] and words[0].isdigit():
                self.draft.top["workers"] = max(1, min(64, int(words[0])))
                self.report.taken(statement.line)
            elif keyword == "user" and words:
                self.draft.top["user"] = "nobody"
                self.report.approximated(
                    statement.line, "user: nobody; better an account of its own (conf/gateway.sysusers.conf)"
                )
            elif keyword == "maxconn":
                self.report.approximated(
                    statement.line, "limits: connections of each frontend; 10,000 if it says nothing"
                )
            elif keyword == "log":
                self._log(statement)
            elif keyword == "crt-base" and words:
                self._crt_base = words[0]
                self.report.taken(statement.line)
            elif keyword == "ssl-default-bind-options" and "ssl-min-ver" in words[:-1]:
                version = words[words.index("ssl-min-ver") + 1].removeprefix("TLSv")
                self._policy = {"min_version": version} if version in ("1.2", "1.3") else {"policy": "old"}
                self.report.taken(statement.line)
            elif keyword.startswith("ssl-default-"):
                self.report.approximated(statement.line, "ciphers are those of tls: policy (Mozilla's intermediate)")
            elif keyword == "stats":
                self._stats(statement)
            elif keyword.startswith("tune."):
                self.report.needless(statement.line, "a matter of HAProxy alone; see limits of a frontend")
            else:
                self._known(statement)

    def _log(self, statement: Statement) -> None:
        self.draft.top["access_log"] = "-"
        self.report.approximated(
            statement.line, "requests are logged to standard output, which systemd keeps: see access_log"
        )

    def _stats(self, statement: Statement) -> None:
        self.draft.top["admin"] = {"listen": "127.0.0.1:8900"}
        self.report.approximated(statement.line, "page, API and metrics are at 127.0.0.1:8900: see admin")

    def _known(self, statement: Statement) -> None:
        keyword = statement.keyword
        if keyword in _NEEDLESS:
            self.report.needless(statement.line, _NEEDLESS[keyword])
        else:
            self.report.impossible(statement.line, _IMPOSSIBLE.get(keyword, f"{keyword} has no counterpart"))

    def _userlist(self, section: Section) -> None:
        lines, names = [], []
        for statement in section.statements:
            words = statement.words
            if words[0] == "user" and len(words) >= 4 and words[2] == "password":
                lines.append(f"{words[1]}:{words[3]}\n")
                names.append(words[1])
                self.report.taken(statement.line)
            elif words[0] == "user":
                self.report.impossible(statement.line, "only hashed passwords are taken: htpasswd -B")
            else:
                self.report.impossible(statement.line, "groups do not exist: name the users in basic_auth: users")
        self.rules.users[section.name] = names
        if lines:
            self.draft.files[f"users-{name_of(section.name)}"] = "".join(lines)

    def _resolvers(self, section: Section) -> None:
        servers = [each.arguments[-1] for each in section.all("nameserver") if len(each.arguments) > 1]
        for statement in section.statements:
            if statement.keyword in ("nameserver", "parse-resolv-conf"):
                self.report.taken(statement.line)
            else:
                self.report.needless(statement.line, "answers are followed by their TTL")
        if servers:
            self.draft.top["resolver"] = {"nameservers": servers}

    def _settings(self, section: Section) -> None:
        """What is the same in every section, and is no rule."""
        for statement in section.statements:
            keyword = statement.keyword
            if keyword == "option":
                self._option(statement)
            elif keyword == "log":
                self._log(statement)
            elif keyword == "stats":
                self._stats(statement)
            elif keyword == "errorfile":
                self._error_file(statement)
            elif keyword == "acl":
                self.report.taken(statement.line)
            elif keyword == "timeout":
                self._timeout(statement)
            elif keyword == "maxconn" or (keyword == "monitor-uri" and statement.arguments[:1] != []):
                self.report.taken(statement.line)
            elif keyword != "stick-table" and keyword not in _HANDLED:
                self._known(statement)

    def _option(self, statement: Statement) -> None:
        name = statement.arguments[0] if statement.arguments else ""
        if name == "httpchk":
            self.report.taken(statement.line)
        elif name in _CHECKS_BY_CONNECTION:
            self.report.approximated(statement.line, "checked by opening a connection (check: tcp)")
        elif name in _OPTIONS_NEEDLESS:
            self.report.needless(statement.line, _OPTIONS_NEEDLESS[name])
        elif name in _OPTIONS:
            self.report.approximated(statement.line, _OPTIONS[name])
        else:
            self.report.impossible(statement.line, f"the option {name} has no counterpart")

    def _timeout(self, statement: Statement) -> None:
        words = statement.arguments
        try:
            units.milliseconds(words[1], "ms")
        except (ValueError, IndexError):
            self.report.impossible(statement.line, "a timeout needs a duration such as 30s")
            return
        if words[0] in ("connect", "server", "queue", "check", "tunnel", "http-request", "http-keep-alive", "client"):
            self.report.taken(statement.line)
        else:
            self.report.needless(statement.line, f"timeout {words[0]} has no counterpart; see timeouts and limits")

    def _error_file(self, statement: Statement) -> None:
        words = statement.arguments
        try:
            text = Path(self.draft.file(words[1])).read_text("utf-8", "replace").replace("\r\n", "\n")
        except (OSError, IndexError):
            self.report.impossible(
                statement.line, "the file cannot be read: write the body into a file, and name it in pages"
            )
            return
        if not words[0].isdigit() or not 400 <= int(words[0]) <= 599:
            self.report.impossible(statement.line, "pages are for statuses from 400 to 599")
            return
        body = text.partition("\n\n")[2] if text.startswith("HTTP/") else text
        name = f"pages/{words[0]}.html"
        self.draft.files[name] = body or "\n"
        self.draft.pages[int(words[0])] = name
        self.report.approximated(statement.line, f"its body is in {name}, for the whole site; its headers are left out")

    def _tables(self, section: Section) -> None:
        for statement in section.all("stick-table"):
            period = _PERIOD.search(" ".join(statement.arguments))
            try:
                seconds = units.milliseconds(period[1], "ms") / 1000 if period is not None else 0
            except ValueError:
                seconds = 0
            if not seconds:
                self.report.impossible(
                    statement.line, "only http_req_rate has a counterpart (rate, in a route); stickiness is affinity"
                )
                continue
            self.rules.tables[section.name] = Table(seconds)
            self.report.approximated(
                statement.line, "rates are counted by the routes that limit them: no size, no expiry"
            )

    def _backend(self, section: Section) -> None:
        name = name_of(section.name)
        if Servers(self.draft, section).make(name):
            self._made[section.name] = name
        elif section.kind == "backend":
            self.report.approximated(section.line, "without a server: its requests get 503")

    # ---------------------------------------------------------------------------------------------------------- routes

    def _conditions(self, section: Section) -> Conditions:
        conditions = Conditions(self.draft.source.parent, self._ports, self._made)
        for statement in section.all("acl"):
            if len(statement.arguments) >= 2:
                conditions.acls.setdefault(statement.arguments[0], Acl()).lines.append(statement.arguments[1:])
        return conditions

    def _routes(self, section: Section) -> None:
        names = [frontend["name"] for frontend in self._frontends[section.name]]
        self.draft.at = section.line
        others = sum(map(len, self._frontends.values())) > len(names)
        base: Match = {"frontend": names if len(names) > 1 else names[0]} if others else {}
        conditions = self._conditions(section)
        for statement in section.all(*_ANSWERS):
            self.rules.add(statement, base, conditions, section)
        self._monitor(section, base)
        for statement in (*section.all(*_RULES), *section.all(*_RESPONSES)):
            self.rules.add(statement, base, conditions, section)
        for statement in section.all("use_backend"):
            self._use(statement, base, conditions)
        default = section.last("default_backend")
        for statement in section.all("default_backend"):
            self.report.taken(statement.line)
        if default is not None:
            self.draft.at = default.line
            try:
                self._to_backend(default.arguments[0], base)
            except MISFITS as why:
                self.report.impossible(default.line, reason(why))
        elif section.name in self._made and section.kind == "listen":
            self.draft.route(base, backend=self._made[section.name])
        else:
            self.draft.route(base, respond={"status": 503})

    def _monitor(self, section: Section, base: Match) -> None:
        """The path that HAProxy answers itself, for balancers in front of it."""
        statement = section.last("monitor-uri")
        if statement is not None and statement.arguments:
            self.draft.at = statement.line
            self.draft.route(both(base, {"path": f"= {statement.arguments[0]}"}), respond={"status": 200})
            self.draft.at = section.line

    def _use(self, statement: Statement, base: Match, conditions: Conditions) -> None:
        words, condition = split_condition(statement.arguments)
        self.draft.at = statement.line
        try:
            match = both(base, conditions.match(condition))
            if words[0].startswith("%["):
                self._by_map(words[0][2:-1], match)
            else:
                self._to_backend(words[0], match)
            self.report.taken(statement.line)
        except MISFITS as why:
            self.report.impossible(statement.line, f"{reason(why)}; the rule is left out")

    def _by_map(self, expression: str, base: Match) -> None:
        """A backend that a map names: a route for each value of the map."""
        (fetch, argument), *converters = calls(expression)
        field = field_of(fetch, argument)
        last = converters[-1] if converters else ("", "")
        if field not in ("host", "path", "client") or not last[0].startswith("map"):
            raise NotPossible("a backend is chosen by name, or by a map of the host, the path or the client")
        found = MapText.read(last[0], last[1], self.draft.source.parent)
        name = self.texts.map(*last, of=field)
        for backend in dict.fromkeys(value for _, value in found.pairs):
            if backend in self._backends:
                self._to_backend(backend, both(base, {"when": f'map("{name}", {field}) == "{backend}"'}))
        if found.default is not None:
            self._to_backend(found.default, base)

    def _to_backend(self, name: str, match: Match) -> None:
        section = self._backends.get(name)
        if section is None:
            raise NotPossible(f"there is no backend {name}")
        rules = list(section.all(*_RULES)) if section.kind == "backend" else []
        responses = list(section.all(*_RESPONSES)) if section.kind == "backend" else []
        answers = list(section.all(*_ANSWERS)) if section.kind == "backend" else []
        made = self._made.get(name)
        if any(rule.arguments and rule.arguments[0] in _REWRITES for rule in rules) and match:
            # The rules of the backend change what the match looks at: the choice is kept in a class.
            self.draft.route(match, class_=f"to-{name_of(name)}"[:64])
            match = {"class": f"to-{name_of(name)}"[:64]}
        conditions = self._conditions(section)
        for rule in [*answers, *rules, *responses]:
            self.rules.add(rule, match, conditions, section)
        if made is None:
            self.draft.route(match, respond={"status": 503})
        else:
            self.draft.route(match, backend=made)
