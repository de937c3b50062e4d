"""What users of other proxies try first is answered with what it is called here."""

from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from gateway.config.foreign import HERE, PLACED, said_of
from tests.config.conftest import BASE, Load, Refuse, no_names, with_route


@pytest.mark.parametrize("text, message", [
    (f"»mode: http\n{BASE}", "mode is not needed: every frontend speaks HTTP"),
    (f"»upstreams: {{}}\n{BASE}", "upstreams is called backends here"),
    ('frontends: [{listen: "127.0.0.1:80", »rate_limit: 5}]\nbackends: {app: {servers: ["127.0.0.1:1"]}}\n',
     "rate_limit is called rate here"),
    ('frontends: [{listen: "127.0.0.1:80"}]\nbackends: {app: {servers: [{address: "127.0.0.1:1", »disabled: true}]}}\n',
     "disabled is not supported: take the server out"),
    (with_route("{»cache: true, backend: app}"), "cache is not supported"),
    (with_route("{»mirror: x, backend: app}"), "mirror is not supported"),
    (with_route("{»proxy_pass: app}").replace("{»", "{backend: app, »"), "proxy_pass is called backend here"),
    (with_route("{match: {»server_name: a}, backend: app}"), "server_name is called host here, in match"),
    (with_route("{match: {not: {»methods: GET}}, backend: app}"), "methods is called method here, in match"),
    (with_route("{match: {»sorce: 10.0.0.0/8}, backend: app}"), "unknown key sorce (did you mean source?)"),
    (with_route("{match: {any: [{»sorce: 10.0.0.0/8}]}, backend: app}"), "unknown key sorce (did you mean source?)"),
])  # fmt: skip
def test_words_of_others(refuse: Refuse, text: str, message: str) -> None:
    refuse(text, message)


def test_every_foreign_key_has_a_suggestion() -> None:
    for word, said in HERE.items():
        assert said_of(word) == f"{word} {said}"
        assert said.startswith(("is ", "does not exist here", "belongs in "))
    for mapping, words in PLACED.items():
        for word, said in words.items():
            assert said_of(word, mapping) == f"{word} {said}"
    assert said_of("send-proxy")
    assert said_of("nothing-like-it") is None


@pytest.mark.parametrize("route, message", [
    ('{match: {path: »"/a/*"}, backend: app}', 'a path is the beginning of what it matches: write "/a/"'),
    ('{match: {path: »"/a/*/b"}, backend: app}', 'write "~ ^/a/[^/]*/b"'),
    ('{match: {path: »"^/a/.*"}, backend: app}', 'this looks like a regular expression: write "~ ^/a/.*"'),
    ("{match: {path: »'/a/\\d+'}, backend: app}", r'this looks like a regular expression: write "~ /a/\d+"'),
    ('{match: {path: »"/(a|b)/"}, backend: app}', 'this looks like a regular expression: write "~ /(a|b)/"'),
    ('{match: {path: »"!~ ^/a"}, backend: app}', "write the path in not"),
    ('{rewrite: »"/y/$1", backend: app}', "$1 stands for itself here: name the group in the pattern, (?<name>…)"),
    ('{rewrite: "/y»/\\\\1", backend: app}', "\\1 stands for itself here"),
    ('{redirect: {to: »"https://$host/x"}}', "$host stands for itself here: write {host}"),
    ('{redirect: {to: »"https://a%{REQUEST_URI}"}}', "%{REQUEST_URI} stands for itself here: write {uri}"),
    ('{set_header: {X-A: »"$http_user_agent"}, backend: app}', "write {header:user-agent}"),
    ('{set_header: {X-A: »"%[src]"}, backend: app}', "%[src] stands for itself here: write {client}"),
    ("{match: {method: »GETT}, backend: app}", "there is no method GETT (did you mean GET?)"),
    ("{match: {method: [GET, »PSOT]}, backend: app}", "there is no method PSOT (did you mean POST?)"),
    ('{match: {header: {A: »"!~("}}, backend: app}', "not a regular expression"),
    ('{respond: {headers: {A: »"{clint}"}}}', "unknown field {clint} (did you mean client?)"),
])  # fmt: skip
def test_keys_with_another_meaning_elsewhere(load_text: Load, route: str, message: str) -> None:
    text = with_route(route.replace("»", ""))
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    (problem,) = caught.value.problems
    assert message in problem.message
    place = with_route(route).split("\n")[problem.line - 1].index("»")
    assert problem.column >= place + 1


BACKENDS = "backends: {app: {servers: ["


@pytest.mark.parametrize("text, message", [
    ('frontends: [{listen: »"*:80"}]\n', '(did you mean ":80"?)'),
    ("frontends: [{listen: »80}]\n", '(did you mean ":80"?)'),
    ('frontends: [{listen: »"443 ssl"}]\n', "an address has no blanks"),
    ('frontends: [{listen: "127.0.0.1:80", tls: {»cert: a.pem}}]\n', "cert: it belongs in certificates"),
    ('frontends: [{listen: "127.0.0.1:80", tls: »auto}]\n', "write {certificates: [{cert: site.pem"),
    ('frontends: [{listen: "127.0.0.1:80", trusted_proxies: »10.0.0.0/8}]\n', "write [10.0.0.0/8]"),
    ('frontends: [{listen: "127.0.0.1:80", limits: {connections: »10_000}}]\n', "write 10000"),
    ('frontends: [{listen: "127.0.0.1:»{$PORT}"}]\n', "write ${PORT} for an environment variable"),
    ('frontends: [{listen: "127.0.0.1:80"}]\naccess_log: »/var/log/a.log combined\n',
     "write {path: /var/log/a.log, format: combined}"),
])  # fmt: skip
def test_mistakes_in_frontends(refuse: Refuse, text: str, message: str) -> None:
    refuse(f'{text}{BACKENDS}"127.0.0.1:1"]}}}}\n', message)


@pytest.mark.parametrize("text, message", [
    ('»"10.0.0.1:80 weight=5"]', "an address has no blanks"),
    ("{address: 10.0.0.1:80, »check: true}]", "check: it belongs in a backend"),
    ('"10.0.0.1:80"], check: »true', "write {http: /healthz}"),
    ('"10.0.0.1:80"], check: {»path: /}', "path is called http here"),
    ('"10.0.0.1:80"], check: {http: /, »inter: 2s}', "inter is called interval here"),
    ('"10.0.0.1:80"], balance: »leastconn', "(did you mean weighted-least-connections?)"),
    ('"10.0.0.1:80"], balance: »random(2)', "(did you mean two-choices?)"),
    ('"10.0.0.1:80"], balance: »hdr(X-A)', '(did you mean {hash: "header:x-a"}?)'),
    ('"10.0.0.1:80"], affinity: »SRV', "write {cookie: SRV}"),
    ('"10.0.0.1:80"], »cookie: SRV', "cookie: it belongs in affinity"),
    ('"10.0.0.1:80"], retries: »3', "write {attempts: 3}"),
    ('"10.0.0.1:80"], timeouts: {»server: 3s}', "server is called response here"),
    ('"10.0.0.1:80"], outlier: {max_ejected: »50}', "(did you mean 50%?)"),
])  # fmt: skip
def test_mistakes_in_backends(refuse: Refuse, text: str, message: str) -> None:
    refuse(f'frontends: [{{listen: "127.0.0.1:80"}}]\n{BACKENDS}{text}}}}}\n', message)


@pytest.mark.parametrize("route, message", [
    ('{match: {»"hdr(host)": a}, backend: app}', "hdr(host) is called header here"),
    ("{match: {»ssl_fc: true}, backend: app}", "ssl_fc is called scheme: https here"),
    ('{match: {path: »"^~ /a"}, backend: app}', 'write "/a"'),
    ('{match: {path: »"~* [.]png$"}, backend: app}', 'write "~ (?i)[.]png$"'),
    ('{match: {path: »"/x?a=b"}, backend: app}', 'a path has no query: write "/x"'),
    ('{match: {path: »"https://a/x"}, backend: app}', "a path has no scheme and host"),
    ("{match: {host: ».example.com}, backend: app}", 'write "*.example.com"'),
    ('{match: {host: »"www.example.*"}, backend: app}', "write when: 'host.startsWith"),
    ("{match: {host: »_}, backend: app}", "omit host to match every host"),
    ('{match: {host: »"~^a"}, backend: app}', "write when: 'host.matches"),
    ('{match: {host: »"https://a.com/"}, backend: app}', "(did you mean a.com?)"),
    ('{match: {method: »"GET,POST"}, backend: app}', "write [GET, POST]"),
    ("{match: {method: »get}, backend: app}", "(did you mean GET?)"),
    ("{match: »PathPrefix(`/a`), backend: app}", "write {path: /api/}"),
    ("{match: {when: »path == '/a' and true}, backend: app}", "unexpected and: write &&"),
    ("{match: {when: »path =~ '^/a'}, backend: app}", 'unexpected =~: write path.matches("…")'),
    ("{match: {when: »method == GET}, backend: app}", "put text in quotes"),
    ("{backend: »http://127.0.0.1:1}", "give its servers a name"),
    ("{redirect: »301 /x}", 'write {to: "/x", status: 301}'),
    ("{redirect: »https}", '(did you mean "https://{host}{uri}"?)'),
    ("{redirect: {to: /x, »code: 301}}", "code is called status here"),
    ("{respond: »404}", "write {status: 404}"),
    ("{respond: {status: »0404}}", "write 404"),
    ('{rewrite: »"^/a/(.*)$ /b/$1 last", backend: app}', "write the pattern in match"),
    ("{rewrite: »{path}, backend: app}", "put text with braces in quotes"),
    ('{rewrite: "/»{1}", backend: app}', "name the group in the pattern"),
    ('{set_header: {X-A: »"{remote_host}"}, backend: app}', "write {client}"),
    ('{set_header: {X-A: »"{http.request.header.Accept}"}, backend: app}', "write {header:Accept}"),
    ('{set_header: »"X-A: b", backend: app}', "write {X-Name: text}"),
    ("{rate: »10r/s, backend: app}", "(did you mean 10/s?)"),
    ("{rate: 10/s, per: »ip, backend: app}", "(did you mean source?)"),
    ("{split: »{app: 3}}", "shares are parts of 100%: write {app: 100%}"),
    ("{»if: x, backend: app}", "if is called match here"),
])  # fmt: skip
def test_mistakes_in_routes(load_text: Load, route: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(with_route(route.replace("»", "")))
    (problem,) = caught.value.problems
    assert message in problem.message
    assert problem.line == BASE.count("\n") + 2
    assert problem.column >= f"  - {route}".index("»") + 1


@pytest.mark.parametrize("text, message", [
    ("global\n    maxconn 100\nfrontend x\n    bind :80\n", "a configuration of HAProxy: run gateway import"),
    ("http {\n  server {\n    listen 80;\n  }\n}\n", "a configuration of nginx: run gateway import"),
    ("a.com {\n  reverse_proxy b:1\n}\n", "a configuration of Caddy: docs/migration.md"),
    (f"{BASE}routes: {{a: {{backend: app}}}}\n", "begin each item with -"),
    ('frontends: [{listen: "127.0.0.1:80"}]\nbackends: [{name: app}]\n', "write NAME: {…} for each"),
    (f"{BASE}routes:\n  - match: {{host: *.a.com}}\n", "put text with signs such as * in quotes"),
    (f"{BASE}routes:\n  - match: {{path: ~ ^/[a-z]{{2}}/}}\n", "put text with signs such as ~ in quotes"),
    ("frontends:\n\xa0 - listen: 1\n", "a no-break space"),
])  # fmt: skip
def test_files_of_another_form(load_text: Load, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    assert message in str(caught.value)


def test_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(BASE, encoding="utf-8-sig")
    assert load(path, no_names).site.frontends
    path.write_text(BASE, encoding="utf-16")
    with pytest.raises(ConfigError, match="not UTF-8 but UTF-16: save it as UTF-8"):
        load(path, no_names)


def test_keys_with_the_same_meaning_are_accepted(load_text: Load) -> None:
    load_text(
        with_route(
            '{match: {path: "/wiki/Foo_(bar)", method: [PROPFIND, FOO]}, set_header: {X-A: "$5.00 {host}"}, backend: app}'
        )
    )


@pytest.mark.parametrize("text, message", [
    ("frontends:\n»\t- a\n", "a tab; indent with spaces"),
    (f"{BASE}core_dumps: »no\n", 'expected true or false, not "no"; write false'),
    (f"{BASE}core_dumps: »on\n", 'expected true or false, not "on"; write true'),
    ('frontends: [{listen: "127.0.0.1:80", limits: {header_count: »010}}]\nbackends: {app: {servers: ["127.0.0.1:1"]}}\n',
     'expected a whole number, not "010"'),
    (f"{BASE}user: nobody\n»user: nobody\n", "user is given twice (first on line 3)"),
])  # fmt: skip
def test_traps_of_yaml(refuse: Refuse, text: str, message: str) -> None:
    refuse(text, message)
