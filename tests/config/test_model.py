"""What a site file may say, what becomes of it, what mistakes are called. A » marks where a problem is."""

import socket
from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.config import http2_library
from gateway.config.model import (
    AccessLog,
    Address,
    Affinity,
    Check,
    Expect,
    Limits,
    Listen,
    Match,
    PathMatch,
    Queue,
    Redirect,
    Respond,
    Retries,
    Route,
    Server,
    Site,
    StatusRange,
    Timeouts,
)
from tests.config.conftest import BASE, Load, Refuse, with_route

BACKEND = 'frontends: [{listen: "127.0.0.1:80"}]\nbackends:\n  app:\n    servers: ["127.0.0.1:1"]\n'


def site(load_text: Load, text: str) -> Site:
    return load_text(text).site


def test_the_smallest_site_has_every_default(load_text: Load) -> None:
    small = site(load_text, BASE)
    assert small.node == socket.gethostname()
    assert 1 <= small.workers <= 64
    assert (small.user, small.drain) == ("nobody", 30.0)
    assert (small.access_log, small.load_reports, small.pages) == ((), None, {})
    (frontend,) = small.frontends
    assert (frontend.name, frontend.listen) == ("127.0.0.1:80", (Listen("127.0.0.1", 80),))
    assert (frontend.trusted_proxies, frontend.proxy_protocol, frontend.tls) == ((), False, None)
    assert frontend.limits == Limits(
        header_bytes=32 * 1024,
        header_count=100,
        url_bytes=16 * 1024,
        body_bytes=1 << 30,
        header_timeout="10s",  # type: ignore[arg-type]  # as in a file
        idle_timeout="60s",  # type: ignore[arg-type]
        body_rate="500/s",  # type: ignore[arg-type]
        connections=10_000,
        connections_per_source=200,
    )
    assert frontend.limits.body_rate == 500.0
    app = small.backends["app"]
    assert (app.name, app.balance, app.affinity, app.check) == ("app", "measured", None, None)
    assert app.agent.stale_after == 3.0
    assert app.timeouts == Timeouts(connect="2s", response="30s", idle="60s", tunnel="1h")  # type: ignore[arg-type]
    assert app.retries == Retries(
        attempts=2,
        on=("connect", "reset"),
        methods=("GET", "HEAD", "OPTIONS", "PUT", "DELETE"),
        budget="20%",  # type: ignore[arg-type]
    )
    assert app.retries.budget == pytest.approx(0.2)
    assert app.retries.statuses == frozenset()
    assert app.queue is None
    assert app.servers == (Server(address=Address("tcp", "127.0.0.1", 1), name="127.0.0.1:1"),)
    assert (app.servers[0].weight, app.servers[0].max_connections, app.servers[0].backup) == (1, None, False)
    assert small.routes == (Route(match=Match(), backend="app"),)


@pytest.mark.parametrize("route, said", [
    ("»timeouts: {response: 1s}, respond: {}", "timeouts needs backend or split"),
    ("backend: app, affinity: {cookie: a, »url: b}", "by cookie and by url cannot be combined"),
    ("backend: app, affinity: {cookie: a, »samesite: lax}", "samesite is called same_site here"),
    ("backend: app, affinity: {»cooky: a}", "unknown key cooky (did you mean cookie?)"),
    ("backend: app, affinity: »true", "expected a mapping, not true"),
    ("backend: app, affinity: {source: »99}", "must be at most 32"),
    ("backend: app, affinity: {cookie: a, key_file: »none}", "cannot read"),
    ("backend: app, retries: {on: [»404]}", "expected connect, reset or a status from 500 to 599"),
    ("backend: app, retries: {attempts: »6}", "must be at most 5"),
    ("backend: app, timeouts: {»idle: 1s}", "unknown key idle"),
])  # fmt: skip
def test_mistakes_in_what_a_route_has_of_its_own(refuse: Refuse, route: str, said: str) -> None:
    refuse(
        "frontends: [{listen: '127.0.0.1:80'}]\nbackends: {app: {servers: ['127.0.0.1:1']}}\n"
        f"routes: [{{{route}}}]\n",
        said,
    )


@pytest.mark.parametrize("log", ["", "access_log: off\n", "access_log: false\n"])
def test_no_access_log(load_text: Load, log: str) -> None:
    assert site(load_text, BASE + log).access_log == ()


def test_access_log_forms(load_text: Load, tmp_path: Path) -> None:
    assert site(load_text, f'{BASE}access_log: "-"').access_log == (AccessLog(path="-", format="json"),)
    assert site(load_text, f"{BASE}access_log: a.log").access_log == (AccessLog(path=str(tmp_path / "a.log")),)
    template = "{client} {{{status}}}"
    written = f"{BASE}access_log: {{path: /tmp/a.log, format: '{template}'}}"
    assert site(load_text, written).access_log == (AccessLog(path="/tmp/a.log", format=template),)
    several = "[{syslog: 'udp://127.0.0.1'}, {syslog: {to: 'tcp://[::1]:99', facility: mail}, sample: 5%}, '-']"
    one, two, three = site(load_text, f"{BASE}access_log: {several}").access_log
    assert one.syslog is not None
    assert (str(one.syslog.to), one.syslog.priority, one.sample) == ("udp://127.0.0.1:514", 134, 1.0)
    assert two.syslog is not None
    assert (str(two.syslog.to), two.syslog.priority, two.sample) == ("tcp://[::1]:99", 22, 0.05)
    assert three == AccessLog(path="-")


def test_log_lines_may_have_any_header(load_text: Load, refuse: Refuse) -> None:
    template = "{outcome} {request_id} {header:X-Tenant}"
    log = site(load_text, f"{BASE}access_log: {{path: '-', format: '{template}'}}").access_log
    assert [one.format for one in log] == [template]
    refuse(f"{BASE}access_log: {{path: '-', format: 'x »{{cookie:c}}'}}\n", "unknown field {cookie:c}")


def test_frontend_forms(load_text: Load) -> None:
    text = """
    frontends:
      - {listen: ["0.0.0.0:80", "[::]:80"], trusted_proxies: [10.0.0.0/8, "2001:db8::/32"]}
      - {name: second, listen: "0.0.0.0:81", limits: {header_bytes: 8KiB, body_rate: 1KiB/s}}
      - {listen: "0.0.0.0:82", trusted_proxies: [10.0.0.1], proxy_protocol: true}
      - {listen: [unix:/run/http.sock, "0.0.0.0:83"]}
      - {listen: unix:/run/other.sock, socket_mode: "0606", trusted_proxies: [unix, 10.0.0.1], proxy_protocol: true}
    backends: {app: {servers: ["127.0.0.1:1"]}}
    """
    first, second, third, fourth, fifth = site(load_text, text).frontends
    assert first.name == "0.0.0.0:80"
    assert first.listen == (Listen("0.0.0.0", 80), Listen("::", 80))
    assert first.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    assert (second.name, second.limits.header_bytes, second.limits.url_bytes) == ("second", 8192, 8192)
    assert (second.limits.body_rate, third.proxy_protocol) == (1024.0, True)
    assert fourth.listen == (Listen("", 0, "/run/http.sock"), Listen("0.0.0.0", 83))
    assert fifth.trusted_proxies == ("unix", ip_network("10.0.0.1"))
    assert (fourth.name, fourth.socket_mode, fifth.socket_mode) == ("unix:/run/http.sock", 0o660, 0o606)


def test_backend_forms(load_text: Load) -> None:
    text = f"""{BACKEND}
      - unix:/run/app.sock
      - {{name: b, address: "[::1]:2", weight: 7, max_connections: 5, backup: true}}
    affinity: {{cookie: SRV, secure: true, max_age: 1h}}
    check: {{http: /ok, expect: {{status: [200, "300-399"], body: "~^o"}}, headers: {{Host: a}}}}
    balance: least-connections
    retries: {{attempts: 0, on: [reset, "503", 502], methods: [POST, M-SEARCH], budget: 100%}}
    queue: {{limit: 7}}
    timeouts: {{tunnel: 2m}}
    """.replace('servers: ["127.0.0.1:1"]\n', "servers:")
    app = site(load_text, text).backends["app"]
    assert [server.name for server in app.servers] == ["unix:run-app.sock", "b"]
    assert app.servers[1].address == Address("tcp", "::1", 2)
    assert (app.servers[1].weight, app.servers[1].max_connections, app.servers[1].backup) == (7, 5, True)
    assert app.affinity == Affinity(cookie="SRV", secure=True, max_age="3600s")  # type: ignore[arg-type]
    expect = Expect(status=(StatusRange(200, 200), StatusRange(300, 399)), body="~^o")
    assert app.check == Check(http="/ok", expect=expect, headers={"Host": "a"})
    assert app.balance == "least-connections"
    assert (app.retries.attempts, app.retries.on, app.retries.budget) == (0, ("reset", 503, 502), 1.0)
    assert app.retries.statuses == frozenset({502, 503})
    assert app.retries.methods == ("POST", "M-SEARCH")
    assert app.queue == Queue(limit=7, timeout="5s")  # type: ignore[arg-type]
    assert app.timeouts.tunnel == 120.0


@pytest.mark.parametrize(
    "status, ranges",
    [
        ("200", (StatusRange(200, 200),)),
        ("200-299", (StatusRange(200, 299),)),
        ("[204, '301']", (StatusRange(204, 204), StatusRange(301, 301))),
    ],
)
def test_expected_status(load_text: Load, status: str, ranges: tuple[StatusRange, ...]) -> None:
    check = site(load_text, f"{BACKEND}    check: {{http: /, expect: {{status: {status}}}}}").backends["app"].check
    assert check is not None
    assert check.expect.status == ranges


@pytest.mark.parametrize(
    "text, route",
    [
        ("{redirect: '/x{uri}'}", Route(redirect=Redirect(to="/x{uri}", status=302))),
        (
            "{redirect: {to: 'https://{host}/', status: 308}}",
            Route(redirect=Redirect(to="https://{host}/", status=308)),
        ),
        ("{respond: {}}", Route(respond=Respond(status=200, body="", type="text/plain; charset=utf-8"))),
        (
            "{match: {host: WWW.Example.com, path: ['= /a', '=/b', /c], scheme: https}, backend: app}",
            Route(
                match=Match(
                    scheme="https",
                    host=("www.example.com",),
                    path=(
                        PathMatch("/a", exact=True),
                        PathMatch("/b", exact=True),
                        PathMatch("/c", exact=False),
                    ),
                ),
                backend="app",
            ),
        ),
        (
            "{match: {host: ['*.example.com', '[::1]', '10.0.0.1']}, backend: app}",
            Route(match=Match(host=("*.example.com", "[::1]", "10.0.0.1")), backend="app"),
        ),
    ],
)
def test_route_forms(load_text: Load, text: str, route: Route) -> None:
    assert site(load_text, with_route(text)).routes == (route,)


def test_models_are_frozen(load_text: Load) -> None:
    small = site(load_text, BASE)
    with pytest.raises(ValueError, match="frozen"):
        small.drain = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "text, message",
    [
        ("node: »5", "expected text, not the number 5; put it in quotes"),
        ("node: »[]", "expected text, not a list"),
        ("workers: »0", "expected auto or a number from 1 to 64"),
        ("workers: »65", "expected auto or a number from 1 to 64"),
        ("workers: »true", "expected auto or a number from 1 to 64"),
        ("drain: »10", "a duration needs a unit: 10s?"),
        ("drain: »[10s]", "expected a duration such as 250ms, 2s, 10m"),
        ("drain:»", "expected a duration"),
        ("user: »no-such-user-here", "the user no-such-user-here does not exist on this machine"),
        ("access_log:»", "expected off, a file or a mapping, not nothing"),
        ("access_log: »5", "expected a mapping, not the number 5"),
        ("access_log: {path: »/none/such/log}", "there is no directory /none/such"),
        ("access_log: {path: »7}", 'expected a file, or "-", not the number 7'),
        ("access_log: »{format: json}", "set path or syslog: where lines are written"),
        ("access_log: »{path: '-', syslog: 'udp://127.0.0.1'}", "path and syslog cannot be combined: write two logs"),
        ("access_log: »['-', /tmp/a.log]", "one of several logs may have a path"),
        ("access_log: ['-', »off]", "off cannot stand beside other logs"),
        ("access_log: {syslog: »'udp://log.example.com:514'}", "is not an IP address: workers look up no names"),
        ("access_log: {syslog: »'127.0.0.1:514'}", "expected udp://ADDRESS:PORT or tcp://ADDRESS:PORT"),
        ("access_log: {syslog: {to: 'udp://127.0.0.1', facility: »local9}}", "expected"),
        ("access_log: {path: '-', sample: »0%}", "expected more than 0%"),
        (
            "access_log: {path: '-', format: »josn}",
            "expected json, combined or a template with {fields} (did you mean json?)",
        ),
        (
            "access_log: {path: '-', format: '{client} »{sttus}'}",
            "unknown field {sttus} (did you mean status?)",
        ),
        ("access_log: {path: '-', format: '{client} »{'}", "a lone {; write {{ for a brace"),
        ('access_log: {path: "-", format: "{client}»\\n"}', "the format must be a single line"),
        ("»acess_log: off", "unknown key acess_log (did you mean access_log?)"),
        ("»zzz: off", "unknown key zzz"),
        ("load_reports:»", "expected a mapping, not nothing"),
        ("load_reports: »[]", "expected a mapping, not a list"),
        ("pages: {»399: site.yaml}", "must be at least 400"),
        ("pages: {»600: site.yaml}", "must be at most 599"),
        ("pages: {»oops: site.yaml}", 'expected a whole number, not "oops"'),
        ("pages: {502: »1}", "expected the name of a file, not the number 1"),
        ("pages: »[]", "expected a mapping, not a list"),
        ("routes: »{}", "expected a list, not a mapping"),
        ("routes: »text", 'expected a list, not "text"'),
    ],
)
def test_mistakes_at_the_top(refuse: Refuse, text: str, message: str) -> None:
    refuse(f"{BASE}{text}\n", message)


@pytest.mark.parametrize(
    "frontend, message",
    [
        ("»5", "expected a mapping, not the number 5"),
        ("»{}", "listen is missing"),
        ("{listen: »8080}", 'expected address:port such as 0.0.0.0:8080 (did you mean ":8080"?)'),
        ("{listen: [unix:/a, »unix:b]}", "expected unix: and an absolute path"),
        ("{listen: unix:/a, socket_mode: »660}", 'expected permissions in quotes such as "0660", not the number'),
        ("{listen: unix:/a, socket_mode: »'660'}", 'expected permissions in quotes such as "0660"'),
        ("{listen: '1.2.3.4:5', socket_mode: »'0666'}", "no address of this frontend is a Unix socket"),
        (
            "{listen: ['1.2.3.4:5', unix:/a], trusted_proxies: [10.0.0.1], proxy_protocol: »true}",
            "no client could use its Unix socket: add unix to trusted_proxies",
        ),
        ("{listen: »[]}", "expected at least one"),
        ("{listen: ['1.2.3.4:5', »'::1:80']}", "put an IPv6 address in brackets: [::1]:80?"),
        ("{listen: '1.2.3.4:5', name: »a b}", "a name is 1 to 64 letters"),
        ("{listen: '1.2.3.4:5', name: »''}", "a name is 1 to 64 letters"),
        ("{listen: '1.2.3.4:5', trusted_proxies: [»10.0.0.1/8]}", "did you mean 10.0.0.0/8?"),
        ("{listen: '1.2.3.4:5', trusted_proxies: »10.0.0.0/8}", "expected a list"),
        ("{listen: '1.2.3.4:5', tls: »~}", "expected a mapping, not nothing"),
        ("{listen: '1.2.3.4:5', tls: »{}}", "certificates is missing"),
        ("{listen: '1.2.3.4:5', tls: {certificates: »[]}}", "expected at least one"),
        ("{listen: '1.2.3.4:5', tls: {certificates: [»{key: site.yaml}]}}", "cert is missing"),
        ("{listen: '1.2.3.4:5', limits: {header_bytes: »61KiB}}", "must be between 256B and 60KiB"),
        ("{listen: '1.2.3.4:5', limits: {header_bytes: »12k}}", "did you mean 12KiB?"),
        ("{listen: '1.2.3.4:5', limits: {header_bytes: 8KiB, url_bytes: »9KiB}}", "at most header_bytes"),
        ("{listen: '1.2.3.4:5', limits: {header_count: »1001}}", "must be at most 1000"),
        ("{listen: '1.2.3.4:5', limits: {header_count: »0}}", "must be at least 1"),
        ("{listen: '1.2.3.4:5', limits: {header_count: »many}}", 'expected a whole number, not "many"'),
        ("{listen: '1.2.3.4:5', limits: {header_count: »true}}", "expected a whole number, not true"),
        ("{listen: '1.2.3.4:5', limits: {idle_timeout: »0s}}", "must be at least 1ms"),
        ("{listen: '1.2.3.4:5', limits: {body_rate: »500}}", "did you mean 500/s?"),
        ("{listen: '1.2.3.4:5', limits: {connections: »0}}", "must be at least 1"),
        ("{listen: '1.2.3.4:5', limits: {connections_per_source: »0}}", "must be at least 1"),
        ("{listen: '1.2.3.4:5', proxy_protocol: »true}", "name the proxies in trusted_proxies"),
        ("{listen: '1.2.3.4:5', proxy_protocol: »v2}", 'expected true or false, not "v2"'),
        ("{listen: '1.2.3.4:5', limits: {»idle_timout: 1s}}", "(did you mean idle_timeout?)"),
    ],
)
def test_mistakes_in_frontends(refuse: Refuse, frontend: str, message: str) -> None:
    refuse(f"frontends:\n  - {frontend}\nbackends: {{app: {{servers: ['127.0.0.1:1']}}}}\n", message)


def test_min_version_without_quotes_is_a_number_but_meant_as_a_version(refuse: Refuse) -> None:
    refuse(
        "frontends: [{listen: '1.2.3.4:5', tls: {min_version: 1.2, certificates: [{cert: »a, key: »b}]}},\n"
        "  {listen: '1.2.3.4:6', tls: {min_version: »1.1, certificates: [{cert: »a, key: »b}]}}]\n"
        "backends: {app: {servers: ['127.0.0.1:1']}}\n",
        "cannot read",
        "cannot read",
        "policy intermediate begins at TLS 1.2",
        "cannot read",
        "cannot read",
    )


@pytest.mark.parametrize(
    "backends, message",
    [
        ("»[]", "expected a mapping, not a list"),
        ("{app: »[]}", "expected a mapping, not a list"),
        ("{»a b: {servers: ['1.2.3.4:5']}}", "a name is 1 to 64 letters, digits and . _ : -"),
        ("{app: »{}}", "servers is missing"),
        ("{app: {servers: »[]}}", "expected at least one"),
        ("{app: {servers: »'1.2.3.4:5'}}", "expected a list"),
        ("{app: {servers: ['1.2.3.4:5'], »name: x}}", "unknown key name: this backend is called app"),
        ("{app: {servers: ['1.2.3.4:5'], »chek: {}}}", "unknown key chek (did you mean check?)"),
        ("{app: {servers: ['1.2.3.4:5'], balance: »messured}}", "(did you mean measured?)"),
        ("{app: {servers: ['1.2.3.4:5'], balance: {hash: »X-Tenant}}}", 'expected hash: "header:NAME"'),
        ("{app: {servers: ['1.2.3.4:5'], balance: {hash: »\"header:X Tenant\"}}}", 'expected hash: "header:NAME"'),
        ("{app: {servers: ['1.2.3.4:5'], balance: »{hush: header:X}}}", "expected one of measured"),
        ("{app: {servers: ['1.2.3.4:5'], balance: »5}}", "expected one of measured, round-robin"),
        ("{app: {servers: [»5]}}", "expected a mapping, not the number 5"),
        ("{app: {servers: [»1.2.3.4]}}", "1.2.3.4 needs a port"),
        ("{app: {servers: [»{name: x}]}}", "address is missing"),
        ("{app: {servers: [{address: '1.2.3.4:5', name: »a/b}]}}", "a name is 1 to 64 letters"),
        (
            "{app: {servers: [{address: '1.2.3.4:5', name: »12}]}}",
            "expected text, not the number 12; put it in quotes",
        ),
        ("{app: {servers: [{address: '1.2.3.4:5', weight: »0}]}}", "must be at least 1"),
        ("{app: {servers: [{address: '1.2.3.4:5', weight: »257}]}}", "must be at most 256"),
        (
            "{app: {servers: [{address: '1.2.3.4:5', weight: »1.5}]}}",
            "expected a whole number, not the number 1.5",
        ),
        ("{app: {servers: [{address: '1.2.3.4:5', max_connections: »0}]}}", "must be at least 1"),
        (
            "{app: {servers: [{address: '1.2.3.4:5', max_connections: »~}]}}",
            "expected a whole number, not nothing",
        ),
        ("{app: {servers: [{address: '1.2.3.4:5', backup: »yes}]}}", 'expected true or false, not "yes"'),
        (
            "{app: {servers: [{address: '1.2.3.4:5', »wieght: 2}]}}",
            "unknown key wieght (did you mean weight?)",
        ),
        ("{app: {servers: [»'unix:/" + "x" * 70 + "']}}", "give the server a name"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: »SRV}}", 'expected a mapping, not "SRV"'),
        (
            "{app: {servers: ['1.2.3.4:5'], affinity: »{secure: true}}}",
            "needs exactly one of cookie, url, source, header",
        ),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: a, »url: b}}}", "by cookie and by url cannot be combined"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {url: a, »secure: true}}}", "secure needs cookie"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {source: »33}}}", "must be at most 32"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: a, key_file: »none}}}", "cannot read"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: »a b}}}", "not the name of a cookie"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: »__Host-x}}}", "only with secure: true"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: x, max_age: »10ms}}}", "must be at least 1s"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: x, same_site: »none}}}", "without secure: true"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: x, partitioned: »true}}}", "without secure: true"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: x, domain: ».a.com}}}", "write a.com: hosts below"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: x, domain: »10.0.0.1}}}", "expected a domain"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: x, path: »a}}}", "expected a path"),
        (
            "{app: {servers: ['1.2.3.4:5'], affinity: {cookie: __Host-x, secure: true, »domain: a.com}}}",
            "only without a domain",
        ),
        (
            "{app: {servers: ['1.2.3.4:5'], affinity: {cookie: __Host-x, secure: true, path: »/a}}}",
            "only with the path /",
        ),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {url: a, »same_site: lax}}}", "same_site needs cookie"),
        (
            "{app: {servers: ['1.2.3.4:5'], affinity: {cookie: a, learn: true, »path: /}}}",
            "the servers set this cookie and its attributes",
        ),
        ("{app: {servers: ['1.2.3.4:5'], check: »{}}}", 'a check needs http: "/path", tcp: true or grpc:'),
        ("{app: {servers: ['1.2.3.4:5'], check: {tcp: true, »method: HEAD}}}", "method needs http"),
        ("{app: {servers: ['1.2.3.4:5'], check: {tcp: true, »host: a}}}", "host needs http or grpc"),
        ("{app: {servers: ['1.2.3.4:5'], check: {http: /, host: »'a b'}}}", "expected a host"),
        ("{app: {servers: ['1.2.3.4:5'], check: {http: /, method: »CONNECT}}}", "cannot ask for a tunnel"),
        (
            "{app: {servers: ['1.2.3.4:5'], check: {http: /, method: HEAD, expect: {»body: ok}}}}",
            "an answer to HEAD has no body",
        ),
        ("{app: {servers: ['1.2.3.4:5'], check: {http: /, »host: a, headers: {Host: b}}}}", "headers has a Host, too"),
        ("{app: {servers: ['unix:/a'], check: {http: /, port: »1}}}", "which have no ports"),
        ("{app: {servers: ['unix:/a'], check: {http: /, tls: »true}}}", "stays on this machine"),
        ("{app: {servers: ['1.2.3.4:5'], proxy_protocol: »v3}}", "expected one of v1, v2"),
        ("{app: {servers: ['1.2.3.4:5'], check: {http: /, »tcp: true}}}", "http and tcp cannot be combined"),
        ("{app: {servers: ['1.2.3.4:5'], check: {http: /, »grpc: a}}}", "http and grpc cannot be combined"),
        ("{app: {servers: ['1.2.3.4:5'], check: {grpc: »a b}}}", "not the name of a service"),
        ("{app: {servers: ['1.2.3.4:5'], check: {grpc: a, »headers: {}}}}", "headers needs http"),
        ("{app: {servers: ['1.2.3.4:5'], agent: {»interval: 2s}}}", "interval needs connect"),
        ("{app: {servers: ['1.2.3.4:5'], agent: {connect: »0}}}", "must be at least 1"),
        ("{app: {servers: ['1.2.3.4:5'], agent: {connect: 1, interval: »3s}}}", "less than stale_after"),
        ("{app: {servers: ['1.2.3.4:5'], agent: {connect: 1, »orca: true}}}", "connect and orca cannot be combined"),
        ("{app: {servers: [»'unix:/x'], agent: {connect: 1}}}", "a server on a Unix socket has none"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {url: a, »learn: true}}}", "learn needs cookie"),
        ("{app: {servers: ['1.2.3.4:5'], affinity: {cookie: a, learn: true, »secure: true}}}", "remove secure"),
        ("{app: {servers: ['1.2.3.4:5'], check: {http: »ok}}}", "expected a path such as /healthz"),
        ("{app: {servers: ['1.2.3.4:5'], check: {tcp: true, »expect: {}}}}", "expect needs http"),
        ("{app: {servers: ['1.2.3.4:5'], check: {tcp: true, »headers: {}}}}", "headers needs http"),
        (
            "{app: {servers: ['1.2.3.4:5'], check: {http: /, expect: {status: »99}}}}",
            "expected a status such as 200",
        ),
        (
            "{app: {servers: ['1.2.3.4:5'], check: {http: /, expect: {status: [200, »3-2]}}}}",
            "expected a status",
        ),
        (
            "{app: {servers: ['1.2.3.4:5'], check: {http: /, expect: {status: »300-200}}}}",
            "expected a status",
        ),
        (
            "{app: {servers: ['1.2.3.4:5'], check: {http: /, expect: {body: '~a»('}}}}",
            "not a regular expression",
        ),
        ("{app: {servers: ['1.2.3.4:5'], check: {http: /, headers: {»a b: c}}}}", "not the name of a header"),
        (
            '{app: {servers: ["1.2.3.4:5"], check: {http: /, headers: {A: "b»\\r\\nC: d"}}}}',
            "cannot contain a line break",
        ),
        ("{app: {servers: ['1.2.3.4:5'], check: {http: /, rise: »0}}}", "must be at least 1"),
        ("{app: {servers: ['1.2.3.4:5'], agent: {stale_after: »3}}}", "a duration needs a unit: 3s?"),
        ("{app: {servers: ['1.2.3.4:5'], timeouts: {connect: »0s}}}", "must be at least 1ms"),
        ("{app: {servers: ['1.2.3.4:5'], retries: {attempts: »6}}}", "must be at most 5"),
        ("{app: {servers: ['1.2.3.4:5'], retries: {on: [connect, »rest]}}}", "(did you mean reset?)"),
        ("{app: {servers: ['1.2.3.4:5'], retries: {on: »404}}}", "or a status from 500 to 599"),
        ("{app: {servers: ['1.2.3.4:5'], retries: {methods: [»get]}}}", "a method is written in capitals"),
        ("{app: {servers: ['1.2.3.4:5'], retries: {budget: »101%}}}", "expected a share from 0% to 100%"),
        ("{app: {servers: ['1.2.3.4:5'], queue: »~}}", "expected a mapping, not nothing"),
        ("{app: {servers: ['1.2.3.4:5'], queue: {limit: »0}}}", "must be at least 1"),
    ],
)
def test_mistakes_in_backends(refuse: Refuse, backends: str, message: str) -> None:
    refuse(
        f"frontends: [{{listen: '127.0.0.1:80'}}]\nbackends: {backends}\nroutes: [{{respond: {{}}}}]\n",
        message,
    )


@pytest.mark.parametrize(
    "route, message",
    [
        ("»text", 'expected a mapping, not "text"'),
        ("»{}", "a route needs one of redirect, respond, backend"),
        ("»{match: {path: /}}", "a route needs one of redirect, respond, backend"),
        ("{redirect: /x, »backend: app}", "redirect and backend cannot be combined in a route"),
        ("{respond: {}, »backend: app}", "respond and backend cannot be combined in a route"),
        ("{backend: »ap}", "there is no backend ap (did you mean app?)"),
        ("{backend: »5}", "expected text, not the number 5"),
        ("{»bakend: app, respond: {}}", "unknown key bakend (did you mean backend?)"),
        ("{backend: app, match: {scheme: »htps}}", "expected one of http, https (did you mean https?)"),
        ("{backend: app, match: {host: »'a.com:80'}}", "without its port (did you mean a.com?)"),
        ("{backend: app, match: {host: »'*'}}", "omit host to match every host"),
        (
            "{backend: app, match: {host: »'a.*.com'}}",
            'expected a host such as www.example.com or "*.example.com"',
        ),
        ("{backend: app, match: {host: [a.com, »bücher.de]}}", "in its xn-- form"),
        ("{backend: app, match: {host: »[]}}", "expected at least one"),
        ("{backend: app, match: {any: »[]}}", "expected at least one"),
        ("{backend: app, match: {not: {all: »[]}}}", "expected at least one"),
        ("{backend: app, match: {query: »{}}}", "expected at least one parameter with its value"),
        ("{backend: app, match: {header: »{}}}", "expected at least one header with its value"),
        ("{split: »{}}", "expected at least one backend with its share, such as {canary: 5%, app: 95%}"),
        ("{backend: app, »path: /x}", "unknown key path: it belongs in match"),
        ("{backend: app, »cookie: x}", "unknown key cookie: it belongs in match"),
        ("{close: »yes}", 'expected true, not "yes"; write true'),
        ("{close: »false}", "expected true, not false; leave the key out"),
        ("{respond: »403}", "not the number 403: write {status: 403}"),
        ("{backend: app, retries: »1}", "not the number 1: write {attempts: 1}"),
        ("{backend: app, match: »/x}", 'not "/x": write {path: /x}'),
        ("{redirect: »301}", 'not the number 301: write {to: "https://…", status: 301}'),
        ("{backend: »[app]}", "expected text, not a list: write app"),
        ("{backend: »[app, b]}", "not a list: for several, write split: {canary: 5%, app: 95%}"),
        ("{»timeouts: {response: 5s}}", "timeouts needs backend or split in the same route"),
        ("{backend: app, match: {path: »shop/}}", '(did you mean "/shop/"?)'),
        ("{backend: app, match: {path: »'/a?b=c'}}", "a path has no query"),
        ("{backend: app, match: {path: »'= a'}}", "expected a path prefix"),
        ("{backend: app, match: {path: [/a, »/b c]}}", "expected a path prefix"),
        ("{backend: app, match: »~}", "expected a mapping, not nothing"),
        (
            "{redirect: »www.example.com}",
            "expected a URL or a path beginning with / (did you mean https://www.example.com?)",
        ),
        ("{redirect: »''}", "expected a URL or a path beginning with /"),
        ("{redirect: 'https://safe.example»{path_rest}'}", "clients could choose the host: write / before {path_rest}"),
        ("{redirect: »'{path_rest}'}", "clients could choose the host: write / before {path_rest}"),
        ("{redirect: 'https://{host}»{query}'}", "clients could choose the host: write / before {query}"),
        ("{redirect: 'https://»{hst}/'}", "unknown field {hst} (did you mean host?)"),
        ("{redirect: {to: 'https://»{hst}/'}}", "unknown field {hst} (did you mean host?)"),
        ('{redirect: "/x»\\r\\nSet-Cookie: a=b"}', "a URL cannot contain a line break"),
        ("{redirect: /a» b}", "a URL cannot contain the character ' '"),
        ("{redirect: {to: /, status: »200}}", "must be at least 300"),
        ("{redirect: {to: /, status: »304}}", "304 is not a redirect"),
        ("{redirect: 'https://»{request_id}/'}", "clients could choose the host: write / before {request_id}"),
        ("{redirect: 'https://»{header:X}/'}", "clients could choose the host: write / before {header:X}"),
        (
            "{redirect: 'https://»{t}.example.com/', match: {path: '~ ^/(?<t>[a-z]+)/'}}",
            "clients could choose the host",
        ),
        ("{backend: app, match: {path: '~ »('}}", "not a regular expression: missing ), unterminated subpattern"),
        ("{backend: app, match: {path: '~ »^/a++'}}", "not a regular expression"),
        ("{backend: app, match: {header: {X: '~»(?!a+)b+'}}}", "could take too long"),
        ("{backend: app, match: {header: {X: [a, »{}]}}}", "expected text, ~ and a regular expression, true"),
        ("{backend: app, match: {header: {X: »[]}}}", "expected at least one"),
        ("{backend: app, match: {header: {»'a b': x}}}", "not the name of a header"),
        ("{backend: app, match: {query: »x}}", "expected a mapping of parameters to values"),
        ("{backend: app, match: {method: »get}}", "a method is written in capitals"),
        ("{backend: app, match: {source: »10.0.0.1/8}}", "10.0.0.0/8"),
        ("{rewrite: »new/}", "expected a path beginning with /"),
        ("{rewrite: '/a»#b'}", "a fragment is never sent"),
        ("{rewrite: '/new/»{rest}'}", "unknown field {rest} (did you mean path_rest?)"),
        ("{set_header: {X-A: »'{idd}'}, match: {path: '~ ^/(?<id>x)'}}", "unknown field {idd} (did you mean id?)"),
        ("{set_header: {»Content-Length: '5'}}", "Content-Length is written by the gateway"),
        ("{set_response_header: {»Connection: null}}", "Connection is written by the gateway"),
        ("{set_header: {»X-Request-ID: a}}", "X-Request-ID is written by the gateway"),
        ("{append_response_header: {»x-request-id: a}}", "x-request-id is written by the gateway"),
        ('{set_header: {X-A: "a»\\r\\nb"}}', "a header cannot contain a line break"),
        ("{redirect: »{status: 301}}", "to is missing"),
        ("{redirect: »5}", "expected a mapping, not the number 5"),
        ("{respond: {status: »199}}", "must be at least 200"),
        ("{respond: {status: »600}}", "must be at most 599"),
        ("{respond: {status: 204, »body: x}}", "status 204 has no body"),
        ('{respond: {type: "a»\\nb"}}', "a header cannot contain a line break"),
        ('{respond: {headers: {X-A: "a»\\r\\nb"}}}', "a header cannot contain a line break"),
        ("{respond: {headers: {»Content-Length: '5'}}}", "Content-Length is set by the gateway"),
        ("{respond: {headers: {X-A: »5}}}", "expected text, not the number 5; put it in quotes"),
    ],
)
def test_mistakes_in_routes(refuse: Refuse, route: str, message: str) -> None:
    refuse(with_route(route), message)


def test_http2_needs_its_library(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    text = BASE.replace('"127.0.0.1:80"', '"127.0.0.1:80", http2: »true')
    monkeypatch.setattr(http2_library, "NAME", "libnothing.so.1")
    refuse(text, "libnothing.so.1 is not installed: apt install libnghttp2-14, or leave http2 out")


def test_http2_to_servers_needs_its_library_and_shared_connections(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = BASE.replace("{servers:", "{proxy_protocol: v2, h2: »true, servers:")
    refuse(both, "clients share connections of HTTP/2, and a PROXY header is about one: leave one out")
    monkeypatch.setattr(http2_library, "NAME", "libnothing.so.1")
    text = BASE.replace("{servers:", "{h2: »true, servers:")
    refuse(text, "libnothing.so.1 is not installed: apt install libnghttp2-14, or leave h2 out")


@pytest.mark.parametrize("listen, found", [
    ('":8080"', ["0.0.0.0:8080", "[::]:8080"]),
    ('["127.0.0.1:80", ":81"]', ["127.0.0.1:80", "0.0.0.0:81", "[::]:81"]),
])  # fmt: skip
def test_a_port_alone_is_that_of_every_address(load_text: Load, listen: str, found: list[str]) -> None:
    site = load_text(f"frontends: [{{listen: {listen}}}]\nbackends: {{app: {{servers: ['127.0.0.1:1']}}}}\n").site
    assert [str(item) for item in site.frontends[0].listen] == found
