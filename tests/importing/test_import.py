"""What an import says: of lines without a counterpart, of input that is wrong, and of input that is no configuration."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.sites import no_lookup
from gateway.config import load
from gateway.importing import haproxy, nginx
from gateway.importing.hidden import without_secrets
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
        ("rate-limit sessions 100", "", "rate-limit"),
        ("monitor-uri health", "", "monitor-uri"),
        ("", "http-send-name-header X-Server", "http-send-name-header"),
        ("bind 127.0.0.1:99999", "", "99999"),
        ("", "server b no_such/host:80", "no_such"),
        ("", "server b 127.0.0.1:99999 check", "99999"),
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


def written(tmp_path: Path, name: str, text: str, status: int = 0) -> tuple[dict[str, Any], str]:
    """The site file that the command makes, and what it says."""
    (tmp_path / name).write_text(text)
    site = tmp_path / f"of-{name}" / "site.yaml"
    done = CliRunner().invoke(main, ["import", str(tmp_path / name), "-o", str(site)])
    assert done.exit_code == status, done.output
    return yaml.safe_load(site.read_text()), done.output


@pytest.mark.parametrize(
    "line, servers",
    [
        ("server-template b 3 127.0.0.1:9002 check", ["127.0.0.1:9002", "127.0.0.1:9001"]),
        ("server-template b 3 app.example.com:80", ["dns:app.example.com:80", "127.0.0.1:9001"]),
        ("server b no_such/host:80", ["127.0.0.1:9001"]),
        ("server b 127.0.0.1:0", ["127.0.0.1:9001"]),
        ("option httpchk GET no-path", ["127.0.0.1:9001"]),
        ("timeout connect 99d", ["127.0.0.1:9001"]),
        ("cookie s insert domain no_domain/", ["127.0.0.1:9001"]),
        ("balance hdr(no/header)", ["127.0.0.1:9001"]),
    ],
)
def test_no_line_of_a_backend_ends_the_import(tmp_path, line, servers):
    site, report = written(tmp_path, "haproxy.cfg", HAPROXY.format("", line).replace("9001", "9001 check"))
    assert [server["address"] for server in site["backends"]["app"]["servers"]] == servers
    assert ("approximated" if "template" in line else "not possible") in report
    assert site["routes"] == [{"backend": "app"}]


def test_a_backend_without_a_server_that_is_valid_gets_503(tmp_path):
    text = HAPROXY.format("", "").replace("127.0.0.1:9001", "no_such/host:80")
    site, report = written(tmp_path, "haproxy.cfg", text)
    assert ("backends" in site, site["routes"]) == (False, [{"respond": {"status": 503}}])
    assert "left out, and with it app, whose requests get 503" in report
    site, report = written(tmp_path, "nginx.conf", NGINX.format("", "").replace("127.0.0.1:9001", "no_such/host"))
    assert ("backends" in site, site["routes"][-1]["respond"]) == (False, {"status": 503})


def test_a_site_file_that_is_not_valid_as_a_whole_is_written_and_said(tmp_path):
    """Such as for a backend that has been left out and that an expression asks about."""
    text = (
        HAPROXY.format("use_backend app if { nbsrv(other) gt 0 }", "") + "backend other\n  server b no_such/host:80\n"
    )
    site, said = written(tmp_path, "haproxy.cfg", text, status=1)
    assert "use_backend app" in said
    assert f"{tmp_path / 'of-haproxy.cfg' / 'site.yaml'} is not valid yet; correct it before it is used" in said
    assert site["routes"][-1] == {"backend": "app"}


def test_a_section_that_is_disabled_is_left_out(tmp_path):
    text = HAPROXY.format("", "") + "frontend off\n  bind 127.0.0.1:8081\n  disabled\n  default_backend app\n"
    draft = imported(tmp_path, "haproxy.cfg", text)
    assert [one["name"] for one in draft.frontends] == ["web"]
    assert fates(draft, "bind 127.0.0.1:8081") == ["not possible"]


def test_answers_of_haproxy_itself(tmp_path):
    rules = """monitor-uri /haz
    http-request deny if { path /a } OR { path /b }
    http-request tarpit if { path /t }
    http-request tarpit deny_status 429 if { path /u }
    http-response set-header X-A a
    http-after-response set-header X-B b"""
    draft = imported(tmp_path, "haproxy.cfg", HAPROXY.format(rules, ""))
    assert draft.routes == [
        {"set_response_header": {"X-B": "b"}},
        {"match": {"path": "= /haz"}, "respond": {"status": 200}},
        {"match": {"path": "= /a"}, "respond": {"status": 403}},
        {"match": {"path": "= /b"}, "respond": {"status": 403}},
        {"match": {"path": "= /t"}, "respond": {"status": 500}},
        {"match": {"path": "= /u"}, "respond": {"status": 429}},
        {"set_response_header": {"X-A": "a"}, "backend": "app"},
    ]
    assert fates(draft, "monitor-uri") == ["taken over"]
    assert fates(draft, "tarpit") == fates(draft, "http-after-response") * 2 == ["approximated"] * 2


def test_headers_of_answers_that_nginx_gives_itself(tmp_path):
    text = """events {} http { upstream u { server 127.0.0.1:9001; }
    server { listen 8080; server_name a.com;
        add_header Strict-Transport-Security "max-age=1" always;
        add_header X-Good yes;
        return 301 https://a.com$request_uri; }
    server { listen 8080; server_name b.com;
        add_header Strict-Transport-Security "max-age=1" always;
        add_header X-Good yes;
        if ($request_method = DELETE) { return 405; }
        rewrite ^/o/(.*)$ /n/$1 permanent;
        location / { proxy_pass http://u; }
        location /own/ { proxy_pass http://u; add_header X-Own own; } } }"""
    draft = imported(tmp_path, "nginx.conf", text)
    hsts = {"Strict-Transport-Security": "max-age=1"}
    (own,) = (route for route in draft.routes if route.get("redirect", {}).get("to") == "https://a.com{uri}")
    assert own["append_response_header"] == {**hsts, "X-Good": "yes"}
    (refused,) = (route for route in draft.routes if route.get("respond") == {"status": 405})
    assert refused["append_response_header"] == hsts
    for to, wanted in (("/n/{g1}", {**hsts, "X-Good": "yes"}), ("/own/", {"X-Own": "own"})):
        (redirect,) = (route for route in draft.routes if route.get("redirect", {}).get("to") == to)
        assert redirect["append_response_header"] == wanted
    assert fates(draft, "add_header Strict-Transport-Security") == ["approximated"] * 2
    assert fates(draft, "add_header X-Good") == fates(draft, "rewrite") * 2 == ["taken over"] * 2
    notes = {note for line, entry in draft.report.entries.items() if "always" in line.text for note in entry.notes}
    assert notes == {"not for the gateway's own error pages, such as 401 and 413"}


@pytest.mark.parametrize(
    "lines, condition, expression",
    [
        ("default 0; ~*bot 1;", "$is_bot", '{0} != "" && {0} != "0"'),
        ("~*bot 1;", "$is_bot = 1", '{0} == "1"'),
        ("default no; ~*bot yes;", "$is_bot != no", '{0} != "no"'),
    ],
)
def test_a_condition_on_a_map_of_nginx(tmp_path, lines, condition, expression):
    http = f"map $http_user_agent $is_bot {{ {lines} }}"
    draft = imported(tmp_path, "nginx.conf", NGINX.format(http, f"if ({condition}) {{ return 403; }}"))
    when = expression.format('map("is_bot", headers["User-Agent"])')
    assert draft.routes[0] == {"match": {"when": when}, "respond": {"status": 403}}


def test_maps_that_nothing_uses_are_not_written(tmp_path):
    (tmp_path / "m.map").write_text("/a b\n")
    rule = "use_backend app if { path,map(m.map) -m str b }\n    http-request redirect location /%[path,map(m.map)]%[path,lower]"
    draft = imported(tmp_path, "haproxy.cfg", HAPROXY.format(rule, ""))
    assert (draft.maps, draft.files) == ({}, {})
    draft = imported(tmp_path, "nginx.conf", NGINX.format("map $host $unused { default a; b.com c; }", ""))
    assert (draft.maps, draft.files) == ({}, {})
    assert fates(draft, "map $host") == ["not needed"]


SECRETS = {
    "haproxy.cfg": HAPROXY.format(
        """stats auth admin:hunter2
    acl known req.hdr(x-api-key) -m str hunter2
    http-request set-header Authorization "Basic hunter2" if { hdr(x-token) hunter2 } known
    http-request deny unless { url_param(secret) -m beg hunter2 }""",
        "option httpchk GET / HTTP/1.1\\r\\nAuthorization:\\ Basic\\ hunter2",
    )
    + "userlist u\n  user anna insecure-password hunter2\n  user bob password $6$hunter2\n",
    "nginx.conf": NGINX.format(
        """
        map $http_authorization $known { default 0; "Bearer hunter2" 1; }""",
        """
        set $api_key hunter2;
        if ($arg_token != "hunter2") { return 403; }
        secure_link_md5 "$uri hunter2";
        location /a { proxy_pass http://user:hunter2@app; proxy_set_header Authorization "Basic hunter2"; }
        location /b { return 302 http://b.com/?token=hunter2; }""",
    ),
}


@pytest.mark.parametrize("name", list(SECRETS))
def test_no_secret_is_in_a_report(tmp_path, name):
    _, report = written(tmp_path, name, SECRETS[name], status=0 if name.startswith("h") else 3)
    assert "hunter2" not in report
    assert report.count("***") >= SECRETS[name].count("hunter2") - 1


@pytest.mark.parametrize(
    "words",
    [
        "server token-a 127.0.0.1:1 check weight 7",
        "bind :443 ssl crt secret.pem verify required",
        "acl has_token path_beg /t",
        "use_backend token-app if has_token other",
        "proxy_set_header X-Auth-User $remote_user",
        "http-request set-header X-Api-Key %[req.hdr(x-key)] if known",
        "auth_basic_user_file /etc/token_users",
        "proxy_set_header Authorization",
    ],
)
def test_what_is_no_secret_is_shown(words):
    assert without_secrets(words.split()) == words


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
        ("haproxy.cfg", "defaults\n  mode http\nfrontend a\n", "nothing to listen on"),
        ("haproxy.cfg", "defaults\n  mode http\nfrontend a\n  bind :99999\n", "haproxy.cfg:4: a port is between 1 and"),
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
