"""Compiles the routes of a site file into a route table."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from gateway.config import htpasswd, template, user_files
from gateway.config.apache_rules import Rules
from gateway.config.basic_auth import BasicAuth
from gateway.config.files import targets
from gateway.config.maps import Tables
from gateway.config.match import Match
from gateway.config.model import Apache, Python, Respond, Site
from gateway.config.model import Route as RouteModel
from gateway.config.qos import Overload
from gateway.config.rate_limit import RateLimited
from gateway.config.sites import AUTO, SPILL, Sites
from gateway.config.units import size_text
from gateway.rules.actions import (
    EditHeaders,
    LimitBandwidth,
    Redirect,
    RequireClientCertificate,
    RespondWith,
    Rewrite,
    SetClass,
    SetPages,
    Step,
)
from gateway.rules.actions import Respond as Answer
from gateway.rules.apache import ApacheRules, ApacheState
from gateway.rules.apache_directives import ApacheFile, ApacheHosts
from gateway.rules.basic_auth import Logins, RequireLogin
from gateway.rules.classes import Classify
from gateway.rules.conditions import ClassIs, Condition, FrontendIs, MethodIs, SourceIn, ValueIs
from gateway.rules.expression import When
from gateway.rules.map_lookup import MapLookup
from gateway.rules.negation import Within
from gateway.rules.python import PythonRule
from gateway.rules.rate_limit import CountRate, RateLimit
from gateway.rules.request_key import RequestKey
from gateway.rules.response_rewrite import RewriteResponse
from gateway.rules.routes import Route, RouteTable
from gateway.rules.sites import Arrival, ToSite
from gateway.rules.size_limits import LimitBody, LimitHead
from gateway.rules.split import Split
from gateway.rules.template import Template
from gateway.wire.pages import pages
from gateway.wire.target import matched_text
from loadagent.report import parse_key

_NOTHING: Final[Mapping[Path, Any]] = MappingProxyType({})
_NONE: Final[Mapping[str, str]] = MappingProxyType({})
CLOSED: Final = 444
"""In the log, the status of a request whose connection was closed without a response, as of nginx."""
_NO_VARIETIES: Final[Mapping[int, Mapping[str, Any]]] = MappingProxyType({})
_NO_MAPS: Final[Mapping[str, MapLookup]] = MappingProxyType({})


def compile_routes(  # noqa: PLR0913 - what a table is made of
    site: Site,
    backends: Mapping[str, Any],
    contents: Mapping[Path, bytes] = _NOTHING,
    rules: Mapping[Path, Rules] = _NOTHING,
    secret: bytes = bytes(16),
    maps: Mapping[str, MapLookup] = _NO_MAPS,
    *,
    varieties: Mapping[int, Mapping[str, Any]] = _NO_VARIETIES,
) -> RouteTable:
    """The table of a site's routes. `backends`: the action for each backend; `contents`: every file that the site file
    names; `rules`: the Apache rules of such a file; `secret`: the secret of the table in which rates are counted;
    `maps`: as `map_lookups` gives them; `varieties`: the backends of routes with settings of their own, by the numbers
    of these.
    """
    routes = []
    logins: dict[Path, Logins] = {}
    for i, route in enumerate(site.routes):
        limit = rate_limit(f"route-{i}", route, secret, route.match.groups, maps)
        steps: list[Step] = [CountRate(limit)] if limit is not None else []
        if route.basic_auth is not None:
            steps.append(_login(route.basic_auth, contents, logins))
        steps += _steps(route, maps)
        if route.apache is not None:
            hosts = {host: backends[name] for host, name in targets(site).items()}
            found = rules[route.apache.file]
            named = user_files.of_rules(route.apache.file, found)
            users = {name: _users(path, contents, logins) for name, path in named.items()}
            steps.append(_apache(route.apache, hosts, found, users))
        if route.python is not None:
            steps.append(_python(route.python, backends, contents))
        if route.site is not None and site.sites is not None:
            steps += _to_site(route.site, site.sites, contents)
        if route.pages:
            steps.append(_pages(route, contents))
        own = varieties.get(i, backends)
        steps += [*_redirect(route, maps), *_split(route, own, maps)]
        action: Any = own[route.backend] if route.backend is not None else None
        if route.close:
            action = Answer(CLOSED, [], None, closes=True)
        elif route.respond is not None:
            headers = {name: _template(route, text, maps) for name, text in route.respond.headers.items()}
            action = _respond(route.respond, contents, headers)
            if isinstance(action, Step):
                steps, action = [*steps, action], None
        routes.append(_matching(i, route.match, action, maps, steps))
    return RouteTable(routes, _before(site, contents, maps))


def map_lookups(site: Site, tables: Tables) -> dict[str, MapLookup]:
    """The maps of a site as rules look them up, by name."""
    return {
        name: MapLookup(name, tables[name], regex=model.keys == "regex", default=model.default)
        for name, model in site.maps.items()
    }


def _before(site: Site, contents: Mapping[Path, bytes], maps: Mapping[str, MapLookup]) -> Iterator[Step]:
    """The steps that run for every request before the first route."""
    if site.sites is not None:
        yield Arrival(parse_key(contents[site.sites.key_file]), [site.sites.self_, *site.sites.others])
    classes = site.qos.classes
    if classes:
        only = classes[0].name if classes[0].match == Match() else None
        yield Classify(RouteTable([_matching(i, item.match, item.name, maps) for i, item in enumerate(classes)]), only)


def rate_limit(
    name: str,
    model: RateLimited,
    secret: bytes,
    groups: Mapping[str, str] = _NONE,
    maps: Mapping[str, MapLookup] = _NO_MAPS,
) -> RateLimit | None:
    """The rate limit of a class or route; None: no limit. `groups`: named groups that a template may use."""
    if model.rate is None:
        return None
    per = model.per
    text = _made(per.name, groups, maps, url=False) if per is not None and per.kind == "template" else None
    return RateLimit(
        name,
        model.rate,
        model.at_once,
        per=per.kind if per is not None else None,
        field=per.name if per is not None else "",
        template=text,
        delay=model.delay or 0.0,
        dry_run=model.dry_run,
        secret=secret,
    )


def fair_by(model: Overload | None, secret: bytes) -> RequestKey | None:
    """The key for fairness within a class; None: no fairness is configured."""
    per = model.fair_by if model is not None else None
    return RequestKey(per.kind, per.name, secret=secret) if per is not None else None


def when_full(site: Site, contents: Mapping[Path, bytes]) -> Step | None:
    """The step that redirects clients without a session or place to another site; None: not configured."""
    name = site.qos.sessions.full.site if site.qos.sessions is not None else None
    if name is None or site.sites is None:
        return None
    return next(_to_site(name, site.sites, contents, full=True), None)


def _to_site(name: str, sites: Sites, contents: Mapping[Path, bytes], *, full: bool = False) -> Iterator[Step]:
    """Yield no step for this site itself: the client is already here. full: this site has no room."""
    peers = [
        (other, peer.url, SourceIn(peer.clients) if peer.clients else None)
        for other, peer in sites.others.items()
        if name in (other, AUTO, SPILL)
    ]
    if peers:
        chosen: Literal["best", "spill", "named"] = "best" if name == AUTO else "spill" if name == SPILL else "named"
        yield ToSite(sites.self_, peers, parse_key(contents[sites.key_file]), "full" if full else chosen)


def _apache(model: Apache, hosts: Mapping[str, Any], rules: Rules, users: Mapping[str, Logins]) -> Step:
    """The step for a file; with virtual hosts, that of the requested host. `users`: by AuthUserFile."""
    if not rules.hosts:
        return _apache_host(model, hosts, rules, rules.document_root or model.document_root, users)
    root = rules.document_root or model.document_root
    slashes = rules.encoded_slashes or "off"
    steps = [
        (
            host.names,
            host.port,
            _apache_host(model, hosts, host.rules, host.rules.document_root or root, users, slashes),
        )
        for host in rules.hosts
    ]
    return ApacheHosts(steps, name=model.file.name)


def _apache_host(
    model: Apache, hosts: Mapping[str, Any], rules: Rules, root: str, users: Mapping[str, Logins], slashes: str = "off"
) -> Step:
    """`slashes`: AllowEncodedSlashes, unless this host says it."""
    directory = model.context == "directory"
    state = ApacheState()

    def rewriting(part: Rules, base: str, *, directory: bool) -> ApacheRules:
        return ApacheRules(
            part,
            hosts,
            name=model.file.name,
            directory=directory,
            base=base,
            document_root=root,
            exists=model.exists,
            choose=random.randrange,
            state=state,
            slashes=rules.encoded_slashes or slashes,
        )

    own = rewriting(rules, model.base, directory=directory)
    if not rules.other and not rules.directories:
        return own
    longest_first = sorted(rules.directories, key=lambda item: -len(item[0]))
    inner = [(url.encode("latin-1"), rewriting(part, url, directory=True)) for url, part in longest_first if part.rules]
    return ApacheFile(
        rules.other,
        own,
        inner,
        hosts,
        name=model.file.name,
        directory=directory,
        base=model.base,
        knows_files=bool(model.exists),
        users=users,
    )


def _users(path: Path, contents: Mapping[Path, bytes], logins: dict[Path, Logins]) -> Logins:
    """`logins`: the users of files that routes before it have; what is found of a password holds for all of them."""
    if path not in logins:
        logins[path] = Logins(htpasswd.parse(contents[path]).hashes)
    return logins[path]


def _login(model: BasicAuth, contents: Mapping[Path, bytes], logins: dict[Path, Logins]) -> Step:
    return RequireLogin(_users(model.file, contents, logins), model.realm, model.users, forward=model.forward)


def _python(model: Python, backends: Mapping[str, Any], contents: Mapping[Path, bytes]) -> Step:
    function = model.function
    source = contents[function.path]
    return PythonRule(function.text, function.name, source, str(function.path), backends, model.budget)


def _respond(model: Respond, contents: Mapping[Path, bytes], templates: Mapping[str, Template]) -> Step | Answer:
    """The step of a response with fields, or the action of one without."""
    body = model.body.encode() if model.file is None else contents[model.file]
    lines = [("Content-Type", model.type)] if body else []
    if any(header.fixed is None for header in templates.values()):
        return RespondWith(model.status, lines, templates, body)
    fixed = ((name, (header.fixed or b"").decode()) for name, header in templates.items())
    return Answer(model.status, [*fixed, *lines], body)


def _pages(model: RouteModel, contents: Mapping[Path, bytes]) -> Step:
    made = pages({status: (path.name, contents[path]) for status, path in model.pages.items()})
    return SetPages({status: made[status] for status in model.pages})


def _matching(
    index: int, match: Match, action: Any, maps: Mapping[str, MapLookup], steps: Iterable[Step] = ()
) -> Route:
    paths = [
        (path.path, "regex") if path.regex else (matched_text(path.path), "exact" if path.exact else "prefix")
        for path in match.path
    ]
    return Route(index, match.scheme, match.host, paths, action, tuple(_conditions(match, maps)), steps)


def _conditions(match: Match, maps: Mapping[str, MapLookup]) -> Iterator[Condition]:
    if match.frontend:
        yield FrontendIs(match.frontend)
    if match.method:
        yield MethodIs(match.method)
    if match.source:
        yield SourceIn(match.source)
    if match.class_:
        yield ClassIs(match.class_)
    for where in ("query", "header", "cookie"):
        for name, wanted in getattr(match, where):
            yield ValueIs(where, name, wanted)
    for key in ("not_", "any_", "all_"):
        inner = getattr(match, key)
        if key == "all_":
            yield from (_within([item], "all", maps, negate=False) for item in inner)
        elif inner:
            yield _within(inner, key[:-1], maps, negate=key == "not_")
    if match.when is not None:
        yield When(match.when.text, match.when.node, maps)


def _within(matches: Sequence[Match], text: str, maps: Mapping[str, MapLookup], *, negate: bool) -> Condition:
    routes = [_matching(i, item, text, maps) for i, item in enumerate(matches)]
    return Within(RouteTable(routes), text=text, negate=negate)


def _steps(model: RouteModel, maps: Mapping[str, MapLookup]) -> Iterator[Step]:
    """The changes that a route makes, in this order, whatever their order in the file."""
    if model.require_client_cert:
        yield RequireClientCertificate()
    if model.class_ is not None:
        yield SetClass(model.class_)
    if model.bandwidth is not None:
        yield LimitBandwidth(model.bandwidth, f"bandwidth {size_text(model.bandwidth)}/s")
    if model.body_bytes is not None:
        yield LimitBody(model.body_bytes, f"bodies up to {size_text(model.body_bytes)}")
    if model.header_bytes is not None:
        yield LimitHead(model.header_bytes, f"heads up to {size_text(model.header_bytes)}")
    ranges = [(item.low, item.high) for item in model.response_status]
    for replace, append, default, response in (
        (model.set_header, model.append_header, model.default_header, False),
        (model.set_response_header, model.append_response_header, model.default_response_header, True),
    ):
        if replace or append or default:
            yield EditHeaders(
                {name: None if text is None else _template(model, text, maps) for name, text in replace.items()},
                {name: _template(model, text, maps) for name, text in append.items()},
                {name: _template(model, text, maps) for name, text in default.items()},
                response=response,
                ranges=ranges if response else (),
            )
    if model.rewrite_location or model.rewrite_cookie is not None:
        yield _response_rewrite(model, maps, ranges)
    if model.rewrite is not None:
        yield Rewrite(_template(model, model.rewrite, maps, url=True), f"rewrite {model.rewrite}")


def _response_rewrite(model: RouteModel, maps: Mapping[str, MapLookup], ranges: Iterable[tuple[int, int]]) -> Step:
    cookie = model.rewrite_cookie

    def pairs(texts: Mapping[str, str]) -> list[tuple[str, Template]]:
        return [(before, _template(model, after, maps)) for before, after in texts.items()]

    return RewriteResponse(
        [(before, _template(model, after, maps, url=True)) for before, after in model.rewrite_location.items()],
        pairs(cookie.path if cookie is not None else {}),
        pairs(cookie.domain if cookie is not None else {}),
        ranges=ranges,
    )


def _redirect(model: RouteModel, maps: Mapping[str, MapLookup]) -> Iterator[Step]:
    if model.redirect is not None:
        to, status = model.redirect.to, model.redirect.status
        text = f"redirect {to} ({status})"
        yield Redirect(status, _template(model, to, maps, url=True), elsewhere=to.startswith("//"), text=text)


def _split(model: RouteModel, backends: Mapping[str, Any], maps: Mapping[str, MapLookup]) -> Iterator[Step]:
    split = model.split
    if split is not None:
        # No script needs to read the cookie.
        attributes = "; Path=/; HttpOnly; SameSite=Lax"
        if split.max_age is not None:
            attributes += f"; Max-Age={int(split.max_age)}"
        yield Split(
            [(name, share, backends[name]) for name, share in split.to.items()],
            by=None if split.by is None else _template(model, split.by, maps),
            cookie=split.cookie,
            attributes=attributes,
            text=f"split {split.text}",
        )


def _template(model: RouteModel, text: str, maps: Mapping[str, MapLookup], *, url: bool = False) -> Template:
    return _made(text, model.match.groups, maps, url=url)


def _made(text: str, groups: Mapping[str, str], maps: Mapping[str, MapLookup], *, url: bool) -> Template:
    fields = (*template.REDIRECT_FIELDS, *groups)
    return Template(template.parts(text, fields, named=template.FAMILIES), groups, maps, url=url)
