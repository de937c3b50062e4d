"""What nginx does with the requests of a location: headers, limits, and where they are passed to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.config.units import size_text
from gateway.importing import units
from gateway.importing.draft import Draft
from gateway.importing.haproxy_rules import OURS
from gateway.importing.matches import Match, both
from gateway.importing.nginx_access import Access
from gateway.importing.nginx_locations import Location
from gateway.importing.nginx_maps import Choice, Variables
from gateway.importing.nginx_rules import RULES, Rewrite, Rules
from gateway.importing.nginx_scope import Scope
from gateway.importing.nginx_text import Texts, variable
from gateway.importing.nginx_tree import Directive
from gateway.importing.nginx_upstreams import Pass, Upstreams, causes_of
from gateway.importing.report import MISFITS, NotPossible, reason

_GOOD: Final[list[int | str]] = ["200-201", 204, 206, "301-304", "307-308"]
"""Statuses of which add_header without `always` changes the answers."""
_GOOD_STATUSES: Final = frozenset({200, 201, 204, 206, 301, 302, 303, 304, 307, 308})
"""The same, each by itself."""
_FILES: Final = (
    "root",
    "alias",
    "try_files",
    "autoindex",
    "index",
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "memcached_pass",
)


class Proxy:
    """Makes the routes of locations."""

    def __init__(self, draft: Draft, upstreams: Upstreams, variables: Variables, access: Access) -> None:
        self.draft = draft
        self.upstreams = upstreams
        self.variables = variables
        self.access = access
        self.rules = Rules(draft, variables.choices)

    def add(self, location: Location, match: Match, scope: Scope, texts: Texts, frontends: list[str]) -> None:
        """Add the routes of a location for requests of `match`, its block being the innermost of `scope`."""
        block = location.directive
        rules = [each for each in block.all(*RULES) if not jumps(each)]
        self._headers_of_answers(scope, match, texts)
        self.draft.at = block.line
        kept, ended = self.rules.add(rules, match, texts)
        if ended:
            return
        if block.last("internal") is not None:
            self.draft.report.taken(block.last("internal").line)  # type: ignore[union-attr]
            self.draft.route(match, respond={"status": 404})
            return
        self.access.add(scope, match, frontends)
        self._only(block, scope, match)
        passed = block.last("proxy_pass") or block.last("grpc_pass")
        self.draft.at = block.line
        if passed is None:
            self._no_servers(block, match, rules)
            return
        try:
            self._pass(passed, location, _Place(match, scope, texts, kept))
            self.draft.report.taken(passed.line)
        except MISFITS as why:
            self.draft.report.impossible(passed.line, f"{reason(why)}; its requests get 503")
            self.draft.route(match, respond={"status": 503})

    def _no_servers(self, block: Directive, match: Match, rules: list[Directive]) -> None:
        files = next(block.all(*_FILES), None)
        own = [*rules, *block.all("allow", "deny"), *(each for each in block.all("rewrite") if jumps(each))]
        if files is None and own:
            self.draft.report.approximated(block.line, "requests that its rules leave get 404, as without files")
        else:
            why = "the gateway has no files and speaks HTTP to servers: name a server for them; the route answers 404"
            self.draft.report.impossible((files or block).line, why)
        self.draft.route(match, respond={"status": 404})

    def _only(self, block: Directive, scope: Scope, match: Match) -> None:
        """limit_except: who may use the other methods."""
        for directive in block.all("limit_except"):
            methods = [method.upper() for method in directive.args]
            methods += ["HEAD"] if "GET" in methods and "HEAD" not in methods else []
            self.access.refuse(scope.inside(directive), both(match, {"not": [{"method": methods}]}))
            self.draft.report.taken(directive.line)

    # --------------------------------------------------------------------------------------------------------- answers

    def with_headers(self, first: int, scope: Scope, texts: Texts) -> None:
        """Let the answers of the gateway itself in the routes from number `first` on have the headers of a scope."""
        routes, origins = self.draft.routes[first:], self.draft.origins[first:]
        del self.draft.routes[first:], self.draft.origins[first:]
        at = self.draft.at
        added = self._added(scope, texts) if any(_status(route) is not None for route in routes) else []
        for route, origin in zip(routes, origins, strict=True):
            self.draft.at = origin
            match, status = route.pop("match", {}), _status(route)
            for each in added:
                if status is not None and (each.always or status in _GOOD_STATUSES):
                    self.draft.route(match, **each.actions)
            self.draft.route(match, **route)
        self.draft.at = at

    def _headers_of_answers(self, scope: Scope, match: Match, texts: Texts) -> None:
        for directive in scope.all("proxy_hide_header"):
            self.draft.route(match, set_response_header={directive.args[0]: None})
            self.draft.report.taken(directive.line)
        for each in self._added(scope, texts):
            self.draft.route(match, **({} if each.always else {"response_status": _GOOD}), **each.actions)

    def _added(self, scope: Scope, texts: Texts) -> list["_Added"]:
        """What add_header and expires of a scope do to answers."""
        found: list[_Added] = []
        for directive in scope.all("add_header"):
            try:
                found += self._add_header(directive, texts)
                self.draft.report.taken(directive.line)
            except MISFITS as why:
                self.draft.report.impossible(directive.line, reason(why))
        expires = scope.last("expires")
        return found if expires is None else [*found, *self._expires(expires)]

    def _add_header(self, directive: Directive, texts: Texts) -> list["_Added"]:
        name, value, *rest = directive.args
        if name.lower() in OURS:
            self.draft.report.needless(directive.line, f"the gateway writes {name} itself")
            return []
        if not value:
            return []
        always = rest == ["always"]
        if always:
            self.draft.report.approximated(directive.line, "not for the gateway's own error pages, such as 401 and 413")
        return [_Added({"append_response_header": {name: texts.template(value)}}, always=always)]

    def _expires(self, directive: Directive) -> list["_Added"]:
        value = directive.args[-1]
        try:
            seconds = units.milliseconds(value, "s") // 1000
        except ValueError:
            if value == "off":
                self.draft.report.taken(directive.line)
                return []
            if value not in ("epoch", "-1"):
                self.draft.report.impossible(directive.line, "let the servers say how long an answer is good")
                return []
            control = "no-cache"
        else:
            control = f"max-age={seconds}"
        self.draft.report.approximated(directive.line, "as Cache-Control, which counts before Expires")
        return [_Added({"set_response_header": {"Cache-Control": control}}, always=False)]

    # ------------------------------------------------------------------------------------------------------ to servers

    def _pass(self, directive: Directive, location: Location, place: "_Place") -> None:
        text = directive.args[0]
        if directive.name == "grpc_pass" and "://" not in text:
            text = f"grpc://{text}"
        scheme, _, rest = text.partition("://")
        host, slash, path = rest.partition("/")
        if name := variable(host):
            if name not in self.variables.choices:
                raise NotPossible(f"${name} is not known beforehand: only maps and shares choose a backend")
            self._by_choice(self.variables.choices[name], f"{scheme}://{{}}{slash}{path}", location, place)
            return
        for suffix in ("$request_uri", "$uri$is_args$args"):
            text = text.removesuffix(suffix)
        if "$" in text:
            raise NotPossible("an address with variables: write a route for each case")
        self._to(Pass.parse(text), location, place, {})

    def _by_choice(self, choice: Choice, pattern: str, location: Location, place: "_Place") -> None:
        """A backend for each value of a variable."""
        if choice.shares:
            names = {}
            for value, share in choice.shares.items():
                target = Pass.parse(pattern.format(value))
                names[self.upstreams.backend(target, self._backend_settings(place.scope, target))] = share
            target = Pass.parse(pattern.format(next(iter(choice.shares))))
            split = {"to": names, **({"by": choice.by} if choice.by else {})}
            self._to(target, location, place, {"split": split})
            return
        for value in choice.values:
            when = {"when": f'{choice.expression} == "{value}"'}
            narrowed = _Place(both(place.match, when), place.scope, place.texts, [])
            self._to(Pass.parse(pattern.format(value)), location, narrowed, {})
        if choice.default:
            self._to(Pass.parse(pattern.format(choice.default)), location, place, {})
        else:
            self.draft.route(place.match, respond={"status": 503})

    def _to(self, target: Pass, location: Location, place: "_Place", instead: dict[str, Any]) -> None:
        """Add the routes to one backend, or to what takes its place."""
        end = instead or {"backend": self.upstreams.backend(target, self._backend_settings(place.scope, target))}
        self._headers(target, place)
        actions: dict[str, Any] = {**self._limits(place.scope), **self._answers(target, location, place.scope)}
        actions |= self._route_settings(place.scope)
        for rewrite in place.kept:
            self.draft.route(rewrite.match, rewrite=rewrite.to, **actions, **end)
        match = place.match
        if target.path and location.modifier in ("~", "~*"):
            raise NotPossible("a path in proxy_pass of a pattern: use a rewrite")
        if target.path and target.path != location.text:
            rest = "" if location.modifier == "=" else "{path_rest}"
            if location.text == "/":
                match = both(match, {"path": "/"})
            actions = {"rewrite": target.path + rest, **actions}
        self.draft.route(match, **actions, **end)

    def _backend_settings(self, scope: Scope, target: Pass) -> dict[str, Any]:
        """What a backend has for all of its routes."""
        made: dict[str, Any] = {}
        again = scope.last("proxy_next_upstream")
        if causes := causes_of(again):
            made["retries"] = {"on": causes}
        if target.h2:
            made["h2"] = True
        if target.scheme == "https":
            made["tls"] = self._tls(scope)
        return made

    def _route_settings(self, scope: Scope) -> dict[str, Any]:
        """What a route has in place of its backend's."""
        timeouts: dict[str, str] = {}
        for name, keys in (("proxy_connect_timeout", ("connect",)), ("proxy_read_timeout", ("response", "tunnel"))):
            directive = scope.last(name)
            if directive is not None:
                timeouts |= dict.fromkeys(keys, units.duration(directive.args[0], "s"))
                self.draft.report.taken(directive.line)
        retries: dict[str, Any] = {}
        again = scope.last("proxy_next_upstream")
        tries = scope.value("proxy_next_upstream_tries")
        if again is not None and again.args == ["off"]:
            retries["attempts"] = 0
        elif tries.isdigit() and int(tries):
            retries["attempts"] = min(5, int(tries) - 1)
        if again is not None and "non_idempotent" in again.args:
            retries["methods"] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"]
        for directive in (again, scope.last("proxy_next_upstream_tries")):
            if directive is not None:
                self.draft.report.taken(directive.line)
        return {**({"timeouts": timeouts} if timeouts else {}), **({"retries": retries} if retries else {})}

    def _tls(self, scope: Scope) -> dict[str, Any]:
        made: dict[str, Any] = {"verify": scope.value("proxy_ssl_verify") == "on"}
        names = ("proxy_ssl_verify", "proxy_ssl_trusted_certificate", "proxy_ssl_name", "proxy_ssl_server_name")
        for name in (*names, "proxy_ssl_certificate", "proxy_ssl_certificate_key"):
            directive = scope.last(name)
            if directive is not None:
                self.draft.report.taken(directive.line)
        if authority := scope.value("proxy_ssl_trusted_certificate"):
            made["ca"] = self.draft.file(authority)
        if name := scope.value("proxy_ssl_name"):
            made["server_name"] = "{host}" if name in ("$host", "$http_host", "$server_name") else name
        if certificate := scope.value("proxy_ssl_certificate"):
            key = scope.value("proxy_ssl_certificate_key")
            made["certificate"] = {"cert": self.draft.file(certificate), "key": self.draft.file(key or certificate)}
        return made

    def _limits(self, scope: Scope) -> dict[str, Any]:
        made: dict[str, Any] = {}
        directive = scope.last("client_max_body_size")
        size = units.size(directive.args[0]) if directive is not None else 1024 * 1024  # nginx's default
        if size:
            made["body_bytes"] = size_text(size)
        if directive is not None:
            self.draft.report.taken(directive.line)
        rate = scope.last("limit_rate")
        if rate is not None and rate.args[0] != "0":
            made["bandwidth"] = f"{max(1024, units.size(rate.args[0]))}B/s"
            self.draft.report.taken(rate.line)
        return made

    def _headers(self, target: Pass, place: "_Place") -> None:
        """proxy_set_header; without one for Host, servers get what proxy_pass says."""
        made: dict[str, str | None] = {}
        host = ""
        for directive in place.scope.all("grpc_set_header" if target.h2 else "proxy_set_header"):
            name, value = directive.args[0], " ".join(directive.args[1:])
            try:
                if name.lower() == "host":
                    host = value
                elif name.lower() in OURS:
                    self.draft.report.needless(
                        directive.line, f"the gateway writes {name} itself, by what it knows of the client"
                    )
                    continue
                else:
                    made[name] = place.texts.template(value) if value else None
                self.draft.report.taken(directive.line)
            except MISFITS as why:
                self.draft.report.impossible(directive.line, reason(why))
        if host in ("", "$proxy_host"):
            made = {"Host": "localhost" if target.authority.startswith("unix:") else target.authority, **made}
        elif host not in ("$host", "$http_host", "$host:$server_port"):
            made = {"Host": place.texts.template(host), **made}
        if made:
            self.draft.route(place.match, set_header=made)

    def _answers(self, target: Pass, location: Location, scope: Scope) -> dict[str, Any]:
        """proxy_redirect, proxy_cookie_path and proxy_cookie_domain."""
        made: dict[str, Any] = {}
        if locations := dict(self._redirects(target, location, scope)):
            made["rewrite_location"] = locations
        cookies: dict[str, dict[str, str]] = {}
        for name, key in (("proxy_cookie_path", "path"), ("proxy_cookie_domain", "domain")):
            for directive in scope.all(name):
                if len(directive.args) < 2 or directive.args[0].startswith("~"):
                    self.draft.report.impossible(directive.line, "cookies are changed by texts, not by patterns")
                    continue
                cookies.setdefault(key, {})[directive.args[0].lstrip(".") if key == "domain" else directive.args[0]] = (
                    Texts().template(directive.args[1])
                )
                self.draft.report.taken(directive.line)
        return {**made, **({"rewrite_cookie": cookies} if cookies else {})}

    def _redirects(self, target: Pass, location: Location, scope: Scope) -> Iterator[tuple[str, str]]:
        directives = [] if target.h2 else scope.all("proxy_redirect")
        usual = not directives
        for directive in directives:
            self.draft.report.taken(directive.line)
            if directive.args == ["default"]:
                usual = True
            elif len(directive.args) == 2 and not directive.args[0].startswith("~"):
                try:
                    yield directive.args[0], Texts().target(directive.args[1])[0]
                except MISFITS as why:
                    self.draft.report.impossible(directive.line, reason(why))
            elif directive.args != ["off"]:
                self.draft.report.impossible(directive.line, "a Location is changed by texts, not by patterns")
        if usual and not target.h2 and not target.authority.startswith("unix:"):
            if target.path:
                yield f"{target.scheme}://{target.authority}{target.path}", location.text
            else:
                yield f"{target.scheme}://{target.authority}/", "/"


@dataclass(frozen=True, slots=True)
class _Added:
    """What is done to answers; `always`: whatever their status."""

    actions: dict[str, Any]
    always: bool


class _Place:
    """Requests of a match, in a scope; `kept` are rewrites that end there."""

    def __init__(self, match: Match, scope: Scope, texts: Texts, kept: list[Rewrite]) -> None:
        self.match, self.scope, self.texts, self.kept = match, scope, texts, kept


def _status(route: dict[str, Any]) -> int | None:
    """The status of an answer of the gateway itself; None: the route gives none."""
    for key, usual in (("redirect", 302), ("respond", 200)):
        if key in route:
            return int(route[key].get("status", usual))
    return None


def jumps(directive: Directive) -> bool:
    """Whether a rewrite of a location makes nginx look for a location again."""
    if directive.name != "rewrite" or directive.args[1].startswith(("http://", "https://", "$scheme")):
        return False
    return directive.args[2:] in ([], ["last"])
