from pathlib import Path

import pytest

from tests.config.conftest import BASE, Load, Refuse


@pytest.mark.parametrize(
    "text, messages",
    [
        ("»{}", ["frontends is missing", "routes is missing, and there is no backend"]),
        (
            "»backends: {a: {servers: ['1.2.3.4:5']}}",
            ["frontends is missing: there is no address to listen on"],
        ),
        ("frontends: »[]\nbackends: {a: {servers: ['1.2.3.4:5']}}", ["frontends is missing"]),
        (
            "»frontends: [{listen: '127.0.0.1:80'}]\nbackends: {a: &a {servers: ['1.2.3.4:5']}, b: *a}",
            ["routes is missing, and there are 2 backends to send everything to"],
        ),
    ],
)
def test_gaps(refuse: Refuse, text: str, messages: list[str]) -> None:
    refuse(text.replace("»", "»" * len(messages)), *messages)


def test_a_site_may_only_redirect(load_text: Load) -> None:
    text = "frontends: [{listen: '127.0.0.1:80'}]\nroutes: [{redirect: 'https://{host}{uri}'}]\n"
    assert load_text(text).site.backends == {}


def test_classes(refuse: Refuse, load_text: Load) -> None:
    refuse(
        BASE + "qos: {classes: [{name: a, match: {»class: b}}, {name: c, match: {when: up(»'ap') > 1}}, "
        "{name: d, match: {»pth: /}}, {name: »c}]}\n",
        "requests have no class yet when classes are assigned",
        "there is no backend ap",
        "unknown key pth (did you mean path?)",
        "the class c is there twice",
    )
    routes = "routes: [{match: {class: staf}, respond: {}}, {backend: app}]\n"
    text = BASE + routes + "qos: {classes: [{name: staff}, {name: other}]}\n"
    assert [warning.message for warning in load_text(text).warnings] == [
        "nothing gives a request the class staf (did you mean staff?)",
        "never given: class staff before it matches everything",
    ]


def test_duplicates_are_reported(refuse: Refuse) -> None:
    refuse(
        "frontends:\n"
        "  - {name: a, listen: ['127.0.0.1:80', '[::1]:80']}\n"
        "  - {name: »a, listen: ['127.0.0.1:81', »'[0:0::1]:80']}\n"
        "backends:\n"
        "  app: {servers: ['1.2.3.4:5', »'1.2.3.4:5', {name: »'1.2.3.4:5', address: '1.2.3.4:6'}]}\n"
        "  other: {servers: ['1.2.3.4:5']}\n"
        "routes: [{match: {path: /a}, backend: app}, {backend: other}]\n",
        "the frontend name a is used twice",
        "[::1]:80 is listened on twice",
        "the server name 1.2.3.4:5 is used twice",
        "the server name 1.2.3.4:5 is used twice",
    )


def test_a_test_can_only_exhaust_rates_that_there_are(refuse: Refuse) -> None:
    refuse(
        "frontends: [{listen: '127.0.0.1:80'}]\n"
        "qos: {classes: [{name: slow, rate: 5/s}, {name: free}]}\n"
        "routes: [{respond: {status: 200}}, {rate: 1/s, respond: {status: 200}, match: {path: /a}}]\n"
        "tests:\n"
        "  - {request: GET http://a/, assume: {over: [slow, route-1]}, expect: {status: 200}}\n"
        "  - {request: GET http://a/, assume: {over: [»free, »route-0, »slo]}, expect: {status: 200}}\n",
        "no class or route has the rate free",
        "no class or route has the rate route-0 (did you mean route-1?)",
        "no class or route has the rate slo (did you mean slow?)",
    )


def test_a_test_has_the_address_of_a_client(refuse: Refuse) -> None:
    refuse(
        BASE + "tests: [{request: GET http://a/, client: »foo, expect: {backend: app}}]\n",
        'expected the address of a client such as 192.0.2.1, not "foo"',
    )


def test_state_is_a_directory(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    refuse(BASE + "state: »state\n", "/state is a file: name a directory, which is made if it is not there")


def test_a_mistake_elsewhere_hides_no_other(refuse: Refuse) -> None:
    refuse(
        "frontends:\n"
        "  - {listen: »5}\n"
        "  - {listen: '127.0.0.1:80'}\n"
        "  - {listen: »'127.0.0.1:80', »zzz: true}\n"
        "backends:\n"
        "  app: {servers: ['1.2.3.4:5', »'1.2.3.4:5'], check: {http: »x}}\n"
        "  bad: {servers: »[]}\n"
        "  lost: {servers: [»'no.such.name:5'], balance: »x}\n"
        "routes:\n"
        "  - »{}\n"
        "  - {backend: »ap, match: {path: »x}}\n"
        "  - {backend: bad}\n"
        "pages: {»1: x, 502: »none.html}\n",
        "expected address:port",
        "127.0.0.1:80 is listened on twice",
        "unknown key zzz",
        "is used twice",
        "expected a path",
        "expected at least one",
        "cannot resolve no.such.name",
        "expected one of",
        "a route needs one of",
        "there is no backend ap",
        "expected a path prefix",
        "must be at least 400",
        "none.html: no such file or directory",
    )


@pytest.mark.parametrize(
    "routes, warning",
    [
        (
            "[{backend: app}, »{match: {path: /a}, respond: {}}]",
            "never reached: the route before it matches everything",
        ),
        (
            "[{match: {path: /}, backend: app}, »{respond: {}}, {respond: {}}]",
            "never reached, nor is the one after it: the route",
        ),
        (
            "[{match: {path: /a}, backend: app}, »{match: {path: /a}, respond: {}}, {backend: app}]",
            "site.yaml:3, matches the same requests",
        ),
    ],
)
def test_routes_out_of_reach(load_text: Load, routes: str, warning: str) -> None:
    loaded = load_text(f"{BASE}routes: {routes.replace('»', '')}\n")
    (problem,) = loaded.warnings
    assert warning in problem.message
    assert (problem.line, problem.column) == (3, 9 + routes.index("»"))
    assert problem.severity == "warning"
    assert str(problem) == f"{loaded.path}:3:{problem.column}: warning: {problem.message}"


@pytest.mark.parametrize("match", ["scheme: http", "host: a.com", "path: /a", "path: '= /'", "host: a.com, path: /"])
def test_a_route_with_a_condition_leaves_something_over(load_text: Load, match: str) -> None:
    assert load_text(f"{BASE}routes: [{{match: {{{match}}}, backend: app}}, {{backend: app}}]\n").warnings == ()


def test_a_backend_without_a_route(load_text: Load) -> None:
    (problem,) = load_text(f"{BASE}routes: [{{respond: {{}}}}]\n").warnings
    assert (problem.line, problem.column) == (2, 12)
    assert "no route leads to backend app" in problem.message


SITES = (
    "sites: {self: mel, listen: '127.0.0.1:7946', key_file: none, peers: {syd: {url: 'https://s', report: 'h:1'}, "
    "mel: {url: 'https://m', report: 'h:2'}}}\n"
)


def test_sites_that_are_not_there(refuse: Refuse) -> None:
    routes = (
        "routes: [{site: »sid}, {site: auto}, {site: mel}, {match: {when: 'site_load(»\"bergen\") > 0.5'}, respond: {}}, "
        "{backend: app}]\n"
    )
    refuse(
        BASE + routes + SITES.replace("none", "»none"),
        "there is no site sid (did you mean syd?)",
        "there is no site bergen",
        "cannot read",
    )
    refuse(BASE + "routes: [{site: »auto}, {backend: app}]\n", "there are no other sites: `sites:` is missing")
    refuse(
        BASE + "routes: [{site: auto}, {backend: app}]\n" + SITES.replace("'https://s'", "»'s'"),
        "expected scheme and host such as https://syd.example.com",
    )
    refuse(
        BASE + SITES.replace("syd:", "»auto:"),
        "auto has a meaning in routes: no site can have this name",
    )
    refuse(
        BASE + SITES.replace("peers: ", "peers: »").replace("syd: {url: 'https://s', report: 'h:1'}, ", ""),
        "expected at least one",
    )


def test_gateways_that_would_each_sign_with_a_key_of_their_own(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "k").touch(mode=0o600)
    (tmp_path / "k").write_bytes(b"0123456789abcdef")
    text = (
        'frontends: [{listen: "127.0.0.1:80"}]\n'
        "backends: {app: {servers: ['127.0.0.1:1'], affinity: {cookie: S%s}}}\n"
        "load_reports: {listen: '127.0.0.1:2', key_file: k}\n"
    )
    (problem,) = load_text(text % "").warnings
    assert "each gateway signs this cookie with a key of its own" in problem.message
    assert problem.line == 2
    assert load_text(text % ", key_file: k").warnings == ()
    assert load_text(text % "" + "node: a\ncluster: {key_file: k, nodes: {a: 10.0.0.1}}\n").warnings == ()


def test_paths_that_no_request_has(refuse: Refuse, load_text: Load) -> None:
    routes = "routes: [{match: {path: »//admin/}, respond: {}}, {match: {path: [/a, »= /x%2fy]}, respond: {}}, {backend: app}]\n"
    refuse(
        BASE + routes,
        "no path is like this, runs of slashes become one: write /admin/, or say merge_slashes: false on a frontend",
        "no path is like this, encoded slashes are refused: say encoded_slashes: true on a frontend",
    )
    other = BASE.replace('"127.0.0.1:80"', '"127.0.0.1:80", merge_slashes: false, encoded_slashes: true')
    assert len(load_text(other + routes.replace("»", "")).site.routes) == 3
    dots = ", ".join(f"»{path}" for path in ("/a/../b", "= /a/..", "= /a/b/.", "/a/%2E/b", "/../../a/.", "//a/./b"))
    refuse(
        BASE + f"routes: [{{match: {{path: [{dots}]}}, backend: app}}]\n",
        *("dot segments are resolved in requests: write /b", "write = /", "write = /a/b/", "write /a/b", "write /a/."),
        "runs of slashes become one: write /a/b, or say",
    )
    hidden = "routes: [{match: {path: [/., /a/.., /.git/, = /a..b/.c]}, respond: {}}, {backend: app}]\n"
    assert len(load_text(BASE + hidden).site.routes) == 2


def test_a_frontend_without_a_name_is_none_that_is_meant(refuse: Refuse) -> None:
    refuse(
        BASE + "routes: [{match: {frontend: »nope}, backend: app}]\n",
        "there is no frontend nope: write name: nope at the one that is meant",
    )


def test_client_from_needs_proxies(refuse: Refuse) -> None:
    refuse(
        BASE.replace('"127.0.0.1:80"', '"127.0.0.1:80", »client_from: X-Real-IP'),
        "clients could claim any address: name the proxies in trusted_proxies",
    )
