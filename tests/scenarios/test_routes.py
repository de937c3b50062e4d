"""What routes do to requests and answers, on the wire: one gateway for all cases."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import quote

import pytest

from tests.scenarios.test_forwarding import fields
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.http2_client import Http2Client
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

PAGE = b"<h1>a page</h1>"
ROUTES: list[dict[str, Any]] = [
    {"match": {"path": "/split/key"}, "rewrite": "/headers",
     "split": {"to": {"canary": "30%", "app": "70%"}, "by": "{header:User}"}},
    {"match": {"path": "/split/cookie"}, "rewrite": "/headers",
     "split": {"to": {"canary": "50%", "app": "50%"}, "cookie": "release"}},
    {"match": {"path": "/answer/"}, "rewrite": "/{path_rest}",
     "default_header": {"X-Kept": "no", "X-Added": "{method} {protocol} {frontend} {client_port} {peer} {query:q}"},
     "default_response_header": {"X-Server": "no", "X-New": "{frontend}"},
     "rewrite_location": {"http://inner:8080/": "https://{host}/answer/"},
     "rewrite_cookie": {"path": {"/x": "/y", "/": "/answer/"}, "domain": {"inner": "{host}"}}},
    {"match": {"path": "/status/"}, "response_status": ["404", "500-599"],
     "set_response_header": {"Cache-Control": "no-store", "X-Server": None}},
    {"match": {"host": "page.example"}, "pages": {"404": "page.html", "418": "page.html", "503": "page.html"}},
    {"match": {"host": "page.example", "path": "/tea"}, "respond": {"status": 418}},
    {"match": {"host": "page.example", "path": "/gone"}, "backend": "gone"},
    {"match": {"path": "/tea"}, "respond": {"status": 418}},
    {"match": {"path": "/site-page"}, "respond": {"status": 410, "headers": {"X-A": "1"}}},
    {"match": {"path": "= /file"}, "respond": {"file": "page.html"}},
    {"match": {"path": "= /close"}, "close": True},
    {"match": {"frontend": "other"}, "respond": {"status": 403, "body": "other"}},
    {"match": {"path": "/split/gone"}, "rewrite": "/headers", "split": {"gone": "99%", "canary": "1%"}},
    {"backend": "app"},
]  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("routes")
    with ExitStack() as stack:
        app, canary = (stack.enter_context(BackendServer(directory, name)) for name in ("app", "canary"))
        description = site([app], 2)
        description["backends"]["canary"] = {"servers": [canary.address]}
        description["backends"]["gone"] = {
            "servers": [f"127.0.0.1:{free_port()}"],
            "check": {"tcp": True, "interval": "200ms", "fall": 1},
        }
        description["frontends"][0] |= {"encoded_slashes": True, "http2": True}
        description["frontends"].append({"name": "other", "listen": f"127.0.0.1:{free_port()}"})
        description["access_log"] = {"path": "-", "format": '"{method} {uri}" {status}'}
        description["routes"] = ROUTES
        description["pages"] = {"410": "page.html"}
        (directory / "page.html").write_bytes(PAGE)
        yield stack.enter_context(GatewayProcess(directory, description))


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[RawClient]:
    with RawClient(gateway.port) as client:
        yield client


def test_requests_with_the_same_key_go_to_the_same_backend(gateway: GatewayProcess, client: RawClient) -> None:
    names = [client.get("/split/key", f"User: {n}").header("X-Server") for n in range(100)]
    assert 15 < names.count("canary") < 45
    with RawClient(gateway.port) as other:
        assert [other.get("/split/key", f"User: {n}").header("X-Server") for n in range(100)] == names


def test_a_client_stays_with_its_backend_by_a_cookie(client: RawClient) -> None:
    names = set()
    for _ in range(16):
        first = client.get("/split/cookie")
        cookie = (first.header("Set-Cookie") or "").partition(";")[0]
        again = client.get("/split/cookie", f"Cookie: {cookie}")
        assert again.header("X-Server") == first.header("X-Server")
        assert again.header("Set-Cookie") is None
        names.add(first.header("X-Server"))
    assert names == {"app", "canary"}


def test_a_backend_without_a_server_that_works_is_left_out(client: RawClient) -> None:
    def answered() -> bool:
        return all(client.get("/split/gone").status == 200 for _ in range(20))

    eventually(answered, "the check to find the server down, in every worker")
    assert {client.get("/split/gone").header("X-Server") for _ in range(20)} == {"canary"}


def test_fields_of_templates_are_those_of_the_request(client: RawClient) -> None:
    port = client.socket.getsockname()[1]
    seen = dict(fields(client.get("/answer/headers?q=a%0ab", "X-Kept: yes").body))
    assert seen["x-added"] == f"GET HTTP/1.1 web {port} 127.0.0.1 a%0Ab"
    assert seen["x-kept"] == "yes"
    assert dict(fields(client.get("/answer/headers", "X-Added: mine").body))["x-kept"] == "no"


def test_a_default_header_gives_way_to_that_of_the_server(client: RawClient) -> None:
    answer = client.get("/answer/bytes/1")
    assert (answer.header("X-Server"), answer.header("X-New")) == ("app", "web")


@pytest.mark.parametrize("name, value, seen", [
    ("Location", "http://inner:8080/a?b", "https://localhost/answer/a?b"),
    ("Location", "http://other:8080/a", "http://other:8080/a"),
    ("Location", "/a/http://inner:8080/", "/a/http://inner:8080/"),
    ("Set-Cookie", "a=/; Path=/; Domain=.INNER; Secure", "a=/; Path=/answer/; Domain=localhost; Secure"),
    ("Set-Cookie", "a=b; domain=inner; path=/x/z", "a=b; domain=localhost; path=/y/z"),
    ("Set-Cookie", "a=b; Domain=winner", "a=b; Domain=winner"),
    ("Set-Cookie", "a=b; Path=/; Path=/x; domain=inner; Path=/z; Domain=.inner",
     "a=b; Path=/answer/; Path=/y; domain=localhost; Path=/answer/z; Domain=localhost"),
])  # fmt: skip
def test_location_and_cookies_are_as_clients_see_the_server(
    client: RawClient, name: str, value: str, seen: str
) -> None:
    assert client.get(f"/answer/set-header/{name}/{quote(value, safe='')}").header(name) == seen


def test_headers_are_changed_for_some_statuses_only(client: RawClient) -> None:
    for status, changed in ((200, False), (404, True), (403, False), (500, True), (599, True)):
        answer = client.get(f"/status/{status}")
        assert answer.status == status
        assert (answer.header("Cache-Control") == "no-store") == changed
        assert (answer.header("X-Server") is None) == changed


def test_a_host_has_pages_of_its_own(client: RawClient) -> None:
    eventually(lambda: client.get("/split/gone").status == 200, "the check to find the server down")
    for path, status in (("/tea", 418), ("/gone", 503)):
        answer = client.get(path, host="page.example")
        assert (answer.status, answer.body) == (status, PAGE)
    assert client.get("/tea").body == b""
    answer = client.get("/site-page")
    assert (answer.status, answer.body, answer.header("X-A")) == (410, PAGE, "1")


def test_the_body_of_an_answer_comes_from_a_file(client: RawClient) -> None:
    answer = client.get("/file")
    assert (answer.status, answer.body) == (200, PAGE)
    assert answer.header("Content-Type") == "text/html; charset=utf-8"


def test_a_route_closes_a_connection_without_an_answer(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(b"GET /close HTTP/1.1\r\nHost: a\r\n\r\n")
        with suppress(ConnectionResetError):
            assert client.read() == b""
    eventually(lambda: '"GET /close" 444' in gateway.output, "the line in the access log")


def test_a_route_resets_a_stream_and_the_others_go_on(gateway: GatewayProcess) -> None:
    with Http2Client(gateway.port) as client:
        assert client.get("/close").reset is not None
        assert client.get("/file").status == 200


def test_a_route_is_for_one_frontend(gateway: GatewayProcess, client: RawClient) -> None:
    assert client.get("/headers").status == 200
    with RawClient(int(gateway.url("/", listener=1).split(":")[2].strip("/"))) as other:
        assert other.get("/headers").body == b"other"
