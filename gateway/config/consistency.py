"""Checks across the parts of a site: gaps, duplicates, unreachable routes."""

import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from gateway.config import expression, template, zones
from gateway.config.acme import MOST, Acme
from gateway.config.expectation import Assumption, SiteTest
from gateway.config.fields import PathMatch
from gateway.config.match import Match
from gateway.config.model import Site
from gateway.config.problem import Finding, Loc, suggest
from gateway.config.sites import AUTO, SPILL

_DOTS = frozenset({".", ".."})


def gaps(data: dict[str, Any]) -> Iterator[Finding]:
    """Missing parts of the file as written: frontends, routes, backends of routes."""
    if data.get("frontends", []) == []:
        yield Finding(("frontends",), "frontends is missing: there is no address to listen on")
    backends = data.get("backends", {})
    if not isinstance(backends, dict):
        return
    if data.get("routes", []) == [] and len(backends) != 1:
        count = f"there are {len(backends)} backends" if backends else "there is no backend"
        yield Finding(("routes",), f"routes is missing, and {count} to send everything to")
    for key, backend in backends.items():
        if isinstance(backend, dict) and "name" in backend:
            yield Finding(("backends", key, "name"), f"unknown key name: this backend is called {key}", key=True)
    routes = data.get("routes")
    for i, route in enumerate(routes if isinstance(routes, list) else ()):
        if not isinstance(route, dict):
            continue
        name = route.get("backend")
        if isinstance(name, str) and name not in backends:
            hint = _named_by_address(name) or suggest(name, backends)
            yield Finding(("routes", i, "backend"), f"there is no backend {name}{hint}")
        yield from _gaps_of_split(route.get("split"), ("routes", i, "split"), backends)


def _named_by_address(name: str) -> str:
    """What to do about a backend that is named by the address of a server."""
    if "://" not in name and not re.fullmatch(r"[\w.\[\]-]+:[0-9]+", name):
        return ""
    return ": give its servers a name, backends: {NAME: {servers: [ADDRESS:PORT]}}, and write that name"


def _gaps_of_split(split: object, at: Loc, backends: Collection[str]) -> Iterator[Finding]:
    """Missing backends of a split as written, in either form."""
    shares = split.get("to", split) if isinstance(split, dict) else None
    if isinstance(shares, dict):
        at = (*at, "to") if shares is not split else at
        for name in shares.keys() - backends - ({"cookie", "by", "max_age"} if shares is split else set()):
            yield Finding((*at, name), f"there is no backend {name}{suggest(str(name), backends)}", key=True)


def conflicts(
    site: Site,
    backends: Collection[str],
    sites: Collection[str],
    maps: Collection[str] = (),
    frontends: Collection[str] = (),
) -> Iterator[Finding]:
    """Duplicates, and unknown names in expressions and templates.

    `backends`, `sites`, `maps` and `frontends` are those of the file as written: one that is itself invalid exists all
    the same.
    """
    yield from _unknown_names(site, {"backend": backends, "site": sites, "map": maps})
    yield from _unknown_frontends(site, {*frontends, *(frontend.name for frontend in site.frontends)})
    yield from _out_of_reach(site)
    yield from _twice(
        (("frontends", i, "listen", j), listen, f"{listen} is listened on")
        for i, frontend in enumerate(site.frontends)
        for j, listen in enumerate(frontend.listen)
    )
    yield from _twice(
        (("frontends", i, "name"), frontend.name, f"the frontend name {frontend.name} is used")
        for i, frontend in enumerate(site.frontends)
        if "name" in frontend.model_fields_set
    )
    yield from _twice(
        (("qos", "classes", i, "name"), item.name, f"the class {item.name} is there")
        for i, item in enumerate(site.qos.classes)
    )
    yield from _sessions(site)
    if not any(frontend.tls is not None and frontend.tls.client_ca is not None for frontend in site.frontends):
        for i, route in enumerate(site.routes):
            if route.require_client_cert:
                message = "no frontend asks clients for a certificate: name their CAs in tls: client_ca"
                yield Finding(("routes", i, "require_client_cert"), message, key=True)
    if site.sites and site.load_reports and site.sites.listen == site.load_reports.listen:
        yield Finding(("sites", "listen"), f"{site.sites.listen} is where load_reports come in")
    yield from _unknown_keys(site)
    yield from _dns(site)
    yield from _acme(site)
    taken = {listen for frontend in site.frontends for listen in frontend.listen}
    if site.admin.listen in taken:
        yield Finding(("admin", "listen"), f"{site.admin.listen} is where a frontend listens")
    if site.cluster and site.node not in site.cluster.nodes:
        names = ", ".join(site.cluster.nodes)
        message = f"this node, {site.node}, is none of {names}: set `node:`{suggest(site.node, site.cluster.nodes)}"
        yield Finding(("cluster", "nodes"), message, key=True)
    for name, backend in site.backends.items():
        for i, server in enumerate(backend.servers if backend.agent.connect is not None else ()):
            if server.address.kind == "unix":
                message = "agent.connect is a port: a server on a Unix socket has none"
                yield Finding(("backends", name, "servers", i), message)
        yield from _twice(
            (("backends", name, "servers", i, "name"), server.name, f"the server name {server.name} is used")
            for i, server in enumerate(backend.servers)
        )


def _acme(site: Site) -> Iterator[Finding]:
    """Names that are to have certificates of two kinds, too many of them, and gateways that could not share them."""
    wanted: dict[str, Acme] = {}
    """By name; its `names` are those of the one certificate."""
    count = 0
    for i, frontend in enumerate(site.frontends):
        model = frontend.tls.acme if frontend.tls is not None else None
        if model is None:
            continue
        at: Loc = ("frontends", i, "tls", "acme")
        for j, names in enumerate(model.names):
            same = model.model_copy(update={"names": (names,)})
            count += names[0] not in wanted
            for k, name in enumerate(names):
                if wanted.setdefault(name, same) != same:
                    message = f"another frontend gets a certificate for {name} in another way"
                    yield Finding((*at, *model.place_of(j, k)), message)
        if count > MOST:
            yield Finding((*at, "names"), f"at most {MOST} certificates in a site file")
            return
        if site.cluster is not None and site.cluster.listen is None and len(site.cluster.nodes) > 1:
            message = "the gateways of a cluster share certificates by its port: set cluster: listen"
            yield Finding(at, message, key=True)


def _dns(site: Site) -> Iterator[Finding]:
    """Addresses of the name server that are taken, unknown sites, and what is wrong with zones."""
    if site.dns is None:
        return
    yield from _twice(
        (("dns", "listen", i), listen, f"{listen} is listened on") for i, listen in enumerate(site.dns.listen)
    )
    taken = {listen: "a frontend listens" for frontend in site.frontends for listen in frontend.listen}
    if site.admin.listen is not None:
        taken[site.admin.listen] = "admin listens"
    if site.sites is not None:
        taken[site.sites.listen] = "reports of sites come in"
    if site.load_reports is not None:
        taken[site.load_reports.listen] = "load_reports come in"
    for i, listen in enumerate(site.dns.listen):
        if listen in taken:
            yield Finding(("dns", "listen", i), f"{listen} is where {taken[listen]}")
    known = {site.sites.self_, *site.sites.peers} if site.sites is not None else None
    for at, _, name in site.dns.balanced():
        for other in name.sites:
            if known is not None and other not in known:
                message = f"there is no site {other} in sites{suggest(other, known)}"
                yield Finding((*at, "sites", other), message, key=True)
    yield from zones.conflicts(site.dns)


def _unknown_keys(site: Site) -> Iterator[Finding]:
    """Keys of load reports for unknown servers; servers found by name service have names of their own."""
    servers = [server for backend in site.backends.values() for server in backend.servers]
    if site.load_reports is None or any(server.address.kind == "dns" for server in servers):
        return
    names = {server.name for server in servers}
    for name in site.load_reports.keys.keys() - names:
        yield Finding(("load_reports", "keys", name), f"there is no server {name}{suggest(name, names)}", key=True)


def _out_of_reach(site: Site) -> Iterator[Finding]:
    """Paths that no request can have after normalization by every frontend."""
    merged = all(frontend.merge_slashes for frontend in site.frontends)
    refused = not any(frontend.encoded_slashes for frontend in site.frontends)
    for loc, match in _matches(site):
        for i, item in enumerate(match.path):
            if item.regex:
                continue
            at = (*loc, "path", i) if len(match.path) > 1 else (*loc, "path")
            if merged and "//" in item.path:
                meant = _without_dots(replace(item, path=re.sub("/{2,}", "/", item.path)))
                message = f"no path is like this, runs of slashes become one: write {meant}"
                yield Finding(at, f"{message}, or say merge_slashes: false on a frontend")
            elif refused and re.search("%2f|%5c", item.path, re.IGNORECASE):
                message = "no path is like this, encoded slashes are refused"
                yield Finding(at, f"{message}: say encoded_slashes: true on a frontend")
            elif (resolved := _without_dots(item)) != item.path:
                message = "no path is like this, dot segments are resolved in requests"
                yield Finding(at, f"{message}: write {'= ' * item.exact}{resolved}")


def _without_dots(item: PathMatch) -> str:
    """A path to match as it is after dot segments are resolved (RFC 3986 section 5.2.4).

    The last segment of a prefix stays: "/." is the beginning of "/.git".
    """
    segments = re.sub("%2e", ".", item.path, flags=re.IGNORECASE).split("/")[1:]
    if not any(segment in _DOTS for segment in (segments if item.exact else segments[:-1])):
        return item.path
    kept: list[str] = []
    for i, segment in enumerate(segments):
        last = i == len(segments) - 1
        if segment not in _DOTS or (last and not item.exact):
            kept.append(segment)
            continue
        if segment == ".." and kept:
            kept.pop()
        if last:
            kept.append("")
    return "/" + "/".join(kept)


def _unknown_names(site: Site, known: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    """Unknown backends, sites and maps in expressions, templates, routes and tests."""
    backends, sites = known["backend"], known["site"]
    for loc, text in _templates(site):
        for name, offset in template.maps_in(text):
            if name not in known["map"]:
                yield Finding(loc, _nobody("map", name, known["map"]), offset=offset)
    for loc, match in _matches(site):
        for what, name, offset in expression.names(match.when.node) if match.when else ():
            if name not in known[what]:
                yield Finding((*loc, "when"), _nobody(what, name, known[what]), offset=offset)
    for i, route in enumerate(site.routes):
        if route.site is not None and route.site not in sites and not (sites and route.site in {AUTO, SPILL}):
            yield Finding(("routes", i, "site"), _nobody("site", route.site, (*sites, AUTO, SPILL)))
    yield from _full_site(site, sites)
    for i, test in enumerate(site.tests):
        yield from _unknown_in_test(i, test, backends, sites)
        yield from unknown_in_assumption(test.assume, site, backends, sites, ("tests", i, "assume"))


_BY_BACKEND = ("load", "up", "in_flight", "queued", "limit")
"""Keys of `assume` that are names of backends."""


def _unknown_in_test(i: int, test: SiteTest, backends: Collection[str], sites: Collection[str]) -> Iterator[Finding]:
    for what, name, known in (("backend", test.expect.backend, backends), ("site", test.expect.site, sites)):
        if name is not None and name not in known:
            yield Finding(("tests", i, "expect", what), _nobody(what, name, known))


def unknown_in_assumption(
    assumed: Assumption, site: Site, backends: Collection[str], sites: Collection[str], at: Loc = ()
) -> Iterator[Finding]:
    """Backends, sites and rates that an assumption names and the site does not have. `at`: where it stands."""
    named = [("backend", key, name, backends) for key in _BY_BACKEND for name in getattr(assumed, key)]
    named += [("site", "site_load", name, sites) for name in assumed.site_load]
    named += [("site", "spill", name, sites) for name in assumed.spill]
    for what, key, name, known in named:
        if name not in known:
            yield Finding((*at, key, name), _nobody(what, name, known), key=True)
    asks = any(frontend.tls is not None and frontend.tls.client_ca is not None for frontend in site.frontends)
    if assumed.client_cert and not asks:
        message = "no frontend asks clients for a certificate: name their CAs in tls: client_ca"
        yield Finding((*at, "client_cert"), message, key=True)
    rates = [item.name for item in site.qos.classes if item.rate is not None]
    rates += [f"route-{number}" for number, route in enumerate(site.routes) if route.rate is not None]
    for number, name in enumerate(assumed.over):
        if name not in rates:
            yield Finding((*at, "over", number), f"no class or route has the rate {name}{suggest(name, rates)}")


def _nobody(what: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name."""
    if what == "map" and not known:
        return f"there is no map {name}: `maps:` is missing"
    if what == "site" and name == AUTO:
        return "there are no other sites: `sites:` is missing"
    return f"there is no {what} {name}{suggest(name, [*known])}"


def _matches(site: Site) -> Iterator[tuple[Loc, Match]]:
    """Each match of the site, with its location; those inside of others, too."""
    for i, item in enumerate(site.qos.classes):
        yield from _with_inner(item.match, ("qos", "classes", i, "match"))
    for i, route in enumerate(site.routes):
        yield from _with_inner(route.match, ("routes", i, "match"))


def _unknown_frontends(site: Site, frontends: Collection[str]) -> Iterator[Finding]:
    """Frontends that a match names and the site does not have."""
    for loc, match in _matches(site):
        for i, name in enumerate(match.frontend):
            if name not in frontends:
                at = (*loc, "frontend", i) if len(match.frontend) > 1 else (*loc, "frontend")
                hint = suggest(name, frontends) or f": write name: {name} at the one that is meant"
                yield Finding(at, f"there is no frontend {name}{hint}")


def _with_inner(match: Match, at: Loc) -> Iterator[tuple[Loc, Match]]:
    yield at, match
    for key in ("not", "any", "all"):
        inner = getattr(match, f"{key}_")
        for i, item in enumerate(inner):
            yield from _with_inner(item, (*at, key) if key == "not" and len(inner) == 1 else (*at, key, i))


def _templates(site: Site) -> Iterator[tuple[Loc, str]]:
    """Each text with fields, with its location."""
    for i, item in enumerate(site.qos.classes):
        if item.per is not None and item.per.kind == "template":
            yield ("qos", "classes", i, "per"), item.per.name
    for i, route in enumerate(site.routes):
        yield from ((("routes", i, *at), text) for at, text in route.templates())


def _clear_tokens(site: Site) -> Iterator[Finding]:
    """A listener for operators that others can listen to."""
    admin = site.admin
    if admin.listen is not None and admin.tls is None and not ip_address(admin.listen.host).is_loopback:
        message = f"tokens of {admin.listen} cross the network unencrypted: set tls, or use a loopback address"
        yield _warning(("admin", "listen"), message)


def warnings(site: Site, routes_at: Sequence[str]) -> Iterator[Finding]:
    """Settings that are allowed but probably a mistake. `routes_at`: file and line of each route."""
    yield from _classes(site)
    yield from _dns_without_reports(site)
    yield from _report_keys(site)
    yield from _own_keys(site)
    yield from _own_tickets(site)
    yield from _clear_tokens(site)
    seen: dict[Match, int] = {}
    for i, route in enumerate(site.routes):
        if not route.final:
            continue
        if route.match in seen:
            first = seen[route.match]
            message = f"never reached: routes[{first}], in {routes_at[first]}, matches the same requests"
            yield _warning(("routes", i), message)
        seen.setdefault(route.match, i)
        rest = len(site.routes) - i - 1
        if route.match.everything and rest:
            others = f", nor {'is the one' if rest == 2 else f'are the {rest - 1}'} after it" if rest > 1 else ""
            yield _warning(("routes", i + 1), f"never reached{others}: the route before it matches everything")
            break
    used = {route.backend for route in site.routes}
    used |= {name for route in site.routes if route.split is not None for name in route.split.to}
    for name in site.backends:
        if name not in used:
            yield _warning(("backends", name), f"no route leads to backend {name}", key=True)


def _report_keys(site: Site) -> Iterator[Finding]:
    """Keys of load reports that let one server report for another."""
    reports = site.load_reports
    if reports is None:
        return
    servers = {server.name for backend in site.backends.values() for server in backend.servers}
    if reports.key_file is not None and len(servers - reports.keys.keys()) > 1:
        message = (
            "every agent has this key, so any server can speak for all the others: give each server a key of its own "
            "with secret_file (see `gateway key derive`) or keys"
        )
        yield _warning(("load_reports", "key_file"), message, key=True)
    seen: dict[Path, str] = {}
    for name, path in reports.keys.items():
        if path in seen:
            yield _warning(("load_reports", "keys", name), f"{seen[path]} has this key, too: each can speak for both")
        seen.setdefault(path, name)


def _dns_without_reports(site: Site) -> Iterator[Finding]:
    """Names with several sites whose state is never known."""
    for at, name, model in site.dns.balanced() if site.dns is not None and site.sites is None else ():
        if len(model.sites) > 1:
            message = f"the state of the sites of {name} is unknown, and all count as working: add sites"
            yield _warning((*at, "sites"), message, key=True)
            break


def _sessions(site: Site) -> Iterator[Finding]:
    """`max: auto` without the data it needs, and a cookie with two meanings."""
    sessions = site.qos.sessions
    if sessions is None:
        return
    limited = any(all(server.max_connections for server in backend.servers) for backend in site.backends.values())
    if site.qos.overload is not None and site.qos.overload.concurrency != 0:
        limited = True
    if sessions.max == 0 and not limited:
        message = (
            "auto needs max_connections at all servers of a backend (what they can take at once), "
            "or overload: {concurrency: auto}"
        )
        yield Finding(("qos", "sessions", "max"), message)
    name = sessions.key.cookie
    for _, backends, model in site.affinities():
        if name is not None and model.cookie == name:
            message = f"{name} is the affinity cookie of backend {backends[0]}"
            yield Finding(("qos", "sessions", "key", "cookie"), message)


def _full_site(site: Site, sites: Collection[str]) -> Iterator[Finding]:
    """The site for clients that are not admitted here, which must be another one."""
    name = site.qos.sessions.full.site if site.qos.sessions is not None else None
    at = ("qos", "sessions", "full", "site")
    if name is not None and name not in sites and not (sites and name == AUTO):
        yield Finding(at, _nobody("site", name, (*sites, AUTO)))
    elif name is not None and site.sites is not None and name == site.sites.self_:
        yield Finding(at, f"{name} is this site: name another one, or auto")


def _own_keys(site: Site) -> Iterator[Finding]:
    """Cookies that other gateways could not verify, if agents report to several gateways without a cluster."""
    for at, _, model in site.affinities() if site.load_reports and site.cluster is None else ():
        if model.cookie and model.key_file is None:
            message = "each gateway signs this cookie with a key of its own: with several, set key_file or cluster"
            yield _warning(at, message)


def _own_tickets(site: Site) -> Iterator[Finding]:
    """The same for the tickets of sessions."""
    if site.qos.sessions is not None and site.load_reports and site.cluster is None:
        yield _warning(
            ("qos", "sessions"), "each gateway signs tickets with a key of its own: with several, set cluster"
        )


def _classes(site: Site) -> Iterator[Finding]:
    for i, item in enumerate(site.qos.classes[:-1]):
        if item.match.everything:
            yield _warning(("qos", "classes", i + 1), f"never given: class {item.name} before it matches everything")
            break
    if not any(site.queue(name) is not None for name in site.backends):
        for i, item in enumerate(site.qos.classes):
            for key in ("priority", "share"):
                if key in item.model_fields_set:
                    message = f"{key} has no effect: requests wait only at a backend with queue, and there is none"
                    yield _warning(("qos", "classes", i, key), message, key=True)
    given = {route.class_ for route in site.routes} | {item.name for item in site.qos.classes}
    if not any(route.python for route in site.routes):  # a Python rule may set any class
        for i, route in enumerate(site.routes):
            for name in route.match.class_:
                if name not in given:
                    hint = suggest(name, [other for other in given if other])
                    yield _warning(("routes", i, "match", "class"), f"nothing gives a request the class {name}{hint}")


def _warning(loc: Loc, message: str, *, key: bool = False) -> Finding:
    return Finding(loc, message, key=key, severity="warning")


def _twice(items: Iterable[tuple[Loc, Hashable, str]]) -> Iterator[Finding]:
    """A finding for each duplicate item, except the first."""
    seen: set[Hashable] = set()
    for loc, item, message in items:
        if item in seen:
            yield Finding(loc, f"{message} twice")
        seen.add(item)
