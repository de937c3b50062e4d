"""gateway test, gateway explain, and tests that are required."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site

BASE = """\
frontends: [{listen: "127.0.0.1:8080"}, {listen: "127.0.0.1:8081", trusted_proxies: [192.0.2.0/24]}]
backends:
  app:
    servers: [{name: a, address: "127.0.0.1:9001"}, {name: b, address: "no.such.host.example:9002"}]
    affinity: {cookie: SRV}
  other: {servers: ["127.0.0.1:9003"]}
routes:
  - match: {host: www.example.com, scheme: http}
    redirect: {to: "https://{host}{uri}", status: 308}
  - match: {path: "~ ^/item/(?<id>[0-9]+)$", when: "load('app') < 0.8"}
    rewrite: "/product?id={id}"
    set_header: {X-Item: "{id}"}
    set_response_header: {Server: null, X-New: "1"}
    class: item
  - match: {when: "time < timestamp('2026-01-02') && time.getHours() >= 22 || up('app') == 0"}
    respond: {status: 503, body: closed}
  - match: {source: 203.0.113.0/24}
    backend: other
  - backend: app
"""


def gateway(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, arguments)
    return done.exit_code, done.output


def run(directory: Path, tests: str, command: str = "test", base: str = BASE) -> tuple[int, list[str]]:
    path = directory / "site.yaml"
    path.write_text(base + tests)
    status, output = gateway(command, str(path))
    return status, output.replace(str(path), "site.yaml").splitlines()


PASS = """\
tests:
  - {request: "GET http://www.example.com/old?x", expect: {status: 308, location: "https://www.example.com/old?x"}}
  - request: GET https://a/item/7?y
    assume: {load: {app: 0.1}, time: "2026-01-01T12:00:00Z"}
    expect:
      {backend: app, class: item, path: /product, query: id=7, request_headers: {X-Item: 7, x-none: false, Via: "~gw$"},
       response_headers: {Server: false, X-New: true}}
  - {request: "GET https://a/", assume: {time: "2026-01-01T23:00:00+01:00"}, expect: {status: 503}}
  - {request: "GET https://a/", assume: {time: "2026-01-01", up: {app: 0}}, expect: {status: 503, response_headers: {Content-Type: ~plain}}}
  - {request: "GET https://a/", assume: {time: "2026-01-01"}, client: 203.0.113.9, expect: {backend: other, query: ""}}
  - request: GET http://a:8081/
    assume: {time: "2026-01-01"}
    headers: {X-Forwarded-For: "203.0.113.9, 192.0.2.7", Host: b}
    expect: {backend: other, request_headers: {Host: b, X-Forwarded-For: "203.0.113.9, 192.0.2.7, 192.0.2.1"}}
  - request: GET http://a:8081/
    assume: {time: "2026-01-01"}
    headers: {X-Forwarded-For: "203.0.113.9, , 192.0.2.7,"}
    expect: {backend: other}
  - {request: "GET http://a/%2e%2e%2fx", expect: {status: 400}}
"""

IDENTIFIED = """\
frontends: [{listen: "127.0.0.1:8080"}]
routes: [{set_response_header: {X-Seen: "{request_id} of {header:X-By}"}, redirect: "/{request_id}"}]
tests:
  - request: GET http://a/
    headers: {X-By: me}
    expect: {location: /00000000000000000000000000000000, response_headers: {X-Seen: 00000000000000000000000000000000 of me}}
"""


def test_expectations_that_come_true(tmp_path: Path) -> None:
    status, output = run(tmp_path, PASS.replace("~gw$", "~^1.1 "))
    assert (status, output) == (0, ["8 tests passed"])


def test_expectations_that_do_not_are_shown_as_a_diff(tmp_path: Path) -> None:
    status, output = run(
        tmp_path,
        """\
tests:
  - {request: "GET http://www.example.com/", expect: {status: 301, location: /, backend: app}}
  - request: GET https://a/
    assume: {time: "2026-01-01"}
    expect: {backend: other, server: a, class: x, path: /y, status: 200, request_headers: {Host: b}, response_headers: {X-New: 1}}
  - {request: "GET https://a/", assume: {time: "2026-01-01"}, expect: {backend: app}}
""",
    )
    assert status == 1
    assert output == [
        "site.yaml:21:5: tests[0] GET http://www.example.com/",
        "  - status: 301",
        "  + status: 308",
        "  - location: /",
        "  + location: https://www.example.com/",
        "  - backend: app",
        "  + backend: none: answered with 308",
        "site.yaml:22:5: tests[1] GET https://a/",
        "  - status: 200",
        "  + status: the server's: backend app",
        "  - backend: other",
        "  + backend: app",
        "  - server: a",
        "  + server: chosen by balance",
        "  - class: x",
        "  + class: none",
        "  - path: /y",
        "  + path: /",
        "  - request_headers Host: b",
        "  + request_headers Host: a",
        "  - response_headers X-New: 1",
        "  + response_headers X-New: as the server sends it",
        "2 of 3 tests failed",
    ]


@pytest.mark.parametrize("learn, seen", [("", ""), (", learn: true", 'request_headers: {Cookie: "x=1; SRV=example"}')])
def test_affinity_fixes_the_server(tmp_path: Path, learn: str, seen: str) -> None:
    path = tmp_path / "site.yaml"
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_bytes(b"0123456789abcdef")
    base = BASE.replace("{cookie: SRV}", f"{{cookie: SRV, key_file: key{learn}}}")
    path.write_text(base)
    _, text = gateway("explain", str(path), "GET", "https://a/", "--json")
    token = json.loads(text)["candidates"][1]["token"]
    status, output = run(tmp_path, f"""\
tests:
  - request: GET https://a/
    assume: {{time: "2026-01-01"}}
    headers: {{Cookie: "x=1; SRV={token}"}}
    expect: {{server: b, {seen}}}
""", base=base)  # fmt: skip
    assert (status, output) == (0, ["1 tests passed"])


@pytest.mark.parametrize("text, message", [
    ('tests: [{request: "GET http://a/", expect: »{}}]', "expects nothing"),
    ('tests: [{request: »"GET /a", expect: {status: 200}}]', "expected a request such as GET https://www.example.com/path"),
    ('tests: [{request: "GET http://a/", expect: {backend: »ap}}]', "there is no backend ap"),
    ('tests: [{request: "GET http://a/", assume: {up: {»ap: 1}}, expect: {status: 200}}]', "there is no backend ap"),
    ('tests: [{request: "GET http://a/", assume: {time: »noon}, expect: {status: 200}}]', "expected a time such as"),
    ('tests: [{request: "GET http://a/", expect: {site: »x}}]', "there is no site x"),
])  # fmt: skip
def test_mistakes_in_tests(tmp_path: Path, text: str, message: str) -> None:
    status, (line,) = run(tmp_path, text.replace("»", ""))
    assert status == 1
    assert line.startswith(f"site.yaml:20:{text.index('»') + 1}: ")
    assert message in line


def test_required_tests_keep_check_from_passing(tmp_path: Path) -> None:
    wrong = 'tests_required: true\ntests: [{request: "GET http://www.example.com/", expect: {status: 301}}]\n'
    (tmp_path / "site.yaml").write_text(BASE.replace("no.such.host.example", "127.0.0.1") + wrong)
    status, text = gateway("check", str(tmp_path / "site.yaml"))
    assert status == 1
    assert text.strip().endswith("site.yaml:21:9: tests[0] fails: status is 308, not 301")


def test_every_request_has_the_same_id(tmp_path: Path) -> None:
    assert run(tmp_path, "", base=IDENTIFIED) == (0, ["1 tests passed"])


def test_a_body_that_is_too_large_is_refused_before_any_route_sees_it(tmp_path: Path) -> None:
    base = """\
frontends: [{listen: "127.0.0.1:8080", limits: {body_bytes: 3}}]
routes: [{respond: {status: 204}}]
tests:
  - {request: "PUT http://a/", headers: {Content-Length: "3"}, expect: {status: 204}}
  - {request: "PUT http://a/", headers: {Content-Length: "4"}, expect: {status: 413}}
"""
    assert run(tmp_path, "", base=base) == (0, ["2 tests passed"])


def test_explain_tells_every_step(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(BASE)
    status, text = gateway("explain", str(path), "GET", "https://a/item/7", "-H", "X-A: b", "--client", "203.0.113.1")
    assert status == 0
    lines = [number for number, line in enumerate(BASE.splitlines(), 1) if line.startswith("  - match")]
    for line in (
        "├─ frontend 127.0.0.1:8080 (127.0.0.1:8080)",
        f"│  {path}:{lines[0]} routes[0] does not match: scheme is https",
        f"│  {path}:{lines[1]} routes[1] does not match: when load('app') < 0.8: unknown: the load of app is unknown",
        "│    X-A: b",
        "│    X-Forwarded-For: 203.0.113.1",
        "├─ backend other: measured",
    ):
        assert line in text.splitlines()
    assert gateway("explain", str(path), "GET", "/x")[0] == 2


@pytest.mark.parametrize("option, value, said", [
    ("--client", "999", 'expected the address of a client such as 192.0.2.1, not "999"'),
    ("-H", "foo", "-H foo: expected NAME:VALUE, such as -H 'Accept: text/html'"),
    ("-H", ":foo", "-H :foo: expected NAME:VALUE"),
    ("--assume", "x", '--assume: expected a mapping, not "x": write {live: 2000, ticket: queued}'),
    ("--assume", "{live: many}", '--assume: live: expected a whole number, not "many"'),
    ("--assume", "{lve: 1}", "--assume: lve: unknown key lve (did you mean live?)"),
])  # fmt: skip
def test_explain_says_what_is_wrong_with_an_option(tmp_path: Path, option: str, value: str, said: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(BASE)
    status, text = gateway("explain", str(path), "GET", "https://a/item/7", option, value)
    assert status == 2
    assert said in " ".join(text.split())


def test_affinity_of_a_request_that_names_no_server(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "frontends: [{listen: '127.0.0.1:80'}]\n"
        "backends: {app: {servers: ['127.0.0.1:1'], affinity: {source: 24}}, web: {servers: ['127.0.0.1:2'], "
        "affinity: {url: SRV}}}\n"
        "routes: [{backend: web}]\n"
    )
    _, text = gateway("explain", str(path), "GET", "http://a/")
    assert "does not decide: the request names no server, or none that can be used" in text


def test_explain_says_that_slashes_are_not_merged(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    note = "has merge_slashes: false: rules see repeated slashes as they are"
    for merged in (True, False):
        path.write_text(BASE.replace("[{listen: ", f"[{{merge_slashes: {str(merged).lower()}, listen: "))
        status, text = gateway("explain", str(path), "GET", "http://a//item/7")
        assert status == 0
        assert (note in text) is not merged
        assert ("192.0.2.1, /item/7" in text) is merged


def test_explain_tells_how_the_class_came_about(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(BASE + "qos: {classes: [{name: staff, match: {source: 10.0.0.0/8}}, {name: rest}]}\n")
    status, text = gateway("explain", str(path), "GET", "http://a/item/7")
    assert status == 0
    lines = text.splitlines()
    assert lines[3:5] == ["├─ class staff does not fit: source 10.0.0.0/8: 192.0.2.1", "├─ class rest fits"]
    assert "├─ its class is rest" in lines


SESSIONS = BASE + (
    "qos: {classes: [{name: staff, match: {source: 10.0.0.0/8}, admit: always}],"
    " sessions: {max: 10, waiting_room: {places: 3}, full: {status: 429}, opens: 2026-06-01T12:00:00Z}}\n"
)


@pytest.mark.parametrize(
    "assume, expect",
    [
        ("{}", "{session: new, backend: app}"),
        ("{live: 10}", "{session: waiting, status: 503}"),
        ("{live: 10, ticket: live}", "{session: live, backend: app}"),
        ("{live: 9, waiting: 1}", "{session: waiting}"),
        ("{live: 9, waiting: 3, ticket: queued}", "{session: new, backend: app}"),
        ("{live: 9, waiting: 3, ticket: queued, place: 2}", "{session: waiting}"),
        ("{live: 10, waiting: 3}", "{session: full, status: 429}"),
        ('{time: "2026-06-01T11:59:59Z"}', "{session: early, status: 503}"),
    ],
)
def test_tests_say_how_a_client_comes_by_a_session(tmp_path: Path, assume: str, expect: str) -> None:
    path = tmp_path / "site.yaml"
    times = "" if "time" in assume else 'time: "2026-07-01T12:00:00Z", '
    assumed = "{" + times + assume[1:]
    path.write_text(
        f"{SESSIONS}tests:\n"
        f"  - {{request: GET http://a/item/7, assume: {assumed}, expect: {expect}}}\n"
        f"  - {{request: GET http://a/item/7, client: 10.1.1.1, assume: {assumed}, expect: {{session: none}}}}\n"
    )
    status, text = gateway("test", str(path))
    assert status == 0, text


ADMISSION = BASE + (
    "qos:\n"
    "  classes:\n"
    "    - {name: staff, match: {source: 10.0.0.0/8}, admit: always}\n"
    "    - {name: banned, match: {source: 203.0.112.0/24}, admit: never}\n"
    "    - {name: counted, match: {source: 10.0.1.0/24}, rate: 5/s, dry_run: true}\n"
    "    - {name: patient, match: {source: 198.51.100.0/24}, rate: 5/s, delay: 2s}\n"
    "    - {name: rest, rate: 5/s, concurrency: 8}\n"
    "  overload: {target_delay: 20ms}\n"
)


@pytest.mark.parametrize(
    "client, assume, expect",
    [
        ("192.0.2.1", "{}", "{admission: go, backend: app}"),
        ("192.0.2.1", "{over: [rest]}", "{admission: rate_limited, status: 429}"),
        ("192.0.2.1", "{over: [patient]}", "{admission: go}"),
        ("198.51.100.1", "{over: [patient]}", "{admission: waits, backend: app}"),
        ("10.1.1.1", "{over: [rest]}", "{admission: go}"),
        ("203.0.112.1", "{}", "{admission: not_admitted, status: 403}"),
        ("192.0.2.1", "{class_in_flight: 8}", "{admission: waits, backend: app}"),
        ("192.0.2.1", "{in_flight: {app: 9}}", "{admission: go}"),
        ("192.0.2.1", "{in_flight: {app: 30}}", "{admission: waits, backend: app}"),
        ("192.0.2.1", "{in_flight: {app: 30}, limit: {app: 31}}", "{admission: go}"),
        ("192.0.2.1", "{in_flight: {app: 30}, queued: {app: 1000}}", "{admission: queue_full, status: 503}"),
        ("192.0.2.1", "{in_flight: {app: 30}, waited: 30ms}", "{admission: waits}"),
        ("192.0.2.1", "{in_flight: {app: 30}, waited: 50ms}", "{admission: shed, status: 503}"),
    ],
)
def test_tests_say_what_admission_would_do(tmp_path: Path, client: str, assume: str, expect: str) -> None:
    path = tmp_path / "site.yaml"
    assumed = '{time: "2026-01-01T12:00:00Z", ' + assume[1:]
    path.write_text(
        f"{ADMISSION}tests: [{{request: GET http://a/x, client: {client}, assume: {assumed}, expect: {expect}}}]\n"
    )
    status, text = gateway("test", str(path))
    assert status == 0, text


def test_explain_uses_the_assumptions(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(ADMISSION)
    ask = ("explain", str(path), "GET", "http://a/x")
    status, text = gateway(*ask, "--assume", "{over: [rest]}")
    assert (status, "answered here with 429" in text) == (0, True), text
    status, text = gateway(*ask, "--assume", "{in_flight: {app: 30}}")
    assert "├─ admission: overload control: 30 of 20 at servers, 0 wait" in text, text
    assert "├─ admission: waits" in text
    status, text = gateway(*ask, "--assume", "{lives: 3}")
    assert status == 2
    assert "Error: --assume: lives" in text
    status, text = gateway(*ask, "--assume", "{queued: {ap: 1}}")
    assert status == 2
    assert "--assume: queued.ap: there is no backend ap (did you mean app?)" in " ".join(text.split())
    status, text = gateway(*ask, "--assume", "{over: [res]}")
    assert status == 2
    assert "--assume: over.0: no class or route has the rate res (did you mean rest?)" in " ".join(text.split())
    status, text = gateway(*ask, "--assume", "{")
    assert status == 2
    assert "--assume: this is not YAML" in text


def test_a_reload_with_failing_tests_is_refused(
    start_gateway: Callable[[Site], GatewayProcess], start_servers: Callable[..., list[BackendServer]]
) -> None:
    description = site(start_servers("app1"))
    description["tests_required"] = True
    description["tests"] = [{"request": "GET http://a/x", "expect": {"backend": "app"}}]
    gateway = start_gateway(description)
    line = gateway.reload({**description, "routes": [{"respond": {"status": 410}}]}, says="tests")
    assert "tests[0] fails: backend is none: answered with 410, not app" in line
    assert "load 2" in gateway.reload(description, says="uses load 2")


def test_a_client_certificate_may_be_assumed(tmp_path: Path) -> None:
    """Where the frontend asks for one, and only over TLS."""
    authority = Authority(tmp_path)
    pair = authority.issue("a.example")
    path = tmp_path / "site.yaml"
    tls = f"tls: {{certificates: [{{cert: {pair.cert}, key: {pair.key}}}]"
    path.write_text(f"""\
frontends:
  - {{listen: "127.0.0.1:8443", {tls}, client_ca: {authority.ca}}}}}
  - {{listen: "127.0.0.1:8444", {tls}}}}}
  - {{listen: "127.0.0.1:8080"}}
backends: {{app: {{servers: ["127.0.0.1:9001"]}}}}
routes: [{{require_client_cert: true, match: {{path: /admin/}}}}, {{backend: app}}]
tests:
  - {{request: "GET https://a:8443/", expect: {{backend: app}}}}
  - {{request: "GET https://a:8443/admin/", expect: {{status: 403}}}}
  - {{request: "GET https://a:8443/admin/", assume: {{client_cert: true}}, expect: {{backend: app}}}}
  - {{request: "GET https://a:8444/admin/", assume: {{client_cert: true}}, expect: {{status: 403}}}}
  - {{request: "GET http://a:8080/admin/", assume: {{client_cert: true}}, expect: {{status: 403}}}}
""")
    assert gateway("test", str(path))[0] == 0
    status, said = gateway("explain", str(path), "GET", "https://a:8443/admin/", "--assume", "{client_cert: true}")
    assert status == 0
    assert "server 127.0.0.1:9001 gets" in said
    without = path.read_text().replace(f", client_ca: {authority.ca}", "").replace("require_client_cert: true, ", "")
    path.write_text(without)
    status, said = gateway("test", str(path))
    assert status != 0
    assert "no frontend asks clients for a certificate" in said
