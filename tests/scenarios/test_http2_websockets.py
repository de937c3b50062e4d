"""WebSockets over HTTP/2 (RFC 8441): a stream of the client is a connection of its own to the server."""

import base64
import contextlib
import hashlib
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from h2.settings import SettingCodes
from websockets.frames import Frame, Opcode

from tests.support.browser import Browser
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.http2_client import Answer, Http2Client
from tests.support.programs import needs
from tests.support.raw_server import RawServer, Script, replies
from tests.support.waiting import eventually, free_port
from tests.support.websocket_server import echo_server

Starter = Callable[[Site], GatewayProcess]
Stage = tuple[GatewayProcess, RawServer]

PROTOCOL_ERROR, CANCEL = 1, 8
PROOF = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LARGE = bytes(range(256)) * 4000


def agreement(head: bytes, *lines: str) -> bytes:
    """The 101 of a server that has understood the key."""
    key = re.search(rb"\r\nSec-WebSocket-Key: (.{24})\r\n", head)
    assert key is not None, head
    accept = base64.b64encode(hashlib.sha1(key[1] + PROOF).digest()).decode()
    fields = ["Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {accept}", *lines]
    return ("HTTP/1.1 101 Switching Protocols\r\n" + "\r\n".join(fields) + "\r\n\r\n").encode()


def agrees(then: Script) -> Script:
    """A server's script that begins with the agreement."""

    def script(connection: socket.socket, head: bytes) -> None:
        connection.sendall(agreement(head))
        then(connection, head.partition(b"\r\n\r\n")[2])

    return script


def echo(connection: socket.socket, data: bytes) -> None:
    """Send back what comes, and say goodbye when the client has."""
    connection.sendall(data)
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.sendall(b"bye")


def description(*addresses: str, **backend: Any) -> dict[str, Any]:
    made = {**site([]), "backends": {"app": {"servers": list(addresses), **backend}}}
    made["frontends"][0]["http2"] = True
    made["access_log"] = {"path": "-", "format": "json"}
    return made


def opening(path: str = "/chat", protocol: str = "websocket") -> list[tuple[str, str]]:
    return [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("sec-websocket-version", "13"),
    ]


def connect(client: Http2Client, *fields: tuple[str, str], path: str = "/chat") -> tuple[int, Answer]:
    """Open a WebSocket: its stream, and what has come for that."""
    stream = client.send_head([*opening(path), *fields], end=False)
    answer = client.answers[stream]
    client.until(lambda: answer.status != 0 or answer.reset is not None, "an answer")
    return stream, answer


ANSWERS = {
    "no-switch": (replies(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), 502, "success that is not 101"),
    "no-proof": (
        replies(b"HTTP/1.1 101 Sure\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), 502, "does not match the key",
    ),
    "old-proof": (
        replies(
            b"HTTP/1.1 101 Sure\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        ),
        502, "does not match the key",
    ),
    "another": (
        replies(b"HTTP/1.1 101 Sure\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"), 502, "did not ask for",
    ),
    "refusal": (replies(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"), 403, ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One gateway before one server, whose script each test sets; each of its backends has log lines of its own."""
    with RawServer(replies(b"")) as server:
        made = description(server.address)
        made["backends"] |= {name: {"servers": [server.address]} for name in ANSWERS}
        made["routes"] = [
            *({"match": {"path": f"/{name}"}, "backend": name} for name in ANSWERS),
            {"match": {"path": "/closed"}, "respond": {"status": 403}},
            {"match": {"path": "/limited"}, "rate": "1/h"},
            {"match": {"path": "/idle"}, "backend": "app", "timeouts": {"tunnel": "300ms"}},
            *made["routes"],
        ]
        with GatewayProcess(tmp_path_factory.mktemp("stage"), made) as gateway:
            yield gateway, server


@contextlib.contextmanager
def opened(stage: Stage, then: Script) -> Iterator[tuple[GatewayProcess, Http2Client]]:
    """A client of the gateway before the server, which agrees, and runs `then`."""
    gateway, server = stage
    server.script = agrees(then)
    with Http2Client(gateway.port) as client:
        yield gateway, client


def logged(gateway: GatewayProcess, outcome: str, count: int = 1, since: int = 0) -> None:
    """Wait for that many lines with that outcome behind the first `since` characters of the log."""
    wanted = f'"outcome":"{outcome}"'
    eventually(lambda: gateway.output[since:].count(wanted) >= count, f"{outcome} in the log, {count} times")


def test_messages_go_both_ways(start_gateway: Starter) -> None:
    port = free_port()
    with echo_server(port, "chat") as handshakes:
        gateway = start_gateway(description(f"127.0.0.1:{port}", affinity={"cookie": "SRV"}))
        with Http2Client(gateway.port) as client:
            client.until(
                lambda: bool(client.connection.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL)), "8441"
            )
            mine = (("sec-websocket-protocol", "chat"), ("origin", "http://localhost"), ("sec-websocket-key", "x"))
            stream, answer = connect(client, *mine)
            assert (answer.status, answer.header("sec-websocket-protocol")) == (200, "chat")
            assert answer.header("set-cookie") is not None
            assert answer.header("x-request-id") is not None
            for name in ("sec-websocket-accept", "upgrade", "connection", "content-length", "transfer-encoding"):
                assert answer.header(name) is None
            other, _ = connect(client, *mine)
            for n in range(300):  # small ones, which are no abuse
                message = Frame(Opcode.TEXT, b"message %d" % n)
                client.send_body(stream, message.serialize(mask=True), end=False)
            large = Frame(Opcode.BINARY, LARGE)
            client.send_body(other, large.serialize(mask=True), end=False)
            wanted = b"".join(Frame(Opcode.TEXT, b"message %d" % n).serialize(mask=False) for n in range(300))
            client.until(lambda: len(answer.body) >= len(wanted), "every message")
            assert answer.body == wanted
            client.until(lambda: client.answers[other].body == large.serialize(mask=False), "the large one")
            farewell = Frame(Opcode.CLOSE, struct.pack(">H", 1000))
            client.send_body(stream, farewell.serialize(mask=True))
            assert client.wait(stream).body == wanted + farewell.serialize(mask=False)
            logged(gateway, "ok")
    (handshake, _) = handshakes
    assert handshake.path == "/chat"
    assert handshake.headers["Origin"] == "http://localhost"
    assert len(base64.b64decode(handshake.headers["Sec-WebSocket-Key"])) == 16
    assert handshake.headers["X-Forwarded-For"] == "127.0.0.1"
    (line,) = [line for line in gateway.output.splitlines() if '"outcome":"ok"' in line]
    for part in ('"method":"GET"', '"status":101', '"protocol":"HTTP/2.0"', f'"bytes":{len(wanted) + 4}'):
        assert part in line


def test_each_end_closes_for_itself(stage: Stage) -> None:
    with opened(stage, echo) as (gateway, client):
        since = len(gateway.output)
        for ahead in (False, True):  # whether the client ends before the server has agreed
            stream = client.send_head(opening(), end=False)
            if ahead:
                client.send_body(stream, b"ahead")
            else:
                client.until(lambda: client.answers[stream].status == 200, "the agreement")  # noqa: B023
                client.send_body(stream, LARGE)
            answer = client.wait(stream)
            assert answer.body == (b"ahead" if ahead else LARGE) + b"bye"
            assert (answer.ended, answer.reset) == (True, None)
        logged(gateway, "ok", 2, since)


def test_a_server_may_end_first(stage: Stage) -> None:
    heard: list[bytes] = []

    def talk(connection: socket.socket, data: bytes) -> None:
        connection.sendall(LARGE)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            data += piece
        heard.append(data)

    with opened(stage, talk) as (gateway, client):
        since = len(gateway.output)
        stream, _ = connect(client)
        answer = client.wait(stream)
        assert (answer.body, answer.ended, answer.reset) == (LARGE, True, None)
        client.send_body(stream, LARGE)
        eventually(lambda: heard == [LARGE], "all to arrive at the server")
        logged(gateway, "ok", 1, since)


def test_windows_are_kept_from_end_to_end(stage: Stage) -> None:
    """What the client does not take stays with the server, and the other way round; other streams go on."""
    sent: list[int] = [0]

    def flood(connection: socket.socket, _: bytes) -> None:
        while True:
            sent[0] += connection.send(bytes(65536))

    gateway, server = stage
    server.script = agrees(flood)
    since = len(gateway.output)
    with Http2Client(gateway.port, window=1000, takes=False) as client:
        stream, answer = connect(client)
        client.until(lambda: len(answer.body) == 1000, "its window to be full")
        before = -1
        while sent[0] != before:  # the buffers of the kernel are full
            before = sent[0]
            assert before < 30_000_000, "nothing holds the server back"
            client.connection.ping(b"12345678")
            client.flush()
            client.read()
        client.connection.increment_flow_control_window(5000, stream)
        client.flush()
        client.until(lambda: len(answer.body) == 6000, "what was let in")
        client.connection.reset_stream(stream, CANCEL)
        client.flush()
    logged(gateway, "tunnel_cut_by_client", 1, since)


def test_a_server_that_does_not_read_stops_its_client(stage: Stage) -> None:
    over: list[bool] = []

    def wait(connection: socket.socket, _: bytes) -> None:
        eventually(lambda: over, "the client to be stopped")
        while connection.recv(1 << 20):
            pass
        connection.sendall(b"all of it")

    with opened(stage, wait) as (_, client):
        stream, answer = connect(client)
        client.socket.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            for _ in range(3000):  # 50 MB
                room = min(client.connection.local_flow_control_window(stream), 16384)
                if room:
                    client.connection.send_data(stream, bytes(room))
                    client.flush()
                else:
                    client.read()
            pytest.fail("nothing stops the client")
        client.socket.settimeout(10.0)
        over.append(True)
        client.send_body(stream, b"the rest")
        assert client.wait(stream).body == b"all of it"
        assert answer.ended


def test_a_reset_of_one_side_is_a_reset_of_the_other(stage: Stage) -> None:
    heard: list[bytes] = []

    def reset(connection: socket.socket, _: bytes) -> None:
        if connection.recv(1) == b"r":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        else:
            heard.append(connection.recv(1))

    since = len(stage[0].output)
    with opened(stage, reset) as (gateway, client):
        stream, _ = connect(client)
        client.send_body(stream, b"r", end=False)
        assert client.wait(stream).reset == CANCEL
        logged(gateway, "tunnel_cut_by_server", 1, since)
        stream, _ = connect(client)
        client.send_body(stream, b"s", end=False)
        client.connection.reset_stream(stream, CANCEL)
        client.flush()
        eventually(lambda: heard == [b""], "the server to see the end")
        logged(gateway, "tunnel_cut_by_client", 1, since)
        connect(client)
    logged(gateway, "tunnel_cut_by_client", 2, since)  # at the end of the connection, too


def test_a_silent_tunnel_ends(stage: Stage) -> None:
    with opened(stage, echo) as (gateway, client):
        stream, _ = connect(client, path="/idle")
        assert client.wait(stream).reset == CANCEL
        logged(gateway, "tunnel_idle")


def test_only_data_may_come_in_a_tunnel(stage: Stage) -> None:
    with opened(stage, echo) as (gateway, client):
        stream, _ = connect(client)
        client.connection.send_headers(stream, [("a", "b")], end_stream=True)
        client.flush()
        assert client.wait(stream).reset == PROTOCOL_ERROR
        logged(gateway, "http2_error")


REFUSED = {
    "another protocol": (opening(protocol="connect-udp"), 501),
    "plain CONNECT": ([(":method", "CONNECT"), (":authority", "a:443")], 501),
    "no path": ([field for field in opening() if field[0] != ":path"], 400),
    "not CONNECT": ([(":method", "GET"), *opening()[1:]], 400),
    "a length": ([*opening(), ("content-length", "3")], 400),
    "Upgrade": ([*opening(), ("upgrade", "websocket")], 400),
}


def test_what_is_no_websocket_is_refused(stage: Stage) -> None:
    gateway, server = stage
    before, since = server.connections, len(gateway.output)
    with Http2Client(gateway.port) as client:
        for name, (fields, status) in REFUSED.items():
            stream = client.send_head(fields, end=False)
            assert client.wait(stream).status == status, name
    logged(gateway, "refused", len(REFUSED), since)
    assert server.connections == before


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_open_no_tunnel(stage: Stage, name: str) -> None:
    gateway, server = stage
    server.script, status, said = ANSWERS[name]
    with Http2Client(gateway.port) as client:
        stream, _ = connect(client, path=f"/{name}")
        answer = client.wait(stream)
        assert answer.status == status
        assert said or answer.body == b"no"
        if said:
            gateway.wait_for_log(said)


def test_rules_and_limits_apply(stage: Stage) -> None:
    with opened(stage, echo) as (_, client):
        stream = client.send_head(opening("/closed"), end=False)
        assert client.wait(stream).status == 403
        stream, answer = connect(client, path="/limited")
        assert answer.status == 200
        stream, _ = connect(client, path="/limited")
        assert client.wait(stream).status == 429


def test_a_gateway_that_ends_ends_its_tunnels(start_gateway: Starter) -> None:
    with RawServer(agrees(echo)) as server:
        gateway = start_gateway({**description(server.address), "drain": "500ms"})
        with Http2Client(gateway.port) as client:
            stream, answer = connect(client)
            gateway.process.terminate()
            client.until(lambda: bool(client.goaways), "the first GOAWAY")
            client.send_body(stream, b"still there", end=False)
            client.until(lambda: answer.body == b"still there", "the tunnel to work")
            client.until_closed()
        assert gateway.process.wait(10.0) == 0
        assert '"outcome":"stopped"' in gateway.output


PAGE = """<script>
const heard = [];
const socket = new WebSocket(location.origin.replace("http", "ws") + "/chat", "chat");
socket.onmessage = event => heard.push(event.data);
socket.onopen = () => socket.send("hello");
socket.onerror = () => heard.push("an error");
</script>"""


@needs("chromium")
def test_a_browser_uses_one_connection_for_pages_and_websockets(
    start_gateway: Starter, authority: Authority, tmp_path: Path
) -> None:
    port = free_port()
    with echo_server(port, "chat") as handshakes:
        made = description(f"127.0.0.1:{port}")
        made["frontends"][0]["tls"] = {"certificates": [authority.issue("localhost").as_site()]}
        page = {"status": 200, "body": PAGE, "type": "text/html"}
        made["routes"] = [{"match": {"path": "/page"}, "respond": page}, *made["routes"]]
        gateway = start_gateway(made)
        with Browser(tmp_path) as browser:
            browser.command("Security.setIgnoreCertificateErrors", ignore=True)
            browser.open(f"https://localhost:{gateway.port}/page")
            browser.wait("heard.length === 1", "the echo")
            assert browser.run("heard[0] + socket.protocol") == "hellochat"
            browser.run("socket.send('x'.repeat(1000000))")
            browser.wait("heard.length === 2 && heard[1].length === 1000000", "the large one")
            browser.run("new Promise(done => { socket.onclose = e => done(e.code); socket.close(1000) })")
        eventually(lambda: '"status":101' in gateway.output, "the tunnel in the log")
    assert len(handshakes) == 1
    tunnels = [line for line in gateway.output.splitlines() if '"status":101' in line]
    assert len(tunnels) == 1
    assert '"protocol":"HTTP/2.0"' in tunnels[0]
