"""Makes a site file of a configuration of nginx (1.18 and later), which crossplane parses."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.importing.draft import Draft
from gateway.importing.haproxy_lines import read
from gateway.importing.matches import Match, both
from gateway.importing.nginx_access import Access
from gateway.importing.nginx_hosts import Part, described, in_order
from gateway.importing.nginx_listeners import Listeners
from gateway.importing.nginx_locations import Location, Place
from gateway.importing.nginx_locations import in_order as locations_in_order
from gateway.importing.nginx_maps import Variables
from gateway.importing.nginx_proxy import Proxy, jumps
from gateway.importing.nginx_rules import RULES
from gateway.importing.nginx_scope import Scope
from gateway.importing.nginx_text import Texts
from gateway.importing.nginx_tree import Directive, tree
from gateway.importing.nginx_upstreams import Upstreams
from gateway.importing.report import MISFITS, BadInput, reason

_NGINX: Final = re.compile(
    r"^\s*(http|events|server|upstream|map|worker_processes|include|user)\b[^\n]*[{;]\s*(#.*)?$", re.MULTILINE
)
_TAKEN: Final = frozenset(["server_name", "http", "server", "location", "default_type", "ssl", "http2", "internal"])
_NEEDLESS: Final = {
    **dict.fromkeys(
        [
            "sendfile",
            "tcp_nopush",
            "tcp_nodelay",
            "multi_accept",
            "use",
            "aio",
            "directio",
            "events",
            "worker_connections",
            "worker_rlimit_nofile",
            "types",
            "types_hash_max_size",
            "types_hash_bucket_size",
            "server_names_hash_bucket_size",
            "server_names_hash_max_size",
            "map_hash_bucket_size",
            "map_hash_max_size",
            "variables_hash_max_size",
            "proxy_headers_hash_max_size",
            "proxy_headers_hash_bucket_size",
            "pid",
            "daemon",
            "error_log",
            "load_module",
            "worker_cpu_affinity",
            "worker_priority",
            "thread_pool",
            "pcre_jit",
            "timer_resolution",
            "env",
            "lock_file",
            "worker_shutdown_timeout",
            "reset_timedout_connection",
            "open_file_cache",
            "open_file_cache_valid",
            "open_file_cache_min_uses",
            "open_file_cache_errors",
            "log_not_found",
            "lingering_close",
            "lingering_time",
            "lingering_timeout",
            "postpone_output",
            "output_buffers",
            "request_pool_size",
            "connection_pool_size",
            "optimize_server_names",
            "charset",
            "server_tokens",
            "etag",
            "if_modified_since",
        ],
        "a matter of nginx alone",
    ),
    "proxy_http_version": "servers are spoken to in HTTP/1.1",
    "proxy_buffering": "answers are passed on as they come",
    "proxy_buffers": "answers are passed on as they come",
    "proxy_buffer_size": "see header_bytes in limits of a frontend",
    "proxy_busy_buffers_size": "answers are passed on as they come",
    "proxy_max_temp_file_size": "nothing is written to disk",
    "proxy_temp_file_write_size": "nothing is written to disk",
    "proxy_temp_path": "nothing is written to disk",
    "proxy_request_buffering": "bodies are passed on as they come",
    "client_body_buffer_size": "bodies are passed on as they come",
    "client_body_temp_path": "nothing is written to disk",
    "client_header_buffer_size": "see header_bytes in limits of a frontend",
    "proxy_send_timeout": "see timeouts: response",
    "send_timeout": "clients that take nothing are bounded in time",
    "proxy_socket_keepalive": "idle connections end by timeouts",
    "proxy_ssl_session_reuse": "sessions are resumed",
    "proxy_pass_header": "headers of servers pass, also those that nginx hides",
    "proxy_pass_request_headers": "headers pass",
    "proxy_ignore_headers": "the gateway obeys no X-Accel header",
    "keepalive_requests": "there is no limit",
    "keepalive_disable": "a matter of nginx alone",
    "ssl_session_cache": "sessions are in tickets, at the clients",
    "ssl_session_timeout": "sessions are in tickets, at the clients",
    "ssl_session_tickets": "sessions are in tickets, at the clients",
    "ssl_session_ticket_key": "see ticket_key_file in tls",
    "ssl_buffer_size": "a matter of nginx alone",
    "ssl_protocols": "no server speaks TLS here",
    "ssl_dhparam": "ciphers that need it are not offered",
    "ssl_early_data": "early data is not taken: it could be repeated",
    "real_ip_recursive": "the nearest address that is no trusted proxy's counts, always",
    "resolver_timeout": "see resolver: timeout",
    "port_in_redirect": "redirects name no port unless the target does",
    "absolute_redirect": "redirects are as they are written",
    "server_name_in_redirect": "redirects are as they are written",
    "recursive_error_pages": "see pages",
    "underscores_in_headers": "such headers pass",
    "ignore_invalid_headers": "such requests get 400",
    "satisfy": "see basic_auth",
    "limit_req_log_level": "the access log has all requests",
    "limit_conn_log_level": "the access log has all requests",
    "limit_req_status": "refused requests get 429",
    "limit_conn_status": "connections over the limit are closed",
    "limit_req_dry_run": "see dry_run",
    "rewrite_log": "see `gateway explain` and `gateway trace`",
    "log_subrequest": "there are none",
    "proxy_intercept_errors": "answers of servers pass",
    "gzip_static": "answers are not compressed",
    "gzip_disable": "answers are not compressed",
    "gzip_vary": "answers are not compressed",
    "limit_rate_after": "see bandwidth",
    "stub_status": "figures are at /metrics of `admin: listen`",
    "add_header": "no answer has it: the blocks inside have headers of their own, or are never reached",
    "status_zone": "figures are at /metrics of `admin: listen`",
}
_APPROXIMATED: Final = {
    "ssl_ciphers": "ciphers are those of tls: policy (Mozilla's intermediate)",
    "ssl_prefer_server_ciphers": "ciphers are those of tls: policy",
    "ssl_ecdh_curve": "curves are those of tls: policy",
    "ssl_stapling": "see ocsp of a certificate: a file with the response",
    "ssl_stapling_verify": "see ocsp of a certificate",
    "ssl_trusted_certificate": "see ocsp of a certificate",
    "user": "user: nobody; better an account of its own (conf/gateway.sysusers.conf)",
    "client_body_timeout": "see body_rate in limits of a frontend",
    "large_client_header_buffers": "see header_bytes and url_bytes in limits of a frontend",
    "merge_slashes": "see merge_slashes of a frontend",
    "log_format": "see access_log: format",
    "proxy_next_upstream_timeout": "each try has its timeouts",
}
_IMPOSSIBLE: Final = {
    "gzip": "answers are not compressed: let the servers do it",
    "gzip_": "answers are not compressed: let the servers do it",
    "brotli": "answers are not compressed: let the servers do it",
    "gunzip": "answers are not compressed: let the servers do it",
    "proxy_cache": "answers are not cached: put a cache behind the gateway",
    "proxy_no_cache": "answers are not cached: put a cache behind the gateway",
    "proxy_store": "answers are not stored",
    "fastcgi": "servers speak HTTP",
    "uwsgi": "servers speak HTTP",
    "scgi": "servers speak HTTP",
    "grpc": "see h2, tls and timeouts of a backend",
    "auth_request": "write a rule in Python (docs/rules.md), or leave it to the servers",
    "auth_jwt": "leave it to the servers",
    "mirror": "requests are not mirrored",
    "sub_filter": "bodies are not changed: let the servers do it",
    "ssi": "bodies are not changed: let the servers do it",
    "add_before_body": "bodies are not changed: let the servers do it",
    "add_after_body": "bodies are not changed: let the servers do it",
    "add_trailer": "trailers are not changed: let the servers do it",
    "js_": "write a rule in Python (docs/rules.md)",
    "lua": "write a rule in Python (docs/rules.md)",
    "content_by_lua": "write a rule in Python (docs/rules.md)",
    "perl": "write a rule in Python (docs/rules.md)",
    "stream": "connections as such are not forwarded yet: keep nginx for them",
    "mail": "mail is not forwarded: keep nginx for it",
    "root": "the gateway has no files: name a server for them",
    "alias": "the gateway has no files: name a server for them",
    "index": "the gateway has no files: name a server for them",
    "try_files": "the gateway has no files: name a server for them",
    "autoindex": "the gateway has no files: name a server for them",
    "dav_": "the gateway has no files: name a server for them",
    "ssl_verify_depth": "chains of certificates are checked whole",
    "ssl_crl": "revocation lists are not read",
    "ssl_reject_handshake": "see strict_sni in tls",
    "ssl_conf_command": "see policy in tls",
    "proxy_method": "methods are not changed",
    "proxy_set_body": "bodies are not changed",
    "proxy_bind": "connections leave by the address that the system chooses",
    "proxy_ssl_": "see tls of a backend",
    "proxy_cookie_flags": "see set_response_header, or let the servers do it",
    "error_page": "write the page into a file, and name it in pages",
}


def looks_like(path: Path) -> bool:
    """Whether a file looks like a configuration of nginx. Raises BadInput."""
    return path.name.startswith("nginx") or (
        not path.name.startswith("haproxy") and _NGINX.search(read(path)) is not None
    )


def draft_of(path: Path) -> Draft:
    """The draft of a site file. Raises BadInput."""
    draft = Draft(path)
    top = tree(path, draft.report)
    _Configuration(draft, top)
    return draft


class _Configuration:
    """One configuration on its way."""

    def __init__(self, draft: Draft, top: Directive) -> None:
        self.draft = draft
        self.report = draft.report
        self.variables = Variables(draft)
        self.upstreams = Upstreams(draft)
        self.access = Access(draft)
        self.proxy = Proxy(draft, self.upstreams, self.variables, self.access)
        # A file of conf.d or sites-enabled has what stands in http.
        self.http = next(top.all("http"), top)
        self._main(top)
        self._prepare()
        self._servers()
        self.upstreams.unused()
        self._sweep(top)

    def _main(self, top: Directive) -> None:
        workers = top.last("worker_processes")
        if workers is not None:
            number = workers.args[0]
            self.draft.top["workers"] = max(1, min(64, int(number))) if number.isdigit() else "auto"
            self.report.taken(workers.line)
        resolver = self.http.last("resolver")
        if resolver is not None:
            self.draft.top["resolver"] = {"nameservers": [word for word in resolver.args if "=" not in word]}
            self.report.taken(resolver.line)
        for block in (self.http, *self.http.all("server")):
            for log in block.all("access_log"):
                if log.args[0] == "off":
                    self.report.needless(log.line, "see `gateway logs`, which filters")
                else:
                    self.draft.top.setdefault("access_log", {"path": "-", "format": "combined"})
                    self.report.approximated(log.line, "one log for the whole site, to standard output: see access_log")

    def _prepare(self) -> None:
        for directive in self.http.block:
            if directive.name in ("map", "geo", "split_clients"):
                self.variables.add(directive)
            elif directive.name == "upstream":
                self.upstreams.add(directive)
        texts = Texts(self.variables.texts)
        for directive in self.http.all("limit_req_zone", "limit_conn_zone"):
            self.access.zone(directive, texts)

    # --------------------------------------------------------------------------------------------------------- servers

    def _servers(self) -> None:
        servers = list(self.http.all("server"))
        if not servers:
            raise BadInput(
                self.draft.source,
                0,
                "this file has no server block: name the main configuration of nginx, such as /etc/nginx/nginx.conf",
            )
        listeners = Listeners(self.draft, self.http)
        for server in servers:
            listeners.add(server)
        trusted = [each.args[0] for block in (self.http, *servers) for each in block.all("set_real_ip_from")]
        for block in (self.http, *servers):
            for each in block.all("set_real_ip_from", "real_ip_header"):
                self.report.taken(each.line)
        header = Scope((self.http, *servers)).value("real_ip_header", "X-Real-IP")
        client_from = "" if header in ("X-Forwarded-For", "proxy_protocol") else header
        placed = listeners.make(trusted, client_from, listeners.limits(self.http))
        for part in in_order(placed):
            try:
                self._part(part)
            except MISFITS as why:
                self.report.impossible(part.server.line, reason(why))

    def _part(self, part: Part) -> None:
        frontends = [one["name"] for one in self.draft.frontends]
        hosts, groups = part.match()
        base = both(described(frontends, part.frontends), hosts)
        server = part.server
        scope = Scope((self.http, server))
        named = server.last("server_name")
        name = named.args[0] if named is not None and named.args else ""
        fixed = {"server_name": name} if re.fullmatch(r"[\w.-]+", name) else {}
        texts = Texts({**self.variables.texts, **fixed, **groups})
        self.draft.at = server.line
        self._pages(server, scope, base)
        first = len(self.draft.routes)
        _, ended = self.proxy.rules.add(list(server.all(*RULES)), base, texts)
        self.proxy.with_headers(first, scope, texts)
        if ended:
            return
        places = self._places(server)
        self._jumps(places, base, texts)
        self._slashes(places, base, scope, texts)
        for place in places:
            location = place.location
            self.draft.at = location.directive.line
            self.report.taken(location.directive.line)
            inside = _scope_of(place, scope)
            location, inside = self._instead(location, inside, server)
            self.proxy.add(location, both(base, place.match), inside, texts.but(place.groups), part.frontends)
        if not any(
            place.location.text == "/" and place.location.modifier in ("", "^~") and not place.around
            for place in places
        ):
            self.access.add(scope, base, part.frontends)
            first = len(self.draft.routes)
            self.draft.route(base, respond={"status": 404})
            self.proxy.with_headers(first, scope, texts)

    def _places(self, server: Directive) -> list[Place]:
        return locations_in_order(list(Location.inside(server)))

    def _instead(self, location: Location, scope: Scope, server: Directive) -> tuple[Location, Scope]:
        """For try_files with a named location: that one, for files are at its servers."""
        tried = location.directive.last("try_files")
        if tried is None or not tried.args[-1].startswith("@"):
            return location, scope
        for directive in server.all("location"):
            if directive.args == [tried.args[-1]]:
                self.report.approximated(
                    tried.line, f"all requests go where {tried.args[-1]} sends them, for files as well"
                )
                self.report.taken(directive.line)
                return replace(location, directive=directive), Scope((*scope.blocks[:-1], directive))
        return location, scope

    def _jumps(self, places: list[Place], base: Match, texts: Texts) -> None:
        """Rewrites of locations after which nginx looks for a location again: before all of them."""
        for place in places:
            for directive in place.location.directive.all("rewrite"):
                if jumps(directive):
                    self.proxy.rules.add([directive], both(base, place.wanted), texts.but(place.groups))
                    self.report.approximated(directive.line, "tried before all locations")

    def _slashes(self, places: list[Place], base: Match, scope: Scope, texts: Texts) -> None:
        """Nginx redirects /user to /user/ where the latter is passed to servers."""
        exact = {place.location.text for place in places if place.location.modifier == "="}
        for place in places:
            text = place.location.text
            passes = place.location.directive.last("proxy_pass") is not None
            if not passes or place.location.modifier not in ("", "^~") or len(text) < 2 or not text.endswith("/"):
                continue
            if text[:-1] not in exact:
                match = both(base, {"path": f"= {text[:-1]}"})
                query = both(match, {"when": 'uri.contains("?")'})
                first = len(self.draft.routes)
                self.draft.route(query, redirect={"to": f"{text}?{{query}}", "status": 301})
                self.draft.route(match, redirect={"to": text, "status": 301})
                self.proxy.with_headers(first, _scope_of(place, scope), texts)

    def _pages(self, server: Directive, scope: Scope, base: Match) -> None:
        pages: dict[int, str] = {}
        for directive in scope.all("error_page"):
            *codes, target = directive.args
            if any(not code.isdigit() for code in codes) or not target.startswith("/"):
                self.report.impossible(directive.line, "pages have the status that they are for, and are files")
                continue
            path = (
                Path(self.draft.file(self._root(server, scope, target))) if self._root(server, scope, target) else None
            )
            if path is None or not path.is_file():
                self.report.impossible(directive.line, _IMPOSSIBLE["error_page"])
                continue
            pages |= {int(code): str(path) for code in codes if 400 <= int(code) <= 599}
            self.report.approximated(directive.line, "for answers of the gateway itself")
        if pages:
            self.draft.route(base, pages=pages)

    @staticmethod
    def _root(server: Directive, scope: Scope, target: str) -> str:
        """The file that a path stands for, if nginx has a directory for it."""
        inside = scope
        for directive in server.all("location"):
            if directive.args == ["=", target]:
                inside = scope.inside(directive)
        root = inside.value("root")
        return f"{root}{target}" if root else ""

    # ----------------------------------------------------------------------------------------------------------- rest

    def _sweep(self, top: Directive) -> None:
        """Say what has become of all other directives."""
        for directive in _everything(top):
            if directive.line in self.report.entries:
                continue
            name = directive.name
            if name == "access_log":
                self.report.needless(directive.line, "one log for the whole site; `gateway logs` filters")
            elif name in _TAKEN:
                self.report.taken(directive.line)
            elif name in _NEEDLESS:
                self.report.needless(directive.line, _NEEDLESS[name])
            elif name in _APPROXIMATED:
                self.report.approximated(directive.line, _APPROXIMATED[name])
            else:
                starts = [key for key in _IMPOSSIBLE if name.startswith(key)]
                why = _IMPOSSIBLE[max(starts, key=len)] if starts else f"{name} has no counterpart, or is not used here"
                self.report.impossible(directive.line, why)


def _scope_of(place: Place, server: Scope) -> Scope:
    """The scope of a location in that of its server."""
    for block in (*place.around, place.location.directive):
        server = server.inside(block)
    return server


def _everything(block: Directive) -> Iterator[Directive]:
    for directive in block.block:
        yield directive
        if directive.name != "types":
            yield from _everything(directive)
