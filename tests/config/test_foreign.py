"""What users of other proxies try first is answered with what it is called here."""

from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from gateway.config.foreign import HERE, said_of
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
        assert said.startswith(("is ", "does not exist here", "stands in "))
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
