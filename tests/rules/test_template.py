"""Where a field stands decides how it is encoded."""

import pytest

from gateway.config import template
from gateway.config.map_table import build
from gateway.rules.map_lookup import MapLookup
from gateway.rules.template import Template
from gateway.rules.view import View
from tests.rules.views import view

GROUPS = {"id": "path", "h": "header"}
FIELDS = ("scheme", "host", "uri", "path", "path_rest", "query", "client", "request_id", *GROUPS)


def rendered(text: str, request: View, *, url: bool = True) -> str:
    urls = build('x=1&y=%26 https://x/a?b=c d"é/{f}\n'.encode(), "exact")
    maps = {"urls": MapLookup("urls", urls, regex=False, default=None)}
    made = Template(template.parts(text, FIELDS, named=template.FAMILIES), GROUPS, maps, url=url)
    return made.text(request).decode("latin-1")


@pytest.mark.parametrize("text, expected", [
    ("https://{host}{uri}", "https://www.example.com/a%20b/c&d?x=1&y=%26"),
    ("{scheme}://{host}{path}", "http://www.example.com/a%20b/c&d"),
    ("/new?{query}", "/new?x=1&y=%26"),
    ("/login?next={uri}", "/login?next=%2Fa%2520b%2Fc%26d%3Fx%3D1%26y%3D%2526"),
    ("/find?q={path}", "/find?q=/a%20b/c%26d"),
    ("/by/{client}", "/by/192.0.2.7"),
    ("/{header:X-Name}/", "/a%20b%2F..%26%3F%23/"),
    ("/?n={header:x-name}", "/?n=a%20b%2F..%26%3F%23"),
    ("/{cookie:c}", "/v%2F1"),
    ("/{header:None}{cookie:none}", "/"),
    ("/{request_id}?{request_id}", "/7%2Fa?7%2Fa"),
    ("/{{}}", "/{}"),
    ("/{query:y}?{query:y}{query:none}", "/%26?%26"),
    ("{map:urls:path_rest}", ""),
    ("{map:urls:query}?{map:urls:header:X-Name}", "https://x/a?b=c%20d%22%C3%A9/%7Bf%7D?"),
])  # fmt: skip
def test_fields_in_a_url(text: str, expected: str) -> None:
    request = view(
        url="http://www.example.com/a%20b/c&d?x=1&y=%26",
        headers=["X-Name: a b/..&?#", 'Cookie: b=2; c="v/1"'],
        client="192.0.2.7",
    )
    request.request_id = b"7/a"
    assert rendered(text, request) == expected


def test_request_id_is_that_of_the_request_and_of_no_other() -> None:
    request = view()
    assert rendered("id={request_id}", request, url=False) == "id="
    request.request_id = b"7/a"
    assert rendered("id={request_id}", request, url=False) == "id=7/a"
    request.read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert rendered("id={request_id}", request, url=False) == "id="


def test_groups_are_path_text_or_a_header_s() -> None:
    request = view()
    request.groups = {"id": b"a%2Fb&c", "h": b"a/b c"}
    assert rendered("/x/{id}/{h}", request) == "/x/a%2Fb&c/a%2Fb%20c"
    assert rendered("/x?id={id}&h={h}", request) == "/x?id=a%2Fb%26c&h=a%2Fb%20c"
    assert rendered("{id} {h}", request, url=False) == "a%2Fb&c a/b c"
    request.groups = None
    assert rendered("/{id}", request) == "/"


def test_a_parameter_cannot_end_a_header_line() -> None:
    request = view(url="http://a/?x=a%0d%0aSet-Cookie:%20b%7f+c&x=2")
    assert rendered("{query:x}", request, url=False) == "a%0D%0ASet-Cookie: b%7F c"


def test_a_group_of_the_route_goes_before_a_fact_of_the_request() -> None:
    request = view()
    request.groups = {"class": b"a/b"}
    parts = template.parts("{class} {method}", (*template.REDIRECT_FIELDS, "class"))
    assert Template(parts, {"class": "path"}, {}, url=False).text(request) == b"a/b GET"
    request.klass = "gold"
    assert Template(parts, {}, {}, url=False).text(request) == b"gold GET"
