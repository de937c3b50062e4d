"""Rules in a whole gateway: what they do to requests and answers on the wire."""

from collections.abc import Callable
from pathlib import Path

from tests.scenarios.test_forwarding import fields
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def test_headers_change_both_ways(lend_gateway: Starter, start_servers: Servers) -> None:
    description = {**site(start_servers("app1")), "node": "gw7"}
    description["routes"] = [
        {"match": {"header": {"X-Test": "~^(?<word>[a-z]+)"}},
         "set_header": {"X-Item": "{word} {header:X-Test}", "Cookie": None, "Host": "inner.example", "x-test": "new"},
         "append_header": {"Accept": "text/x"},
         "set_response_header": {"X-Server": None, "X-Connection": "{client}"},
         "append_response_header": {"Set-Cookie": "seen=1"}},
        {"backend": "app"},
    ]  # fmt: skip
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        answer = client.get(
            "/headers", "X-Test: abc 1", "Cookie: a=b", "Accept: text/html", "X-Item: mine", host="outer"
        )
        seen = fields(answer.body)
        assert [value for name, value in seen if name == "accept"] == ["text/html", "text/x"]
        assert [value for name, value in seen if name == "host"] == ["inner.example"]
        assert [value for name, value in seen if name == "x-item"] == ["abc abc 1"]
        assert [value for name, value in seen if name == "x-test"] == ["new"]
        assert "cookie" not in dict(seen)
        assert dict(seen)["x-forwarded-host"] == "outer"
        assert answer.header("X-Server") is None
        assert answer.header("X-Connection") == "127.0.0.1"
        assert answer.header("Set-Cookie") == "seen=1"
        plain = client.get("/headers", "Cookie: a=b")
        assert dict(fields(plain.body))["cookie"] == "a=b"
        assert plain.header("X-Server") == "app1"
        assert plain.header("Set-Cookie") is None


def test_rewrites_reach_the_server_and_answers_of_the_gateway_s_own_are_edited(
    start_gateway: Starter, start_servers: Servers
) -> None:
    description = site(start_servers("app1"))
    description["access_log"] = {"path": "-", "format": "{path} {class} {status}"}
    description["routes"] = [
        {"set_response_header": {"X-Frame": "DENY", "Content-Type": "text/html"}, "class": "all"},
        {"match": {"path": "/see/", "method": "GET"}, "rewrite": "/{path_rest}"},
        {"match": {"path": "= /hello"}, "respond": {"body": "hi"}},
        {"match": {"path": "= /away"}, "redirect": {"to": "https://{host}{uri}", "status": 303}},
        {"match": {"path": "/bad"}, "rewrite": "/x..{path_rest}/../..%2f", "backend": "app"},
        {"match": {"path": "/headers"}, "backend": "app"},
    ]
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client:
        assert client.get("/see/headers?a=b").body.startswith(b"GET /headers?a=b HTTP/1.1\r\n")
        answer = client.get("/see/hello")
        assert (answer.status, answer.body, answer.header("X-Frame")) == (200, b"hi", "DENY")
        assert answer.header("Content-Type") == "text/html"
        answer = client.get("/away?x", host="h.example:8080")
        assert (answer.status, answer.header("Location")) == (303, "https://h.example/away?x")
        assert answer.header("X-Frame") == "DENY"
        assert client.get("/bad").status == 400
        assert client.ask(b"POST /see/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status == 404
    assert gateway.terminate() == 0
    assert gateway.output.splitlines()[:2] == ["/see/headers all 200", "/see/hello all 200"]


def test_a_reload_brings_other_rules_to_the_next_request_of_a_connection(
    lend_gateway: Starter, start_servers: Servers
) -> None:
    description = site(start_servers("app1"))
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        assert client.get("/bytes/3").body == b"abc"
        gateway.reload({**description, "routes": [{"match": {"path": "~ ^/b"}, "respond": {"status": 410}}]})
        assert client.get("/bytes/3").status == 410
        assert client.get("/c").status == 404


def test_a_route_follows_the_state_of_the_backends(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    one, two = start_servers("app1", "app2")
    check = {"http": "/", "interval": "50ms", "timeout": "5s", "rise": 1, "fall": 1}
    description = site([one, two], check=check)
    description["backends"]["app"]["servers"][0]["max_connections"] = 2
    description["routes"] = [
        {"match": {"when": "up('app') < 2"}, "respond": {"status": 503, "body": "thin"}},
        {"match": {"when": "load('app') >= 0.5"}, "respond": {"status": 503, "body": "full"}},
        {"backend": "app"},
    ]
    gateway = lend_gateway(description)

    def body() -> bytes:
        with RawClient(gateway.port) as client:
            return client.get("/bytes/3").body

    assert body() == b"abc"
    with RawClient(gateway.port) as slow, RawClient(gateway.port) as other:
        for client in (slow, other):  # one of them meets the server with a limit, by turns
            client.send(b"GET /when/go HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: body() == b"full", "the load to show")
        (tmp_path / "go").touch()
    eventually(lambda: body() == b"abc", "the load to go")
    two.kill()
    eventually(lambda: body() == b"thin", "the check to see it")


def test_classes_are_given_before_the_routes(start_gateway: Starter, start_servers: Servers) -> None:
    description = site(start_servers("app1"))
    description["access_log"] = {"path": "-", "format": "{uri} {class}"}
    description["qos"] = {
        "classes": [
            {"name": "robot", "match": {"header": {"User-Agent": "~(?i)bot"}}},
            {"name": "deep", "match": {"path": ["= /deep", "~ ^/a/(b|c)/"], "method": "GET"}},
            {"name": "rest"},
        ]
    }
    description["routes"] = [
        {"match": {"class": "robot"}, "respond": {"status": 403}},
        {"match": {"class": "deep", "path": "/a/"}, "class": "deeper", "rewrite": "/bytes/3"},
        {"match": {"class": ["deep", "deeper"]}, "backend": "app"},
    ]
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client:
        assert client.get("/deep", "User-Agent: Robot").status == 403
        assert client.get("/a/b/").body == b"abc"
        assert client.get("/a/b").status == 404  # a class of its own for each request of the connection
        assert client.get("/deep").status == 200
    assert gateway.terminate() == 0
    assert gateway.output.splitlines() == ["/deep robot", "/a/b/ deeper", "/a/b rest", "/deep deep"]
