"""What an import says: of lines without a counterpart, of input that is wrong, and of input that is no configuration."""

import random
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.sites import no_lookup
from gateway.config import load
from gateway.importing import haproxy, nginx
from gateway.importing.report import BadInput
from gateway.importing.trials import trials
from gateway.importing.valid import prune
from gateway.importing.writer import site_text, write

CASES = Path(__file__).parent / "cases"
HAPROXY = """\
defaults
    mode http
frontend web
    bind 127.0.0.1:8080
    {0}
    default_backend app
backend app
    {1}
    server a 127.0.0.1:9001
"""
NGINX = "http {{ {0} upstream app {{ server 127.0.0.1:9001; }} server {{ listen 127.0.0.1:8080; {1} location / {{ proxy_pass http://app; }} }} }}"


def imported(tmp_path: Path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    draft = nginx.draft_of(path) if name.startswith("nginx") else haproxy.draft_of(path)
    prune(draft)
    return draft


def fates(draft, words: str) -> list[str]:
    return [entry.fate for line, entry in draft.report.entries.items() if words in line.text]


@pytest.mark.parametrize(
    "frontend, backend, words",
    [
        ("compression algo gzip", "", "compression"),
        ("http-request set-var(txn.a) path", "", "set-var"),
        ("http-request deny if { rand(100) lt 5 }", "", "rand"),
        ("http-request deny if HTTP_1.0", "", "HTTP_1.0"),
        ("http-request deny unless { hdr(x-key,1) good }", "", "hdr(x-key,1)"),
        ("use_backend none if TRUE", "", "use_backend"),
        ("", "server b 127.0.0.1:9002 disabled", "disabled"),
        ("", "balance first", "balance"),
        ("http-request replace-path ^/(?=x)(a*)*$ /\\1", "", "replace-path"),
        ("stick-table type string size 1k store gpc0", "", "stick-table"),
        ("bind 127.0.0.1:8000-8010", "", "8000-8010"),
    ],
)
def test_lines_of_haproxy_without_a_counterpart_are_named(tmp_path, frontend, backend, words):
    draft = imported(tmp_path, "haproxy.cfg", HAPROXY.format(frontend, backend))
    assert fates(draft, words) == ["not possible"]
    (entry,) = (entry for line, entry in draft.report.entries.items() if words in line.text)
    assert all(len(note) > 15 for note in entry.notes)
    assert draft.routes[-1] == {"backend": "app"}


STATISTICS = """defaults
    mode http
    option httplog
    timeout connect 5s
frontend web
    bind 127.0.0.1:8080
    http-request track-sc1 src table counts
    http-request deny if { sc_http_req_rate(1) gt 100 }
    default_backend app
backend counts
    stick-table type ip size 1k store http_req_rate(10s)
backend app
    server a 127.0.0.1:9001
listen statistics
    bind :8404
    stats enable
listen database
    mode tcp
    bind 127.0.0.1:3306
    server db 127.0.0.1:3307
"""


def test_a_section_of_tcp_does_not_take_the_defaults_of_others_away(tmp_path):
    draft = imported(tmp_path, "haproxy.cfg", STATISTICS)
    assert fates(draft, "timeout connect") == ["taken over"]
    assert fates(draft, "option httplog") == ["not needed"]
    assert fates(draft, "server db") == ["not possible"]


@pytest.mark.parametrize(
    "name, text, refusing",
    [
        ("haproxy.cfg", HAPROXY.format("http-request deny if { rand(100) lt 5 }", ""), 5),
        ("haproxy.cfg", HAPROXY.format("compression algo gzip", ""), None),
        ("nginx.conf", NGINX.format("", "\nauth_request /auth;\n"), 2),
    ],
)
def test_refusals_that_are_left_out_are_said_in_the_end_and_by_the_exit_status(tmp_path, name, text, refusing):
    (tmp_path / name).write_text(text)
    done = CliRunner().invoke(main, ["import", str(tmp_path / name), "-o", str(tmp_path / "site.yaml")])
    if refusing is None:
        assert (done.exit_code, "admits requests" in done.output) == (0, False)
    else:
        assert done.exit_code == 3
        assert f"before it is used: {tmp_path / name}:{refusing}\n" in done.output


def test_a_listener_for_statistics_alone_is_none_here(tmp_path):
    draft = imported(tmp_path, "haproxy.cfg", STATISTICS)
    assert [frontend["listen"] for frontend in draft.frontends] == [["127.0.0.1:8080"]]
    assert fates(draft, "bind :8404") == ["not needed"]


def test_a_rate_is_of_the_table_that_its_counter_tracks(tmp_path):
    draft = imported(tmp_path, "haproxy.cfg", STATISTICS)
    assert {"rate": "10/s", "burst": 100, "per": "source"} in draft.routes


def test_routes_behind_a_redirect_to_https_are_tested_there(tmp_path):
    secure = HAPROXY.format("bind 127.0.0.1:8443 ssl crt c.pem\n    redirect scheme https if !{ ssl_fc }", "")
    (tmp_path / "haproxy.cfg").write_text(secure)
    done = CliRunner().invoke(
        main, ["import", str(tmp_path / "haproxy.cfg"), "-o", str(tmp_path / "site.yaml")], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    tests = yaml.safe_load((tmp_path / "site.yaml").read_text())["tests"]
    assert {"request": "GET https://www.example.com:8443/", "expect": {"backend": "app"}} in tests


@pytest.mark.parametrize(
    "http, server, words",
    [
        ("gzip on;", "", "gzip"),
        ("", "location /f/ { root /var/www; }", "root"),
        ("", "location /c/ { proxy_pass http://app; proxy_cache zone; }", "proxy_cache"),
        ("", "location /v/ { proxy_pass http://$http_x; }", "proxy_pass http://$http_x"),
        ("", "if (-f $request_filename) { return 403; }", "if -f"),
        ("", "if ($http_x_a = $http_x_b) { return 403; }", "if $http_x_a"),
        ("", 'if ($args ~ "(^|&)a=b") { return 403; }', "if $args"),
        ("", "location ~ ^/(?!x)(a*)*$ { proxy_pass http://app; }", "location ~"),
        ("", "auth_request /auth;", "auth_request"),
        ("", "error_page 502 /nowhere.html;", "error_page"),
    ],
)
def test_directives_of_nginx_without_a_counterpart_are_named(tmp_path, http, server, words):
    draft = imported(tmp_path, "nginx.conf", NGINX.format(http, server))
    assert "not possible" in fates(draft, words)
    assert draft.routes[-1]["backend"] == "app"


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("haproxy.cfg", "", "there is no frontend"),
        ("haproxy.cfg", "bind *:80\n", "haproxy.cfg:1: expected a section"),
        ("haproxy.cfg", 'frontend a\n  bind "*:80\n', 'haproxy.cfg:2: the quote " is not closed'),
        ("haproxy.cfg", "global\n.if defined(X)\n", "haproxy.cfg:2: .if cannot be imported"),
        ("haproxy.cfg", "frontend\n", "haproxy.cfg:1: a section frontend needs a name"),
        ("haproxy.cfg", "frontend a\0\n", "haproxy.cfg:1: has a zero byte"),
        ("haproxy.cfg", HAPROXY.format("", "server b no_such/host:80"), "haproxy.cfg:7: app: "),
        ("haproxy.cfg", "defaults\n  mode http\nfrontend a\n", "nothing to listen on"),
        ("nginx.conf", "http { server { listen 80; }", 'nginx.conf:1: unexpected end of file, expecting "}"'),
        ("nginx.conf", "http {\n server {\n listen;\n }\n}\n", 'nginx.conf:3: invalid number of arguments in "listen"'),
        ("nginx.conf", "events { }\n", "this file has no server block"),
        ("nginx.conf", "events { }\ninclude nginx.conf;\n", "nginx.conf:2: "),
        ("nginx.conf", "location / { " * 2000 + "}" * 2000, "nginx.conf: has too many blocks in blocks"),
        ("nginx.conf", "include nginx*;\n", "nginx.conf includes itself"),
        ("nginx.conf", "include /dev/zero;\n", "nginx.conf:1: /dev/zero is no file"),
    ],
)
def test_wrong_input_is_one_error_with_its_line(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    done = CliRunner().invoke(main, ["import", str(path), "-o", str(tmp_path / "site.yaml")])
    assert done.exit_code == 1
    assert said in done.output
    assert len(done.output.splitlines()) == 1
    assert not (tmp_path / "site.yaml").exists()


def test_a_file_that_is_not_there(tmp_path):
    done = CliRunner().invoke(main, ["import", str(tmp_path / "haproxy.cfg")])
    assert (done.exit_code, "cannot be read: no such file" in done.output) == (1, True)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format("", ""))
    (tmp_path / "site.yaml").write_text("mine")
    done = CliRunner().invoke(main, ["import", str(tmp_path / "haproxy.cfg"), "-o", str(tmp_path / "site.yaml")])
    assert (done.exit_code, "exists, and is not overwritten" in done.output) == (1, True)
    assert (tmp_path / "site.yaml").read_text() == "mine"


def test_the_report_has_every_line_and_the_file_its_tests(tmp_path):
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format("http-request deny if { path /x }", "cookie S insert"))
    site = tmp_path / "site.yaml"
    done = CliRunner().invoke(main, ["import", str(tmp_path / "haproxy.cfg"), "-o", str(site)])
    assert f"{tmp_path}/haproxy.cfg:5: taken over: http-request deny if {{ path /x }}\n" in done.output
    assert f"{tmp_path}/haproxy.cfg:8: approximated: cookie S insert\n    the cookie is signed" in done.output
    assert yaml.safe_load(site.read_text())["tests"] == [
        {"request": "GET http://www.example.com:8080/x", "expect": {"status": 403}},
        {"request": "GET http://www.example.com:8080/", "expect": {"backend": "app"}},
    ]


def test_what_a_file_is_of_is_seen(tmp_path):
    path = tmp_path / "site.conf"
    path.write_text("# a site\nserver {\n  listen 80;\n}\n")
    assert nginx.looks_like(path)
    path.write_text("global\n  daemon\nfrontend a\n  bind :80\n")
    assert not nginx.looks_like(path)


@pytest.mark.parametrize("path", sorted(CASES.glob("*.c*f*")), ids=lambda path: path.name)
def test_no_broken_line_ends_in_an_exception(tmp_path, path):
    """Words that are lost, doubled or out of order: an import takes the rest, or says what is wrong."""
    draw = random.Random(path.name)
    for name in ("plans.map", "backends.map"):
        (tmp_path / name).write_text("acme.customers.example.com blog\n")
    (tmp_path / "users").write_text("anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
    text = path.read_text().replace("@dir@", str(tmp_path)).replace("@port@", "8080").replace("@tls@", "8443")
    lines = re.sub(r"@(\w)(\d)@", lambda found: f"9{ord(found[1]) - 90:02}{found[2]}", text).splitlines()
    target = tmp_path / path.name
    taken = 0
    for number in range(15):
        broken = list(lines)
        at = draw.randrange(len(broken))
        words = broken[at].split(" ")
        where = draw.randrange(len(words))
        words[where : where + 1] = draw.choice([[], [words[where]] * 2, ["x"], ["-1"], ["{"], ["if"], ["$x"], ["%[x]"]])
        broken[at] = " ".join(words)
        target.write_text("\n".join(broken))
        try:
            draft = (nginx if path.suffix == ".conf" else haproxy).draft_of(target)
            prune(draft)
        except BadInput:
            continue
        site = tmp_path / str(number) / "site.yaml"
        write(draft, site_text(draft, trials(draft.site())), site)
        load(site, no_lookup, offline=True)
        taken += 1
    assert taken > 5


def test_what_nginx_includes(tmp_path):
    (tmp_path / "conf.d").mkdir()
    http = "include conf.d/*.conf; include mime.types; include /no/such/place/*.conf; ssl_certificate a.crt; ssl_certificate_key a.key;"
    draft = imported(tmp_path, "nginx.conf", NGINX.format(http, "listen 127.0.0.1:8443 ssl;"))
    assert fates(draft, "conf.d") == ["not needed"]
    assert fates(draft, "mime.types") == ["not needed"]
    assert fates(draft, "/no/such/place") == ["not possible"]
    tls = next(one["tls"] for one in draft.frontends if "tls" in one)
    assert tls["certificates"] == [{"cert": f"{tmp_path}/a.crt", "key": f"{tmp_path}/a.key"}]


def test_no_name_leads_out_of_the_directory(tmp_path):
    text = "userlist ../../x\n  user a password $6$b$c\n" + HAPROXY.format(
        "http-request auth if !{ http_auth(../../x) }", ""
    )
    draft = imported(tmp_path, "haproxy.cfg", text)
    assert list(draft.files) == ["users-..-..-x"]
    assert draft.routes[0]["basic_auth"] == {"file": "users-..-..-x"}


def test_timeouts_of_a_location_are_those_of_its_route(tmp_path):
    other = "location /slow/ { proxy_pass http://app; proxy_read_timeout 5m; proxy_next_upstream off; }"
    draft = imported(tmp_path, "nginx.conf", NGINX.format("", other))
    (slow,) = (route for route in draft.routes if route.get("match") == {"path": "/slow/"})
    assert slow["timeouts"] == {"response": "5m", "tunnel": "5m"}
    assert slow["retries"] == {"attempts": 0}
    assert list(draft.backends) == ["app"]


def test_servers_that_speak_http2(tmp_path):
    grpc = "location /shop.Orders/ { grpc_pass grpc://app; grpc_set_header X-From gateway; }"
    draft = imported(tmp_path, "nginx.conf", NGINX.format("", grpc))
    assert [backend.get("h2", False) for backend in draft.backends.values()] == [True, False]
    (route,) = (route for route in draft.routes if route.get("match") == {"path": "/shop.Orders/"})
    assert (route["set_header"], route["backend"]) == ({"Host": "app", "X-From": "gateway"}, "app")
    assert fates(draft, "grpc_") == ["taken over", "taken over"]
    draft = imported(tmp_path, "haproxy.cfg", HAPROXY.format("", "default-server proto h2"))
    assert draft.backends["app"]["h2"] is True
