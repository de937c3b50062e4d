"""What reaches a server, and what comes back to a client: heads."""

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import psutil
import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.kernel import unread
from tests.support.raw import RawClient, Response
from tests.support.raw_server import RawServer, read_head, replies
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def fields(head: bytes) -> list[tuple[str, str]]:
    """Header fields of a head as (lower-case name, value), in order."""
    lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]


def test_a_request_arrives_as_it_was_with_the_gateway_s_own_fields(
    lend_gateway: Starter, start_servers: Servers
) -> None:
    gateway = lend_gateway({**site(start_servers("app1")), "node": "gw7"})
    with RawClient(gateway.port) as client:
        head = client.get("/headers?q=%20x", "X-One: 1", "Accept:  a/b ", host="www.example.com:81").body
    assert head.startswith(b"GET /headers?q=%20x HTTP/1.1\r\n")
    found = dict(fields(head))
    assert re.fullmatch("[0-9a-f]{32}", found.pop("x-request-id"))
    assert found == {
        "host": "www.example.com:81",
        "x-one": "1",
        "accept": "a/b",
        "via": "1.1 gw7",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "www.example.com:81",
        "forwarded": 'for=127.0.0.1;proto=http;host="www.example.com:81"',
    }
    assert len(fields(head)) == 9


def test_what_a_rule_sets_cannot_come_from_a_client_under_a_name_that_servers_take_for_it(
    lend_gateway: Starter, start_servers: Servers
) -> None:
    """Servers of CGI and WSGI read X-User, X_User and x_user as one variable."""
    edits = {"X-User": "nobody", "X-Admin": None, "x_plan": "free"}
    gateway = lend_gateway({**site(start_servers("app1")), "routes": [{"set_header": edits}, {"backend": "app"}]})
    forged = ("X-User: root", "X_User: root", "x_uSER: root", "X_Admin: 1", "X-Plan: gold", "X_Other: kept")
    with RawClient(gateway.port) as client:
        found = fields(client.get("/headers", *forged).body)
    assert [field for field in found if field[0][1:] in {"-user", "_user", "-admin", "_admin", "-plan", "_plan"}] == [
        ("x-user", "nobody"),
        ("x_plan", "free"),
    ]
    assert ("x_other", "kept") in found


def test_hop_by_hop_fields_stay_on_their_hop(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1")))
    with RawClient(gateway.port) as client:
        head = client.get(
            "/headers", "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=9", "TE: deflate",
            "Proxy-Authorization: secret", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Cookie: a=b",
        ).body  # fmt: skip
    names = [name for name, _ in fields(head)]
    assert "cookie" in names
    assert not {
        "connection", "x-hop", "keep-alive", "te", "proxy-authorization", "upgrade", "http2-settings",
    } & set(names)  # fmt: skip


def test_a_strange_client_s_account_of_itself_is_not_believed(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1")))
    with RawClient(gateway.port) as client:
        head = client.get(
            "/headers", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 7.7.7.7", "X-Forwarded-Proto: https", "X-Real-IP: 6.6.6.6",
            "Forwarded: for=6.6.6.6", "X-Forwarded-Host: evil", "X-Forwarded-Port: 1", "X_Forwarded_For: 6.6.6.6",
        ).body  # fmt: skip
    assert b"6.6.6.6" not in head
    assert b"7.7.7.7" not in head
    assert b"evil" not in head
    assert [value for name, value in fields(head) if name == "x-forwarded-for"] == ["127.0.0.1"]


def test_a_trusted_proxy_s_account_is_extended(lend_gateway: Starter, start_servers: Servers) -> None:
    description = site(start_servers("app1"))
    description["frontends"][0]["trusted_proxies"] = ["127.0.0.0/8"]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        found = dict(fields(client.get(
            "/headers", "X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2", "X-Forwarded-Proto: https",
            "X-Forwarded-Host: www", "Forwarded: for=1.1.1.1",
        ).body))  # fmt: skip
    assert found["x-forwarded-for"] == "1.1.1.1, 2.2.2.2, 127.0.0.1"
    assert found["x-forwarded-proto"] == "https"
    assert found["x-forwarded-host"] == "www"
    assert found["forwarded"] == "for=1.1.1.1, for=127.0.0.1"


@pytest.mark.parametrize("sent, arrives", [
    ("/a/../headers", "/headers"), ("/%68eaders", "/headers"), ("/headers?a=../b", "/headers?a=../b"),
    ("/x//y/../..//headers", "/headers"), ("http://localhost/headers", "/headers"),
])  # fmt: skip
def test_rules_and_server_see_one_form_of_a_path(
    lend_gateway: Starter, start_servers: Servers, sent: str, arrives: str
) -> None:
    description = site(start_servers("app1"))
    description["routes"] = [{"match": {"path": "/headers"}, "backend": "app"}]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        head = client.get(sent).body
    assert head.startswith(f"GET {arrives} HTTP/1.1\r\n".encode())
    assert [value for name, value in fields(head) if name == "host"] == ["localhost"]


def test_a_response_comes_back_as_it_was_without_the_server_s_hop(lend_gateway: Starter) -> None:
    answer = (
        b"HTTP/1.1 201 Made It\r\nContent-Length: 2\r\nX-Any:  v \r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n"
        b"Keep-Alive: timeout=5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nProxy-Authenticate: Basic\r\n\r\nok"
    )
    with RawServer(replies(answer)) as server:
        gateway = lend_gateway({**site([]), "node": "gw7", "backends": {"app": {"servers": [server.address]}}})
        with RawClient(gateway.port) as client:
            response = client.get()
    assert (response.status, response.reason, response.body) == (201, "Made It", b"ok")
    assert re.fullmatch("[0-9a-f]{32}", response.header("X-Request-ID") or "")
    assert response.header("Date")
    passed = [(name.lower(), value.strip()) for name, value in response.fields if name not in ("X-Request-ID", "Date")]
    assert sorted(passed) == [
        ("content-length", "2"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("via", "1.1 gw7"), ("x-any", "v"),
    ]  # fmt: skip


def test_an_http_1_0_client_is_answered_in_its_own_way(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1")))
    with RawClient(gateway.port) as client:
        client.send(b"GET /chunked/3000 HTTP/1.0\r\n\r\n")
        answer = client.read()
        assert b"chunked" not in answer
        assert len(answer.split(b"\r\n\r\n", 1)[1]) == 3000
    with RawClient(gateway.port) as client:
        for _ in range(2):
            response = client.ask(b"GET /bytes/10 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert response.header("Connection") == "keep-alive"
            assert len(response.body) == 10
    with RawClient(gateway.port) as client:
        head = client.ask(b"GET /headers HTTP/1.0\r\n\r\n").body
        assert dict(fields(head))["host"] == f"127.0.0.1:{gateway.port}"
        assert dict(fields(head))["via"].startswith("1.0 ")


def test_pipelined_requests_are_answered_in_order(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1", "app2")))
    sizes = [1, 30000, 2, 5, 100000, 3]
    with RawClient(gateway.port) as client:
        client.send(b"".join(b"GET /bytes/%d HTTP/1.1\r\nHost: a\r\n\r\n" % size for size in sizes))
        assert [len(client.response().body) for _ in sizes] == sizes
        client.send(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                    b"POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
                    b"GET /bytes/4 HTTP/1.1\r\nHost: a\r\n\r\n")  # fmt: skip
        assert [client.response().body for _ in range(3)] == [b"3", b"2", b"abcd"]


def test_a_head_may_come_byte_by_byte(lend_gateway: Starter, start_servers: Servers) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(site([server]))
    with RawClient(gateway.port) as client:
        for byte in b"\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /bytes/2 HTTP/1.1\r\nHost: a\r\n\r\n":
            client.send(bytes([byte]))
        assert client.response().body.endswith(b"\r\n\r\nabc")
        assert client.response().body == b"ab"


def test_connections_to_servers_are_used_again(lend_gateway: Starter, start_servers: Servers) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(site([server]))
    before = server.connections
    for _ in range(3):
        with RawClient(gateway.port) as client:
            for _ in range(50):
                client.get("/bytes/10")
                client.get("/chunked/10")
    assert server.connections - before == 1


def pushed_until_blocked(connection: socket.socket) -> int:
    """Send chunks for as long as the gateway takes them; how many bytes that were. Raises AssertionError."""
    for count in range(1, 5000):
        connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        try:
            eventually(lambda: unread(connection) == 0, "the gateway to read", 0.3)
        except AssertionError:
            return count * 0x10000
    raise AssertionError("the gateway takes what its client does not read")


def drained(client: socket.socket) -> int:
    """Read what is under way from a client that was stopped; how many bytes that were."""
    client.settimeout(0.3)
    total = 0
    with contextlib.suppress(TimeoutError):
        while data := client.recv(1 << 16):
            total += len(data)
    client.settimeout(10)
    return total


def rest_of_chunks(client: socket.socket) -> int:
    """Read up to the last chunk; how many bytes that were."""
    total, end = 0, b""
    while not end.endswith(b"\r\n0\r\n\r\n"):
        data = client.recv(1 << 16)
        assert data
        total += len(data)
        end = (end + data)[-7:]
    return total


def test_an_event_older_than_a_rest_costs_no_connection(lend_gateway: Starter) -> None:
    """In one turn of the loop the client has room again and the server sends the end of its answer.

    The client's event makes the worker read that end; the server's own event comes when its connection is idle again,
    and must not be taken for a server that sends unrequested bytes.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        gateway = lend_gateway({**site([]), "backends": {"app": {"servers": [address]}}})
        worker = gateway.workers()[0]
        with RawClient(gateway.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                read_head(connection)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                size = pushed_until_blocked(connection)
                os.kill(worker, signal.SIGSTOP)
                try:
                    eventually(lambda: psutil.Process(worker).status() == "stopped", "the worker to stop")
                    waiting = unread(connection)
                    taken = drained(client.socket)
                    connection.sendall(b"0\r\n\r\n")
                    eventually(lambda: unread(connection) == waiting + 5, "the end to arrive")
                finally:
                    os.kill(worker, signal.SIGCONT)
                assert taken + rest_of_chunks(client.socket) > size
                client.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
                assert read_head(connection).startswith(b"GET /next ")
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                assert client.response().status == 204


def test_routes_redirect_respond_and_end_in_404(lend_gateway: Starter, start_servers: Servers) -> None:
    description = site(start_servers("app1"))
    description["routes"] = [
        {"match": {"host": "old.example.com"}, "redirect": {"to": "https://new.example.com{uri}", "status": 308}},
        {"match": {"path": "/old/"}, "redirect": {"to": "/new/{path_rest}?from={client}&q={query}", "status": 301}},
        {"match": {"path": "= /hello"}, "respond": {"status": 200, "body": "hi\n", "headers": {"X-Mine": "1"}}},
        {"match": {"path": "/blocked/"}, "respond": {"status": 403}},
        {"match": {"path": "/bytes/"}, "backend": "app"},
    ]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        moved = client.get("/a%2Cb/../c?x=1", host="OLD.example.com:80")
        assert (moved.status, moved.header("Location")) == (308, "https://new.example.com/c?x=1")
        moved = client.get("/old/a/b?x=1")
        assert (moved.status, moved.header("Location")) == (301, "/new/a/b?from=127.0.0.1&q=x=1")
        hello = client.get("/hello")
        assert (hello.status, hello.body, hello.header("X-Mine")) == (200, b"hi\n", "1")
        assert hello.header("Content-Type") == "text/plain; charset=utf-8"
        assert hello.header("Date")
        assert client.ask(b"HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD").header("Content-Length") == "3"
        assert client.get("/blocked/x").status == 403
        assert client.get("/hello/x").status == 404
        assert client.get("/bytes/1").status == 200


def test_no_client_chooses_the_host_of_a_redirect(lend_gateway: Starter) -> None:
    description = {**site([]), "backends": {}}
    description["routes"] = [
        {"match": {"path": "/go"}, "redirect": "/{path_rest}"},
        {"match": {"path": "/"}, "redirect": "{path}/"},
    ]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        assert client.get("/go//evil.com").header("Location") == "/evil.com"
        assert client.get("/go/evil.com").header("Location") == "/evil.com"
        assert client.get("//evil.com").header("Location") == "/evil.com/"
        assert client.get("/a//b").header("Location") == "/a/b/"


def test_nothing_a_client_sends_splits_a_location(lend_gateway: Starter) -> None:
    description = {**site([]), "backends": {}}
    description["routes"] = [{"match": {"path": "/go/"}, "redirect": "https://x/{path_rest}"}]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        moved = client.get("/go/%0d%0aSet-Cookie:x=1")
        assert moved.header("Location") == "https://x/%0D%0ASet-Cookie:x=1"
        assert moved.header("Set-Cookie") is None


@pytest.mark.parametrize("line, dates", [
    ("", 1), ("Date: Sat, 28 Nov 2026 07:00:00 GMT\r\n", 1), ("date: x\r\n", 1), ("Date: a\r\nDate: b\r\n", 2),
])  # fmt: skip
def test_an_answer_without_a_date_gets_one(lend_gateway: Starter, line: str, dates: int) -> None:
    """RFC 9110 section 6.6.1."""
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{line}\r\nok".encode()
    with RawServer(replies(answer)) as server:
        gateway = lend_gateway({**site([]), "backends": {"app": {"servers": [server.address]}}})
        with RawClient(gateway.port) as client:
            found = [value for name, value in client.get().fields if name.lower() == "date"]
    assert len(found) == dates
    assert line or abs(parsedate_to_datetime(found[0]).timestamp() - time.time()) < 60


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
def test_max_forwards_is_counted_down_and_answered_at_0(
    lend_gateway: Starter, start_servers: Servers, method: str
) -> None:
    """RFC 9110 section 7.6.2."""
    gateway = lend_gateway(site(start_servers("app1")))
    with RawClient(gateway.port) as client:

        def ask(*more: str, method: str = method) -> Response:
            lines = (f"{method} /headers HTTP/1.1", "Host: a", *more, "", "")
            return client.ask("\r\n".join(lines).encode(), method)

        for sent, arrives in (("3", "2"), ("1", "0"), ("007", "6"), ("99999999999999999999", "999999998")):
            assert dict(fields(ask(f"Max-Forwards: {sent}").body))["max-forwards"] == arrives
        answer = ask("Max-Forwards: 0")
        assert (answer.status, answer.body) == ({"OPTIONS": 200, "TRACE": 405}[method], b"")
        assert "GET" in (answer.header("Allow") or "")
        assert "max-forwards" not in dict(fields(ask().body))
        assert dict(fields(ask("Max-Forwards: 0", method="GET").body))["max-forwards"] == "0"
    for bad in (
        ("Max-Forwards: -1",),
        ("Max-Forwards:",),
        ("Max-Forwards: 1", "Max-Forwards: 1"),
        ("Max-Forwards: x",),
    ):
        with RawClient(gateway.port) as client:
            assert ask(*bad).status == 400


def test_a_server_may_pad_the_size_of_a_chunk_and_a_client_may_not(
    lend_gateway: Starter, start_servers: Servers
) -> None:
    """What comes from a server is written anew, so that no two can read it in two ways."""
    body = b"2   \r\nok\r\n3\t;x=y\r\nabc\r\n0  \r\n\r\n"
    with RawServer(replies(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)) as server:
        gateway = lend_gateway({**site([]), "backends": {"app": {"servers": [server.address]}}})
        with RawClient(gateway.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read(b"0\r\n\r\n").endswith(b"\r\n\r\n2\r\nok\r\n3\r\nabc\r\n0\r\n\r\n")
        gateway.reload({**gateway.site, "backends": site(start_servers("app1"))["backends"]})
        with RawClient(gateway.port) as client:
            client.send(b"POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            assert client.response("POST").status == 400
