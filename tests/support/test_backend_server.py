import pytest

from tests.support.backend_server import BackendServer
from tests.support.raw import RawClient
from tests.support.waiting import answers


@pytest.fixture
def server(tmp_path):
    with BackendServer(tmp_path, "app1") as running:
        yield running


@pytest.fixture
def client(server):
    with RawClient(server.port) as connected:
        yield connected


@pytest.mark.parametrize("path", ["/bytes/2500", "/chunked/2500", "/trailers/2500", "/close-delimited/2500"])
def test_every_framing_carries_the_same_body(client, path):
    response = client.get(path)
    assert (response.status, response.header("X-Server")) == (200, "app1")
    assert response.body == (b"abcdefghijklmnopqrstuvwxyz" * 100)[:2500]


def test_echo_is_the_request_byte_for_byte(client):
    head = b"POST /echo HTTP/1.1\r\nhOsT:  x\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"3;a=b\r\nabc\r\n0\r\nT: 1\r\n\r\n"
    assert client.ask(head + body).body == head + body


def test_requests_are_on_record_and_survive_a_kill(server, client):
    client.ask(b"PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
    assert server.count == 1
    server.kill()
    assert not answers("127.0.0.1", server.port)
    server.start()
    with RawClient(server.port) as again:
        again.get("/")
    first, second = server.requests()
    assert (first.body, first.size, second.head.split()[0], server.count) == (b"hello", 5, b"GET", 2)


def test_connection_is_kept_and_numbered(client):
    assert client.get("/").header("X-Connection") == client.get("/").header("X-Connection")


def test_continue_is_said_before_the_body_is_read(client):
    client.send(b"POST /sink HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert client.read(until=b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert client.ask(b"abc").body == b"3"


def test_refuse_answers_before_the_body_is_read(client):
    response = client.ask(b"POST /refuse/413 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "POST")
    assert (response.status, client.is_closed()) == (413, True)


def test_broken_answers(server):
    def answer(path):
        with RawClient(server.port) as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            return client.read()

    assert answer("/truncated/100").endswith(b"\r\n\r\nabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwx")
    assert answer("/reset") == answer("/close") == b""
    assert answer("/garbage").startswith(b"220 ")


def test_head_and_bodyless_statuses_have_no_body(client):
    head = client.ask(b"HEAD /bytes/10 HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD")
    assert (head.header("Content-Length"), head.body) == ("10", b"")
    assert client.get("/status/304").header("Content-Length") is None
    assert client.get("/interim/3").body == b"abc"
