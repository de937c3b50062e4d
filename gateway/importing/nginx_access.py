"""Who may use a location of nginx, and how often: allow, deny, auth_basic, limit_req, limit_conn."""

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from gateway.importing import units
from gateway.importing.draft import Draft
from gateway.importing.matches import Match, both, either, negated
from gateway.importing.nginx_scope import Scope
from gateway.importing.nginx_text import Texts
from gateway.importing.nginx_tree import Directive
from gateway.importing.report import MISFITS, NotPossible, reason


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of limit_req or limit_conn: its key, and for requests how many in how many seconds."""

    key: str
    count: int = 0
    seconds: float = 1.0


class Access:
    """Makes the routes that refuse requests."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._zones: dict[str, Zone] = {}

    def zone(self, directive: Directive, texts: Texts) -> None:
        """Take up limit_req_zone or limit_conn_zone."""
        try:
            key = texts.template(directive.args[0])
            values = dict(word.partition("=")[::2] for word in directive.args[1:])
            name = values["zone"].partition(":")[0]
            count, _, unit = values.get("rate", "0r/s").partition("r/")
            self._zones[name] = Zone(key, int(count), {"s": 1.0, "m": 60.0}[unit])
            self.draft.report.taken(directive.line)
        except MISFITS as why:
            self.draft.report.impossible(directive.line, f"{reason(why)}: a zone needs a key, a name and a rate")

    def add(self, scope: Scope, match: Match, frontends: list[str]) -> None:
        """Add the routes for requests of `match`, in nginx's order: rates, then access."""
        for directive in scope.all("limit_req"):
            try:
                self._rate(directive, scope, match)
            except MISFITS as why:
                self.draft.report.impossible(directive.line, reason(why))
        for directive in scope.all("limit_conn"):
            self._connections(directive, frontends)
        self.refuse(scope, match)

    def refuse(self, scope: Scope, match: Match) -> None:
        """Add the routes that refuse requests of `match` by address and password."""
        refused = self._refused(scope)
        login = self._login(scope)
        if scope.value("satisfy") == "any" and login is not None:
            self.draft.route(both(match, refused), basic_auth=login)
            return
        self.draft.route(both(match, refused), respond={"status": 403})
        if login is not None:
            self.draft.route(match, basic_auth=login)

    def _rate(self, directive: Directive, scope: Scope, match: Match) -> None:
        values = dict(word.partition("=")[::2] for word in directive.args)
        zone = self._zones.get(values.get("zone", ""))
        if zone is None or not zone.count:
            raise NotPossible("its zone is not known")
        burst = int(values.get("burst", "0") or "0")
        limit: dict[str, Any] = {"rate": units.rate(zone.count, zone.seconds), "burst": burst + 1}
        if zone.key:
            limit["per"] = {"{client}": "source"}.get(zone.key, zone.key)
        how = "counted for this route alone"
        if burst and "nodelay" not in values:
            limit |= {"burst": 1, "delay": units.duration_of(round(burst * zone.seconds * 1000 / zone.count))}
        if scope.value("limit_req_status", "503") != "429":
            how += "; refused requests get 429"
        if scope.value("limit_req_dry_run") == "on":
            limit["dry_run"] = True
        self.draft.route(match, **limit)
        self.draft.report.approximated(directive.line, how)

    def _connections(self, directive: Directive, frontends: list[str]) -> None:
        zone = self._zones.get(directive.args[0])
        if zone is None or zone.key != "{client}":
            self.draft.report.impossible(
                directive.line, "connections are counted for addresses; see concurrency of a class"
            )
            return
        for frontend in self.draft.frontends:
            if frontend["name"] in frontends:
                frontend.setdefault("limits", {})["connections_per_source"] = int(directive.args[1])
        self.draft.report.approximated(
            directive.line, "connections, not requests, and for all of the frontend; more are closed"
        )

    def _refused(self, scope: Scope) -> Match:
        refused: Match = None
        allowed: list[str] = []
        for directive in scope.all("allow", "deny"):
            network = directive.args[0]
            self.draft.report.taken(directive.line)
            if network == "unix:":
                continue
            if directive.name == "allow":
                if network == "all":
                    break
                allowed.append(str(ip_network(network, strict=False)))
                continue
            one: Match = {} if network == "all" else {"source": str(ip_network(network, strict=False))}
            but = negated({"source": list(allowed)}) if allowed else {}
            refused = either([refused, both(one, but)])
            if network == "all":
                break
        return refused

    def _login(self, scope: Scope) -> dict[str, Any] | None:
        realm, users = scope.last("auth_basic"), scope.last("auth_basic_user_file")
        for directive in (realm, users):
            if directive is not None:
                self.draft.report.taken(directive.line)
        if realm is None or realm.args[0] == "off":
            return None
        if users is None:
            self.draft.report.impossible(realm.line, "no auth_basic_user_file says who the users are")
            return None
        return {"file": self.draft.file(users.args[0]), "realm": realm.args[0]}
