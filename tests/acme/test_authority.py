"""Authorities that are not there, are not who they should be, or send what they should not."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.acme.authority import ANSWER_BYTES, Failed
from gateway.acme.authority import Authority as Asked
from gateway.acme.state import Account
from gateway.acme.wanted import Wanted
from gateway.config.acme import Acme
from tests.support.certificates import Authority
from tests.support.waiting import free_port

Answer = Callable[[BaseHTTPRequestHandler, str], None]


@contextmanager
def server(authority: Authority, answer: Answer) -> Iterator[str]:
    """The URL of a server whose answers to GET and HEAD are what `answer` sends, given its own URL."""
    url = ""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, url)

        do_HEAD = do_POST = do_GET  # noqa: N815 - as above

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = authority.server_context(authority.issue("127.0.0.1"))
    listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    listening.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that turn away
    url = f"https://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield url
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def sends(status: int, body: bytes, **fields: str) -> Answer:
    def answer(to: BaseHTTPRequestHandler, _: str) -> None:
        to.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **fields}.items():
            to.send_header(name.replace("_", "-"), value)
        to.end_headers()
        to.wfile.write(body)

    return answer


def failure(url: str, ca: bytes) -> Failed:
    wanted = Wanted(("a.example.com",), Acme(directory=f"{url}/dir", names=(("a.example.com",),)), ca)
    with pytest.raises(Failed) as caught:
        Asked(f"{url}/dir", wanted, None).order("", lambda _: None)
    return caught.value


@pytest.fixture
def ca(authority: Authority) -> bytes:
    return authority.ca.read_bytes()


def test_one_that_is_not_there(ca: bytes) -> None:
    error = failure(f"https://127.0.0.1:{free_port()}", ca)
    assert (str(error), error.kind) == ("the authority does not answer: connection refused", "unreachable")


def test_one_that_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with server(authority, sends(200, b"{}")) as url:
        error = failure(url, Authority(tmp_path / "other").ca.read_bytes())
    assert "own certificate is not trusted: " in str(error)
    assert str(error).endswith("; name its CA in ca")
    assert error.kind == "unreachable"


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"newNonce": 1}', b'"', b"\xff", b"[" * 100_000])
def test_one_whose_answers_are_no_directory(authority: Authority, ca: bytes, body: bytes) -> None:
    with server(authority, sends(200, body)) as url:
        assert failure(url, ca).kind == "unreachable"


def test_one_whose_answers_do_not_end(authority: Authority, ca: bytes) -> None:
    def answer(to: BaseHTTPRequestHandler, _: str) -> None:
        to.send_response(200)
        to.end_headers()
        while True:
            to.wfile.write(bytes(ANSWER_BYTES // 4))

    with server(authority, answer) as url:
        assert "too long" in str(failure(url, ca))


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_one_whose_answers_come_byte_by_byte(
    authority: Authority, ca: bytes, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.acme.authority.ANSWER_SECONDS", 0.3)

    def answer(to: BaseHTTPRequestHandler, _: str) -> None:
        to.wfile.write(head)
        for _number in range(1000):  # each long before a timeout of its own
            to.wfile.write(b"x")
            time.sleep(0.02)

    began = time.monotonic()
    with server(authority, answer) as url:
        error = failure(url, ca)
        assert (str(error), error.kind) == ("the authority does not answer: the answer is too slow", "unreachable")
        assert time.monotonic() - began < 5


def test_one_that_asks_for_authorizations_without_end(authority: Authority, ca: bytes) -> None:
    asked = []

    def answer(to: BaseHTTPRequestHandler, url: str) -> None:
        asked.append(to.path)
        body = {
            "/dir": {"newNonce": f"{url}/nonce", "newAccount": f"{url}/account", "newOrder": f"{url}/order"},
            "/order": {"status": "pending", "authorizations": [f"{url}/{n}" for n in range(1000)], "finalize": url},
        }.get(to.path, {})
        text = json.dumps(body).encode()
        sends(201, text, Replay_Nonce="bm9uY2U", Location=f"{url}/this")(to, url)

    with server(authority, answer) as url:
        error = failure(url, ca)
    assert (str(error), error.kind) == ("the authority asks for 1000 authorizations, which is too many", "refused")
    assert len(asked) < 10


def test_a_damaged_key_of_an_account_means_another_account(ca: bytes, caplog: pytest.LogCaptureFixture) -> None:
    wanted = Wanted(("a.example.com",), Acme(directory="https://a.example/dir", names=(("a.example.com",),)), ca)
    for key in ("", "damaged", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        caplog.clear()
        assert Asked("https://a.example/dir", wanted, Account(key, "https://a.example/1", 0.0)).account is None
        assert "the account at https://a.example/dir cannot be used" in caplog.text


def test_one_that_leads_to_plain_http(authority: Authority, ca: bytes) -> None:
    with server(authority, sends(302, b"", Location="http://127.0.0.1:1/")) as url:
        error = failure(url, ca)
    assert error.kind == "unreachable"
    assert "no connection adapters" in str(error)


def test_one_that_wants_to_be_left_alone(authority: Authority, ca: bytes) -> None:
    problem = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many orders\x1b[31m" + "x" * 10_000}

    def answer(to: BaseHTTPRequestHandler, url: str) -> None:
        if to.path == "/dir":
            places = {name: f"{url}/{name}" for name in ("newNonce", "newAccount", "newOrder")}
            sends(200, json.dumps(places).encode())(to, url)
        elif to.path == "/newNonce":
            sends(200, b"", Replay_Nonce="AAAA")(to, url)
        else:
            sends(429, json.dumps(problem).encode(), Replay_Nonce="AAAA", Retry_After="7200")(to, url)

    with server(authority, answer) as url:
        error = failure(url, ca)
    assert error.kind == "limited"
    assert 7100 < error.wait <= 7200
    assert "rateLimited: too many orders" in str(error)
    assert "\x1b" not in str(error)
    assert len(str(error)) <= 300
