"""What a route may ask of a request, through the compiler: as written in a site file."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config import load
from gateway.config.model import Site
from gateway.explain.asked import Asked
from gateway.explain.sandbox import Sandbox
from gateway.rules.compiler import compile_routes
from gateway.rules.view import View
from tests.rules.views import view


def holds(match: dict[str, Any], request: View) -> bool:
    site = Site.model_validate({
        "backends": {"app": {"servers": ["127.0.0.1:1"]}},
        "routes": [{"match": match, "backend": "app"}],
    })  # fmt: skip
    found = compile_routes(site, {"app": "app"})
    answer = found.find(request)
    explained, trace = found.explain(request)
    assert explained == answer
    (why,) = [why for _, why, _, _ in trace["routes"]]
    assert why is None if answer else why
    return answer == "app"


@pytest.mark.parametrize("match, yes, no", [
    ({"method": "GET"}, view(), view("HEAD")),
    ({"method": ["PUT", "PURGE"]}, view("PURGE"), view("GET")),
    ({"header": {"x-a": "b"}}, view(headers=["X-A: b"]), view(headers=["X-A: B"])),
    ({"header": {"X-A": ["b", "c"]}}, view(headers=["x-a: z", "x-a: c"]), view(headers=["X-A: bc"])),
    ({"header": {"User-Agent": "~Mobile"}}, view(headers=["User-Agent: a Mobile b"]), view(headers=["User-Agent: x"])),
    ({"header": {"X-A": True}}, view(headers=["X-A:"]), view(headers=["X_A: 1"])),
    ({"header": {"X-A": False}}, view(), view(headers=["X-A:"])),
    ({"header": {"X-A": [False, "b"]}}, view(), view(headers=["X-A: c"])),
    ({"cookie": {"beta": 1}}, view(headers=["Cookie: a=b; beta=1"]), view(headers=["Cookie: a=b; xbeta=1; beta=2"])),
    ({"cookie": {"beta": "1"}}, view(headers=["Cookie: a", 'Cookie: beta="1"']), view(headers=["Cookie: Beta=1"])),
    ({"cookie": {"beta": "1"}}, view(headers=["Cookie: a=b;\tbeta \t=  1 ; c=d"]), view(headers=["Cookie: beta 1; b eta=1; beta"])),
    ({"cookie": {"beta": ""}}, view(headers=["Cookie: beta= ; a"]), view(headers=["Cookie: beta =1;a=beta="])),
    ({"query": {"lang": "d e"}}, view(url="http://a/?x&lang=d+e"), view(url="http://a/?lang=de")),
    ({"query": {"lang": "~^d"}}, view(url="http://a/?lang=%64e"), view(url="http://a/?lang=xde")),
    ({"query": {"a&b": "="}}, view(url="http://a/?a%26b=%3D"), view(url="http://a/?a&b==")),
    ({"query": {"q": True}}, view(url="http://a/?q"), view(url="http://a/q?")),
    ({"source": "192.0.2.0/25"}, view(client="192.0.2.127"), view(client="192.0.2.128")),
    ({"source": ["10.0.0.0/8", "2001:db8::/33"]}, view(client="2001:db8:7fff::1"), view(client="2001:db8:8000::1")),
    ({"source": "192.0.2.1"}, view(client="::ffff:192.0.2.1"), view(client="::ffff:192.0.2.2")),
    ({"source": "0.0.0.0/0"}, view(client="192.0.2.1"), view(client="::1")),
    ({"path": "~ ^/item/(?<id>[0-9]+)$"}, view(url="http://a/item/7"), view(url="http://a/item/x")),
    ({"path": ["~ x$", "= /y"]}, view(url="http://a/y"), view(url="http://a/yy")),
    ({"scheme": "https", "method": "GET"}, view(url="https://a/"), view()),
])  # fmt: skip
def test_each_condition(match: dict[str, Any], yes: View, no: View) -> None:
    assert holds(match, yes)
    assert not holds(match, no)


@pytest.mark.parametrize("match, agent, held", [
    ({"header": {"User-Agent": "!~bot"}}, "Firefox", True),
    ({"header": {"User-Agent": "!~bot"}}, "a bot", False),
    ({"header": {"X-None": "!~bot"}}, "a bot", True),
    ({"header": {"User-Agent": ["!~bot", "~good"]}}, "a good bot", True),
    ({"not": {"header": {"User-Agent": "~bot"}}}, "a bot", False),
    ({"not": [{"path": "/b"}, {"header": {"User-Agent": "~bot"}}]}, "Firefox", True),
    ({"not": [{"path": "/a"}, {"header": {"User-Agent": "~bot"}}]}, "Firefox", False),
    ({"not": {"path": "/a", "header": {"User-Agent": "~bot"}}}, "Firefox", True),
    ({"not": {"not": {"path": "/a"}}}, "", True),
    ({"any": [{"path": "/b"}, {"host": "x.example"}]}, "", True),
    ({"any": [{"path": "/b"}, {"host": "y.example"}]}, "", False),
    ({"all": [{"path": "/a"}, {"host": "x.example"}]}, "", True),
    ({"all": [{"path": "/a"}, {"host": "y.example"}]}, "", False),
    ({"path": "/a", "any": [{"path": "/b"}]}, "", False),
])  # fmt: skip
def test_matches_within_a_match(match: dict[str, Any], agent: str, held: bool) -> None:  # noqa: FBT001 - a column
    assert holds(match, view(url="http://x.example/a/b", headers=[f"User-Agent: {agent}"])) == held


def test_groups_of_the_route_outlive_a_match_within(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        'frontends: [{listen: "127.0.0.1:80"}]\nbackends: {app: {servers: ["127.0.0.1:1"]}}\nroutes:\n'
        '  - match: {path: "~ ^/(?<id>[0-9]+)", not: {path: "~ (?<id>x)"}}\n    rewrite: "/n/{id}"\n    backend: app\n'
    )
    with Sandbox(load(path)) as found:
        assert found.decide(Asked("GET", "http", "a", "/12"))["head"].startswith("GET /n/12 ")


def test_reasons_name_the_condition_and_what_was_there() -> None:
    site = Site.model_validate({
        "backends": {"app": {"servers": ["127.0.0.1:1"]}},
        "routes": [
            {"match": {"host": "a"}, "backend": "app"}, {"match": {"path": "/b"}, "backend": "app"},
            {"match": {"header": {"X-A": "~^b"}}, "backend": "app"}, {"match": {"class": "gold"}, "backend": "app"},
            {"match": {"source": "10.0.0.0/8"}, "backend": "app"}, {"match": {"query": {"a": True}}, "backend": "app"},
        ],
    })  # fmt: skip
    _, trace = compile_routes(site, {"app": "app"}).explain(view(headers=["X-A: c"]))
    reasons = [why for _, why, _, _ in trace["routes"]]
    assert reasons == [
        "host is www.example.com", "path is /", "header X-A ~ ^b: 'c'", "class gold: none",
        "source 10.0.0.0/8: 127.0.0.1", "query a there: not there",
    ]  # fmt: skip
