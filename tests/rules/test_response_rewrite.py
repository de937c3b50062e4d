"""Changes of answers that wait for the answer: defaults, by status, Location and cookies."""

from typing import Any

import pytest

from gateway.config.model import Site
from gateway.rules.compiler import compile_routes
from tests.rules.views import view


def edits(*routes: dict[str, Any], status: int) -> tuple[list[bytes], bytes]:
    site = Site.model_validate(
        {"backends": {"app": {"servers": ["127.0.0.1:1"]}}, "routes": [*routes, {"backend": "app"}]}
    )
    request = view()
    assert compile_routes(site, {"app": "app"}).find(request) == "app"
    assert request.response_edits is not None
    return request.response_edits.settled(status)


def test_changes_for_a_status_follow_those_for_all() -> None:
    routes: list[dict[str, Any]] = [
        {"response_status": "500-599", "set_response_header": {"X-A": "late", "Server": None}},
        {"set_response_header": {"X-A": "always"}, "append_response_header": {"X-B": "1"}},
        {"response_status": [404, "503"], "append_response_header": {"X-B": "2"}},
    ]
    assert edits(*routes, status=200) == ([b"x-a"], b"X-A: always\r\nX-B: 1\r\n")
    assert edits(*routes, status=404) == ([b"x-a"], b"X-A: always\r\nX-B: 1\r\nX-B: 2\r\n")
    assert edits(*routes, status=503) == ([b"x-a", b"server"], b"X-B: 1\r\nX-A: late\r\nX-B: 2\r\n")


@pytest.mark.parametrize("server, client", [
    ("http://app:1//evil.example/", "/.//evil.example/"), ("http://app:1/\\evil.example/", "/./\\evil.example/"),
    ("http://app:1/x//y", "/x//y"), ("http://app:1/", "/"), ("//other.example/", "//other.example/"),
])  # fmt: skip
def test_a_server_that_repeats_a_slash_names_no_host(server: str, client: str) -> None:
    site = Site.model_validate({
        "backends": {"app": {"servers": ["127.0.0.1:1"]}},
        "routes": [{"rewrite_location": {"http://app:1/": "/"}, "backend": "app"}],
    })  # fmt: skip
    request = view()
    compile_routes(site, {"app": "app"}).find(request)
    assert request.response_edits is not None
    fields: list[list[Any]] = [[b"location", server.encode(), None]]
    request.response_edits._settle_lines(fields)
    assert fields[0][2] == client.encode()


@pytest.mark.parametrize("route, said", [
    ({"response_status": "500", "backend": "app"}, "the route changes nothing of responses"),
    ({"rewrite_location": {"inner": "/"}}, "expected a URL or a path beginning with /"),
    ({"rewrite_location": {"/": "inner"}}, "expected a URL or a path beginning with /"),
    ({"rewrite_location": {"/": "//{cookie:x}/"}}, "clients could choose the host"),
    ({"rewrite_cookie": {}}, "expected path or domain"),
    ({"rewrite_cookie": {"path": {"/": "/; Secure"}}}, "an attribute of a cookie ends here"),
    ({"rewrite_cookie": {"domain": {"a": "{nothing}"}}}, "unknown field {nothing}"),
    ({"default_header": {"Via": "x"}}, "Via is written by the gateway"),
    ({"default_response_header": {"Host": "x"}}, "Host is written by the gateway"),
    ({"close": False}, "Input should be True"),
    ({"close": True, "backend": "app"}, "backend and close cannot be combined"),
    ({"respond": {"file": "a", "body": "b"}}, "body and file cannot be combined"),
    ({"respond": {"file": "a", "status": 204}}, "status 204 has no body"),
])  # fmt: skip
def test_a_mistake_is_named(route: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Site.model_validate({"backends": {"app": {"servers": ["127.0.0.1:1"]}}, "routes": [route]})
