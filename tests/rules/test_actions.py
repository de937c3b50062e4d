"""What routes do, through the compiler: as written in a site file."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.map_table import build
from gateway.config.model import Site
from gateway.rules.actions import Respond
from gateway.rules.compiler import compile_routes
from gateway.rules.map_lookup import MapLookup
from gateway.rules.routes import RouteTable
from tests.rules.views import view


def table(*routes: dict[str, Any]) -> RouteTable:
    site = Site.model_validate({
        "backends": {"app": {"servers": ["127.0.0.1:1"]}, "other": {"servers": ["127.0.0.1:2"]}},
        "routes": list(routes),
    })  # fmt: skip
    return compile_routes(site, {"app": "app", "other": "other"})


def test_a_rewrite_is_what_later_routes_and_the_server_see() -> None:
    routes = table(
        {"match": {"path": "/old/"}, "rewrite": "/new/{path_rest}"},
        {"match": {"path": "/old/"}, "backend": "app"},
        {"match": {"path": "~ ^/new/(?<id>[0-9]+)$"}, "rewrite": "/item?id={id}&was={uri}"},
        {"match": {"path": "= /item"}, "backend": "other"},
    )
    request = view(url="http://a/old/77?x=1")
    assert routes.find(request) == "other"
    assert request.uri_now == b"/item?id=77&was=%2Fnew%2F77%3Fx%3D1"
    request = view(url="http://a/old/x?x=1")
    assert routes.find(request) is None
    assert request.uri_now == b"/new/x?x=1"


@pytest.mark.parametrize("target, path, uri", [
    ("/n", "/o?a=b", b"/n?a=b"), ("/n?", "/o?a=b", b"/n"), ("/n?c=d", "/o?a=b", b"/n?c=d"), ("/n?{query}&c", "/o?a=b", b"/n?a=b&c"),
    ("/n/../m/{path_rest}", "/oyes", b"/m/yes"), ("/%6e", "/o", b"/n"), ("{path}/", "/o", b"/o/"),
])  # fmt: skip
def test_rewriting_and_the_query(target: str, path: str, uri: bytes) -> None:
    request = view(url=f"http://a{path}")
    assert table({"match": {"path": "/o"}, "rewrite": target, "backend": "app"}).find(request) == "app"
    assert request.uri_now == uri


@pytest.mark.parametrize("target, url, uri", [
    ("/files/{path_rest}", "/static../headers", None), ("/files/{path_rest}", "/static%2e%2e", None),
    ("/files{path_rest}", "/static../headers", b"/files../headers"), ("/files/{path_rest}", "/static/a", b"/files/a"),
    ("/files/{query:name}", "/static?name=..", None), ("/files/{query:name}", "/static?name=a", b"/files/a?name=a"),
    ("/files/{query:name}?x={query:name}", "/static?name=a.b", b"/files/a.b?x=a.b"),
    ("/{path_rest}", "/static../headers", b"/headers"), ("{path}/..", "/static", b"/"),
])  # fmt: skip
def test_no_request_leaves_the_directory_that_a_rewrite_names(target: str, url: str, uri: bytes | None) -> None:
    request = view(url=f"http://a{url}")
    found = table({"match": {"path": "/static"}, "rewrite": target, "backend": "app"}).find(request)
    if uri is None:
        assert isinstance(found, Respond)
        assert found.status == 400
    else:
        assert (found, request.uri_now) == ("app", uri)


def test_a_path_that_hides_its_meaning_after_a_rewrite_is_refused() -> None:
    routes = table({"match": {"path": "/o"}, "rewrite": "/a/..{path_rest}", "backend": "app"})
    answer = routes.find(view(url="http://a/o;x"))
    assert isinstance(answer, Respond)
    assert answer.status == 400


def test_changes_add_up_until_a_route_answers() -> None:
    routes = table(
        {"class": "gold", "set_header": {"X-A": "1", "Cookie": None}, "append_header": {"X-B": "{client}"}},
        {"set_header": {"X-A": "{host}{path}"}, "set_response_header": {"Server": None}},
        {"match": {"class": "silver"}, "backend": "other"},
        {"match": {"class": "gold"}, "append_response_header": {"X-C": "c"}, "backend": "app"},
    )
    request = view(url="http://a/p")
    assert routes.find(request) == "app"
    assert request.request_edits is not None
    assert request.response_edits is not None
    assert request.request_edits.listed() == ([b"x-a", b"cookie"], b"X-B: 127.0.0.1\r\nX-A: a/p\r\n")
    assert request.response_edits.listed() == ([b"server"], b"X-C: c\r\n")


@pytest.mark.parametrize("to, url, location", [
    ("https://{host}{uri}", "http://a.b/x?y=z", b"https://a.b/x?y=z"),
    ("/{path_rest}", "http://a/go//evil.example", b"/evil.example"),
    ("/{query}", "http://a/go/?\\evil.example", b"/evil.example"),
    ("/{query}", "http://a/go/?\\/\\evil.example/\\", b"/evil.example/\\"),
    ("//cdn/{path_rest}", "http://a/go/x", b"//cdn/x"),
    ("https://safe.example/{path_rest}", "http://a/go/@evil.example/", b"https://safe.example/@evil.example/"),
])  # fmt: skip
def test_redirects(to: str, url: str, location: bytes) -> None:
    answer = table({"match": {"path": ["/go/", "/"]}, "redirect": {"to": to, "status": 307}}).find(view(url=url))
    assert isinstance(answer, Respond)
    assert (answer.status, answer.lines) == (307, b"Location: " + location + b"\r\n")


FIELD = st.sampled_from(["{uri}", "{path}", "{path_rest}", "{query}", "{header:X-A}", "{cookie:c}", "{host}", "{g}"])
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)


@given(st.lists(FIELD, max_size=4), st.text("%0dDaA2f?&=/.x;", max_size=30), TEXT)
def test_nothing_a_client_sends_breaks_a_line_or_a_url(fields: list[str], path: str, header: str) -> None:
    routes = table({
        "match": {"path": "~ ^/(?<g>.*)"}, "set_header": {"X-B": "/".join(fields)}, "redirect": "/to/" + "&".join(fields),
    })  # fmt: skip
    try:
        request = view(url=f"http://a/{path}", headers=[f"X-A: {header}", f"Cookie: c={header}"])
    except AssertionError:
        return  # refused before any rule
    answer = routes.find(request)
    assert isinstance(answer, Respond)
    assert answer.lines.startswith(b"Location: /to/")
    location = answer.lines[len(b"Location: ") : -2]
    assert all(0x21 <= byte <= 0x7E for byte in location)
    assert request.request_edits is not None
    assert request.request_edits.listed()[1].count(b"\r\n") == 1


def test_a_map_without_a_target_gives_404() -> None:
    maps = {"m": MapLookup("m", build(b"/a /b\n/c //x\n/d d\n", "exact"), regex=False, default=None)}
    for action in ({"redirect": "{map:m:path}"}, {"rewrite": "{map:m:path}", "backend": "app"}):
        site = Site.model_validate({
            "maps": {"m": "file"}, "backends": {"app": {"servers": ["127.0.0.1:1"]}}, "routes": [action],
        })  # fmt: skip
        routes = compile_routes(site, {"app": "app"}, maps=maps)
        none = routes.find(view(url="http://a/none"))
        assert isinstance(none, Respond)
        assert none.status == 404
        request = view(url="http://a/a")
        found = routes.find(request)
        assert (found.lines if isinstance(found, Respond) else found) in (b"Location: /b\r\n", "app")
        assert request.uri_now == (b"/b" if "rewrite" in action else b"/a")
