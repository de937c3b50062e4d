"""What explain says of a request, and what the data path does with it: the same, for any site and any request.

Sites and requests are drawn; DIFFERENTIAL_EXAMPLES says how many sites (240), each with a handful of requests.
"""

import gc
import itertools
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.board import DOWN, DRAIN, MAINTENANCE, OUT, READY, UNKNOWN, UP, Board
from gateway.config.expectation import Assumption
from gateway.config.loader import load
from gateway.config.snapshot import Snapshot
from gateway.explain.asked import Asked
from gateway.explain.sandbox import Sandbox
from gateway.secrets import keys
from gateway.wire.pages import page, pages, phrase
from tests.explain.traffic import FIELDS, Fate, Servers, Traffic

EXAMPLES: Final = int(os.environ.get("DIFFERENTIAL_EXAMPLES", "240"))
NOON: Final = 1780315200.0
"""2026-06-01T12:00:00Z, at which everything happens."""
PAGES: Final = pages({})
ZEROS: Final = "0" * 32
"""The id of every request that explain is asked about."""
KEYED: Final = ("source-hash", "uri-hash", "header:X-Key")
"""Balances by which a request goes to one server."""

KEPT: Final = "kept"
FILES: Final = {
    "site.conf": """\
RewriteEngine On
RewriteCond %{HTTP_HOST} ^a\\. [NC]
RewriteCond %{QUERY_STRING} (^|&)x=([0-9]+)
RewriteRule ^/a/(.*)$ /c/$1?y=%2 [QSA,L]
RewriteRule ^/gone - [G]
RewriteRule ^/P/(.*) https://%{HTTP_HOST}/p/$1 [R=301,NE]
RewriteRule ^/to/(.*) http://app/$1 [P]
""",
    "local.htaccess": """\
RewriteEngine On
RewriteRule ^\\.(?!well-known/) - [F]
RewriteCond %{HTTP:X-A} =one
RewriteRule ^item/([0-9]+)$ index.php?item=$1 [QSA,L]
RewriteCond %{REQUEST_METHOD} =DELETE
RewriteRule ^ /closed [R=303,L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteRule ^old/ /index.php [L]
""",
    "rules/custom.py": """\
def route(request):
    if request.cookie("beta"):
        return {"set_header": {"X-Beta": request.cookie("beta")}, "backend": "other"}
    if request.path.startswith("/a"):
        return {"rewrite": "/python" + request.path, "class": "gold"}
    if request.header("x-a") == "two":
        return {"respond": {"status": 403, "body": request.host}}
""",
}


def chosen(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def some(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with any of the keys."""
    return st.fixed_dictionaries({}, optional=keys)


SELDOM = st.integers(0, 2).map(lambda number: number == 2)
HOSTS = ("a.example", "www.example.com", "x.cdn.example.com", "10.0.0.1")
WHEN = (
    'load("app") > 0.5',
    'up("app") == 0 || up("other") < 2',
    'time.getHours() >= 12 && method in ["GET", "HEAD"]',
    'has(cookies.beta) && cookies.beta.startsWith("1")',
    'size(headers["x-a"]) > 1',
    "int(query.x) > 5",
    'in_network(client, "127.0.0.2/32")',
    'host.endsWith("example.com") ? scheme == "https" : path.contains("//")',
    "sessions() >= 5000",
    'class == "gold" || uri.matches("[?&]x=")',
)
CONDITIONS: Final[dict[str, tuple[Any, ...]]] = {
    "scheme": ("http", "https"),
    "host": (*HOSTS, "*.example.com", list(HOSTS[:2])),
    "method": ("GET", ["GET", "HEAD"], ["POST", "PUT"], "BREW"),
    "path": (
        "/",
        "/a",
        "/a/",
        "/old/",
        "/%61",
        "= /a/b",
        "= /",
        "~ ^/item/(?<id>[0-9]+)$",
        "~ \\.css$",
        "~ (?i)^/A",
        "~ ^/(?!a)",
    ),
    "query": ({"x": True}, {"x": False}, {"x": "1"}, {"x": "~^[0-9]+$"}, {"y": "c/d"}),
    "header": ({"X-A": "one"}, {"x-a": "~two|three"}, {"User-Agent": False}, {"Host": True}),
    "cookie": ({"beta": "1"}, {"beta": True}, {"beta": "~^[12]$", "x": False}),
    "source": ("127.0.0.2", ["127.0.0.0/30", "2001:db8::/32"], "203.0.113.0/24"),
    "class": ("gold", ["gold", "rest"]),
    "when": WHEN,
}
CONDITION = st.sampled_from(list(CONDITIONS)).flatmap(lambda key: st.tuples(st.just(key), chosen(*CONDITIONS[key])))
MATCH = st.lists(CONDITION, max_size=2).map(dict)
VALUES = ("v", "{host}", "{scheme}://{host}{uri}", "{path_rest}|{path}|{query}", "{client}", "{request_id}", "<{header:X-A}>", "{cookie:beta}", "{{}}")  # fmt: skip
VALUE = chosen(*VALUES)
FINAL = st.one_of(
    st.fixed_dictionaries({"backend": chosen("app", "app", "other")}),
    st.fixed_dictionaries(
        {
            "redirect": chosen(
                "/login?next={uri}&q={query}", "https://{host}{uri}", "/{path_rest}?{query}", "/{cookie:beta}/{header:X-A}",
                {"to": "https://b.example/{path}?c={client}&i={request_id}", "status": 308},
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "respond": chosen(
                {"status": 403}, {"status": 204, "headers": {"X-New": "4"}}, {"body": "grüße\n", "type": "text/x"}, {"status": 503, "body": "b"}
            )
        }
    ),
)  # fmt: skip
CHANGES = some(
    rewrite=chosen("/new/{path_rest}", "/new?h={header:X-A}&{query}", "{path}?", "/x/../{path_rest}/%2e", "{uri}"),
    set_header=chosen({"X-New": "{uri}"}, {"X-A": None}, {"Host": "inner.example"}, {"User-Agent": "{header:X-A}", "Cookie": None}),
    append_header=st.fixed_dictionaries({"X-A": VALUE}),
    set_response_header=chosen({"Server": None, "X-New": "{path}"}, {"X-A": "{request_id}"}, {"Cache-Control": None, "Content-Type": "text/z"}),
    append_response_header=st.fixed_dictionaries({"X-More": VALUE}),
    apache=chosen("site.conf", "local.htaccess", {"file": "local.htaccess", "exists": ["/index.php", "/old/"]}),
    python=st.just("rules.custom:route"),
    **{"class": chosen("gold", "rest")},
)  # fmt: skip
GROUP = st.just(
    {"match": {"path": "~ ^/item/(?<id>[0-9]+)$"}, "rewrite": "/product?id={id}", "set_header": {"X-Item": "{id}"}}
)
ROUTE = st.one_of(
    st.tuples(st.fixed_dictionaries({"match": MATCH}), FINAL).map(lambda parts: {**parts[0], **parts[1]}),
    st.tuples(st.fixed_dictionaries({"match": MATCH}), CHANGES.filter(bool)).map(
        lambda parts: {**parts[0], **parts[1]}
    ),
    st.tuples(st.fixed_dictionaries({"match": MATCH}), CHANGES, FINAL).map(
        lambda parts: {**parts[0], **parts[1], **parts[2]}
    ),
    GROUP,
)
AFFINITY = chosen(None, {"cookie": "SRV"}, {"cookie": "SRV", "learn": True}, {"url": "srv"}, {"source": 32}, {"header": "X-Key"})  # fmt: skip
BALANCE = chosen("measured", "round-robin", "two-choices", *KEYED)
LIMITS = some(
    header_bytes=chosen(400, 600), header_count=chosen(5, 8), url_bytes=chosen(64, 100), body_bytes=chosen(3, 10)
)
CLASSES = chosen(
    [],
    [{"name": "gold", "match": {"cookie": {"beta": "1"}}}, {"name": "rest"}],
    [{"name": "gold", "match": {"cookie": {"beta": "1"}}, "admit": "never"}, {"name": "rest", "admit": "always"}],
    [{"name": "rest", "match": {"source": "127.0.0.2", "when": "has(query.x)"}}, {"name": "gold", "match": {"path": "/a"}}],
)  # fmt: skip
STATE = chosen((UP, READY), (UP, READY), (UNKNOWN, READY), (DOWN, READY), (UP, DRAIN), (UP, MAINTENANCE))


@dataclass(frozen=True)
class Drawn:
    """A site, without the addresses of this run, and how its servers are."""

    routes: list[dict[str, Any]]
    rest: str | None
    """The backend of what no route has decided on; None: app, and only for /a."""
    app: dict[str, Any]
    spare: bool
    classes: list[dict[str, Any]]
    limits: dict[str, Any]
    trusts: bool
    states: tuple[tuple[int, int], ...] = ((UP, READY),) * 3
    loads: tuple[float | None, ...] = (None, None, None)
    out: bool = False

    def site(self, ports: list[int], servers: Servers, kept: Path) -> dict[str, Any]:
        members: list[dict[str, Any]] = [{"name": name, "address": servers.address(name)} for name in "ab"]
        if self.spare:
            members[1]["backup"] = True
        frontends: list[dict[str, Any]] = [{"listen": f"127.0.0.1:{port}"} for port in ports]
        frontends[1]["limits"] = self.limits
        if self.trusts:
            frontends[1]["trusted_proxies"] = ["127.0.0.0/31", "198.51.100.0/24"]
        app = {name: value for name, value in self.app.items() if value is not None}
        return {
            "workers": 1,
            "node": "gw",
            "state": str(kept),
            "access_log": {"path": "-", "format": "{class}|{backend}|{frontend}"},
            "frontends": frontends,
            "backends": {
                "app": {"servers": members, **app},
                "other": {"servers": [{"name": "c", "address": servers.address("c")}]},
            },
            "qos": {"classes": self.classes},
            "routes": [
                *self.routes,
                {"backend": self.rest} if self.rest else {"match": {"path": "/a"}, "backend": "app"},
            ],
        }

    def arrange(self, board: Board, slots: Mapping[tuple[str, str], int]) -> None:
        for (health, admin), load_, key in zip(
            self.states, self.loads, (("app", "a"), ("app", "b"), ("other", "c")), strict=True
        ):
            board.set_state(slots[key], health)
            board.set_admin(slots[key], admin)
            board.set_load(slots[key], load_)
        board.set_ejected(slots["app", "a"], OUT if self.out else 0)


LOADS = st.tuples(*[chosen(None, 0.1, 0.9)] * 3)
SITE = st.builds(
    Drawn,
    st.lists(ROUTE, max_size=5),
    chosen("app", "app", "app", "other", None),
    some(affinity=AFFINITY, balance=BALANCE),
    st.booleans(),
    CLASSES,
    LIMITS,
    st.booleans(),
    st.tuples(STATE, STATE, STATE),
    LOADS,
    SELDOM,
)
KEEPING = st.builds(
    Drawn,
    st.just([]),
    st.just("app"),
    st.fixed_dictionaries({"affinity": AFFINITY.filter(bool)}, optional={"balance": BALANCE}),
    st.booleans(),
    st.just([]),
    st.just({}),
    st.just(False),  # noqa: FBT003
    st.tuples(STATE, STATE, st.just((UP, READY))),
    LOADS,
    SELDOM,
)
"""Sites whose one backend brings clients back to their servers."""
SEEN = st.sampled_from([(key, value) for key in ("scheme", "source", "when") for value in CONDITIONS[key]])
BEHIND = st.builds(
    Drawn,
    st.lists(st.tuples(SEEN, FINAL).map(lambda parts: {"match": dict([parts[0]]), **parts[1]}), max_size=3),
    st.just("app"),
    st.fixed_dictionaries({"affinity": chosen({"source": 32}, {"source": 24})}),
    st.booleans(),
    st.just([]),
    st.just({}),
    st.just(True),  # noqa: FBT003
)
"""Sites that go by what a trusted proxy says of clients."""


@dataclass(frozen=True)
class Sent:
    """A request. @a and @b in a header stand for what affinity gives clients of these servers."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    client: str = "127.0.0.1"
    entrance: int = 0
    clear: bool = False

    def asked(self, ports: list[int], tokens: dict[str, str]) -> Asked:
        headers = tuple((name, _filled(value, tokens)) for name, value in self.headers)
        return Asked(self.method, "http", f"a.example:{ports[self.entrance]}", self.target, headers, self.client)


def _filled(value: str, tokens: dict[str, str]) -> str:
    return re.sub("@([ab])", lambda match: tokens.get(match[1], "none"), value)


TARGETS = (
    "/", "/a", "/a/b", "/a/b?x=1", "/a/x.css", "/item/7?x=9&y=c%2Fd", "/old/a?b", "/%61/b", "/a%2Fb", "/gone", "/P/q?r", "/to/x",
    "/a;srv=b/c", "/a?srv=a", "/a?srv=a&srv=b", "/c?x=%zz&x=7", "/ÿ",
)  # fmt: skip
HOSTILE = (
    "//a", "/a//b", "/a/../b", "/../..", "/a/%2e%2e/b", "/a/%2E%2E%2Fb", "/a%2f..%2fb", "/a/.%2e;x/b", "/%00", "/a%0d%0aX: y", "/a%", "/%zz",
    "/a\\b", "/a%5cb", "/{}|^", "/a#b", "/a b", "*", "a", "", "http://www.example.com/a", "http://www.example.com", "http://other:81/a?x=1",
    "http://user@a/", "https://a.example/a", "//www.example.com/a", "/a?%0a", "/" + "y" * 80, "/" + "%41" * 40, "http:/a", "/.well-known/", "/.git",
    "/./a", "/a/.", "/a/..", "/%2561", "/%E2%82%AC", "/a?b?c", "/?", "/a??", "http://a.example?x=1", "HTTP://A.EXAMPLE/a",
)  # fmt: skip
HEADER = chosen(
    *(("X-A", value) for value in ("one", "two", "", "a b", "gr\u00fc\u00dfe")), ("x-a", "three"), ("X-Key", "k"), ("X-Key", "k2"),
    ("Cookie", "beta=1"), ("Cookie", "x=1; beta=2"), ("Cookie", 'beta="1"; beta=3'), ("Cookie", "SRV=@a"), ("Cookie", "SRV=@b; beta=1"),
    ("Cookie", "beta=1; SRV=bad; SRV=@b"), ("Cookie", "SRV=@ax"), ("User-Agent", "t"), ("Referer", "/r"), ("Accept-Encoding", "gzip"),
    ("X-Forwarded-For", "203.0.113.9, 198.51.100.7"), ("X-Forwarded-For", "127.0.0.2"), ("X-Forwarded-For", "no address"), ("X-Forwarded-For", ""),
    ("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "f.example"), ("Forwarded", "for=203.0.113.9;proto=https"), ("X-Real-IP", "203.0.113.9"),
    ("X-Request-ID", "trusted-id-777777777777"), ("X-Request-ID", "b\u00e4d id"), ("Via", "1.0 before"), ("Connection", "close, X-A"),
    ("Connection", "keep-alive"), ("TE", "trailers"), ("Upgrade", "echo"), ("Keep-Alive", "5"), ("Proxy-Connection", "x"), ("Proxy", "x"),
)  # fmt: skip
HOST = chosen(
    *((("Host", host),) for host in (*HOSTS, "WWW.Example.COM", "www.example.com:80", "www.example.com.", "a.example:99")),
    *((("Host", host),) for host in ("", "a b", "a/b", "a.example:x", "[::1]", "[::1]:80", "a@b", "-", "a,b", "*.example.com", "a\u00e4", "[", "a:b:c")),
    (("Host", "a.example"), ("Host", "a.example")), (("Host", "a.example"), ("HOST", "b")), (),
)  # fmt: skip
BAD = chosen(
    ("Content-Length", "5, 5"), ("Content-Length", "+5"), ("Transfer-Encoding", "gzip"), ("X A", "y"), ("", "y"), ("X-B", "a\rb"), ("X-B", "a\0"),
    ("X-Long", "l" * 300), ("X\u00e4", "y"), ("Expect", "x"), ("Connection", "upgrade"), (" X-Fold", "z"), ("X-B\t", "y"), ("Host", "second"),
    ("X_Forwarded_For", "203.0.113.9"), ("X-Forwarded_Host", "y"), ("Content_Length", "5"), ("HTTP2-Settings", "x"), ("Transfer-Encoding", "identity"),
)  # fmt: skip
# What explain cannot know, as it is told of no body: a chunked one that is longer than body_bytes.
BODIES: Final = (
    *[((), b"")] * 5,
    ((("Content-Length", "5"),), b"hello"),
    ((("Content-Length", "0"),), b""),
    ((("Content-Length", "20"),), b"h" * 20),
    ((("Transfer-Encoding", "chunked"), ("Trailer", "X-T")), b"3\r\nabc\r\n0\r\n\r\n"),
    ((("Content-Length", "3"), ("Expect", "100-continue")), b"abc"),
)
GOOD_BODY = chosen(*BODIES)
BODY = chosen(*BODIES, ((("Content-Length", "5"), ("Transfer-Encoding", "chunked")), b"0\r\n\r\n"))
METHODS: Final = ("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW")


@st.composite
def _sent(draw: st.DrawFn) -> Sent:
    hostile = draw(chosen("", "", "", "", "target", "host", "field", "all"))
    fields, body = draw(BODY if hostile else GOOD_BODY)
    host = draw(HOST) if hostile in {"host", "all"} else (("Host", draw(chosen(*HOSTS))),)
    headers = [*host, *fields, *draw(st.lists(HEADER, max_size=5))]
    if hostile in {"field", "all"}:
        headers.insert(draw(st.integers(0, len(headers))), draw(BAD))
    return Sent(
        draw(chosen(*METHODS, "get", "CONNECT", "TRACE") if hostile else chosen(*METHODS)),
        draw(chosen(*HOSTILE) if hostile in {"target", "all"} else chosen(*TARGETS)),
        tuple(headers),
        body,
        draw(chosen("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3")),
        draw(chosen(0, 1)),
        draw(SELDOM),
    )


AFFINE = st.builds(
    Sent,
    chosen("GET", "HEAD", "POST"),
    chosen("/", "/a;srv=b/c", "/a;srv=a", "/a?srv=a", "/a?x=1&srv=b", "/a?srv=c", "/a;x;srv=b?srv=a", "/;srv="),
    st.lists(
        chosen(
            *(("X-Key", key) for key in ("k", "k2", "")), ("x-key", "k3"),
            *(("Cookie", text) for text in ("SRV=@a", "SRV=@b", "beta=1; SRV=@b", "SRV=bad; SRV=@a", "SRV=@ax", 'SRV="@a"', "srv=@a", "xSRV=@a", "SRV=")),
        ),
        max_size=2,
    ).map(lambda fields: (("Host", "a.example"), *fields)),
    client=chosen("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.1.0.1"),
)  # fmt: skip
FORWARDED = st.builds(
    Sent,
    chosen("GET", "POST"),
    chosen("/", "/a?x=7"),
    st.lists(
        chosen(
            *(("X-Forwarded-For", text) for text in ("203.0.113.9", "127.0.0.2", "203.0.113.9, 198.51.100.7", "127.0.0.2,, 127.0.0.0", "2001:db8::1", "unknown", "", "127.0.0.2:80")),
            *(("X-Forwarded-Proto", text) for text in ("https", "HTTPS", "http", "", "wss")), ("X-Forwarded-Host", "f.example"),
            *(("Forwarded", text) for text in ("for=203.0.113.9;proto=https", "for=unknown")), ("X-Request-ID", "trusted-id-777777777777"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("X-Request-ID", "b\u00e4d id"),
        ),
        max_size=5,
    ).map(lambda fields: (("Host", "a.example"), *fields)),
    client=chosen("127.0.0.1", "127.0.0.1", "127.0.0.2"),
    entrance=chosen(1, 1, 0),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where sites of this module live: the sockets of their entrances and servers, and a directory for their files."""

    entrances: dict[int, socket.socket]
    servers: Servers
    directory: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("sites")
    for name, text in FILES.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    keys.keep(directory / KEPT)  # with a key that is kept, both sides sign cookies alike
    sockets = [socket.create_server(("127.0.0.1", 0), backlog=64) for _ in range(2)]
    for sock in sockets:
        sock.settimeout(0)
    servers = Servers("abc")
    yield Place({sock.getsockname()[1]: sock for sock in sockets}, servers, directory)
    servers.close()
    for sock in sockets:
        sock.close()


# ----------------------------------------------------------------------------------------------------------- comparing


def _same_id(text: str, request_id: str) -> str:
    return text.replace(request_id, ZEROS) if request_id else text


def _lines_without(head: str, names: tuple[str, ...]) -> str:
    return "".join(line for line in head.splitlines(keepends=True) if line.partition(":")[0].lower() not in names)


def _own(status: int, lines: str, body: bytes, *, close: bool) -> str:
    """The head of an answer of the gateway's own, Date aside."""
    head = f"HTTP/1.1 {status} {phrase(status)}\r\n{lines}X-Request-ID: {ZEROS}\r\n"
    if status not in (204, 304):
        head += f"Content-Length: {len(body)}\r\n"
    return head + ("Connection: close\r\n" if close else "") + "\r\n"


def _passed_on(found: dict[str, Any]) -> str:
    """The head of a server's answer as its client gets it, cookies and Connection aside."""
    edits = found["edits"] or {"without": (), "with": ""}
    kept = _lines_without(FIELDS, ("x-request-id", *edits["without"]))
    return f"HTTP/1.1 200 OK\r\n{kept}Via: 1.1 gw\r\n{edits['with']}X-Request-ID: {ZEROS}\r\nContent-Length: 1\r\n\r\n"


def _may(found: dict[str, Any]) -> set[str]:
    """The servers that new requests may go to, by the states that explain shows."""
    for backup in (False, True):
        tier = {
            candidate["server"]
            for candidate in found["candidates"]
            if candidate["backup"] is backup
            and candidate["state"] != "down"
            and candidate["admin"] == "ready"
            and candidate["ejected"] != "out"
        }
        if tier:
            return tier
    return set()


def _compare(drawn: Drawn, asked: Asked, found: dict[str, Any], fate: Fate) -> None:
    head = _lines_without(_same_id(fate.head, fate.request_id), ("date",))
    assert fate.logged == f"{found.get('class') or ''}|{found.get('backend', '')}|{found['frontend']}\n"
    bodiless = asked.method == "HEAD"
    if "refused" in found:
        status, why = found["refused"]
        body = page(status, why)
        assert head == _own(status, PAGES[status][0].decode(), body, close=True)
        assert fate.body in {body, b""} if bodiless else fate.body == body
        assert fate.server is None
        return
    head = head.replace("\r\nConnection: close\r\n", "\r\n")
    if found["outcome"] == "respond":
        lines, body = _same_id(found["lines"], fate.request_id), found["body"]
        assert head == _own(found["status"], lines, body, close=False)
        assert fate.body == (b"" if bodiless else body)
        assert fate.server is None
        return
    may = _may(found)
    if found["server"] is None:
        lines, body = PAGES[503][0].decode(), PAGES[503][1]
        assert may == set()
        assert (head, fate.server) == (_own(503, lines, body, close=False), None)
        assert fate.body == (b"" if bodiless else body)
        return
    assert fate.server is not None
    app = drawn.app if found["backend"] == "app" else {}
    keyed = any(name.lower() == "x-key" and value for name, value in asked.headers)  # an empty one is no key
    keyless = app.get("balance") == "header:X-Key" and not keyed
    if found["kept"] or len(may) == 1 or (app.get("balance") in KEYED and not keyless):
        assert fate.server == found["server"]
    else:
        assert fate.server in may
    assert _same_id(fate.asked or "", fate.request_id) == _same_id(found["head"], fate.request_id)
    affinity = app.get("affinity") or {}
    cookies = [line for line in head.splitlines() if line.lower().startswith("set-cookie:")]
    if not affinity.get("learn"):  # what it says depends on what servers set, and these set nothing
        marked = "cookie" in affinity and not found["kept"]
        assert [line.partition("=")[0] for line in cookies] == (["Set-Cookie: SRV"] if marked else [])
    found["edits"] = found["edits"] and {
        "without": found["edits"]["without"],
        "with": _same_id(found["edits"]["with"], fate.request_id),
    }
    assert _lines_without(head, ("set-cookie",)) == _passed_on(found)
    assert fate.body == (b"" if bodiless else fate.server.encode())


def _tokens(sandbox: Sandbox, ports: list[int]) -> dict[str, str]:
    """What affinity by cookie gives clients of each server, as far as a request that explain is asked about shows it."""
    for target in ("/a", "/", "/old/"):
        found = sandbox.decide(Asked("GET", "http", f"a.example:{ports[0]}", target, (("Host", "a.example"),)))
        if found.get("backend") == "app":
            return {candidate["server"]: candidate["token"] or "none" for candidate in found["candidates"]}
    return {}


_sites = itertools.count(1)


def _differ(place: Place, drawn: Drawn, requests: list[Sent]) -> None:
    if next(_sites) % 10 == 0:
        gc.collect()  # each sandbox and each data plane has descriptors, and is a circle
    ports = [*place.entrances]
    path = place.directory / "site.yaml"
    path.write_text(yaml.safe_dump(drawn.site(ports, place.servers, place.directory / KEPT)))
    loaded = load(path)
    with Sandbox(loaded) as sandbox, Traffic(loaded, place.entrances, place.servers, drawn.arrange, NOON) as traffic:
        drawn.arrange(sandbox._context.board, Snapshot.first(loaded).slots)
        sandbox.assume(Assumption.model_validate({"time": "2026-06-01T12:00:00Z"}))
        tokens = _tokens(sandbox, ports)
        for sent in requests:
            asked = sent.asked(ports, tokens)
            found = sandbox.decide(asked)
            fate = traffic.send(asked, sent.body, clear=sent.clear)
            try:
                _compare(drawn, asked, found, fate)
            except AssertionError as error:
                error.add_note(f"site: {path.read_text()}\nrequest: {asked.head + sent.body!r} from {asked.client}")
                error.add_note(f"explain says: {found}\nthe data path: {fate}")
                raise


# -------------------------------------------------------------------------------------------------------------- tests


bounded = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
pytestmark = pytest.mark.timeout(60 + EXAMPLES)


@bounded
@given(drawn=SITE, requests=st.lists(_sent(), min_size=1, max_size=8))
def test_the_data_path_does_what_explain_says(place: Place, drawn: Drawn, requests: list[Sent]) -> None:
    _differ(place, drawn, requests)


@settings(bounded, max_examples=EXAMPLES // 3)
@given(drawn=KEEPING, requests=st.lists(AFFINE, min_size=1, max_size=8))
def test_clients_are_kept_where_explain_says(place: Place, drawn: Drawn, requests: list[Sent]) -> None:
    _differ(place, drawn, requests)


@settings(bounded, max_examples=EXAMPLES // 3)
@given(drawn=BEHIND, requests=st.lists(FORWARDED, min_size=1, max_size=8))
def test_clients_behind_proxies_are_seen_as_explain_says(place: Place, drawn: Drawn, requests: list[Sent]) -> None:
    _differ(place, drawn, requests)
