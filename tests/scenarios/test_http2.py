"""HTTP/2 from clients: requests, bodies and windows, over TLS and without it."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support import hardened
from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.http2_client import Answer, Http2Client
from tests.support.origin import filler
from tests.support.programs import needs, run
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


@dataclass(frozen=True)
class Entrance:
    """A gateway that speaks HTTP/2, with TLS or without."""

    gateway: GatewayProcess
    server: BackendServer
    authority: Authority | None

    def client(self, window: int | None = None, *, takes: bool = True) -> Http2Client:
        context = self.authority.client_context() if self.authority else None
        return Http2Client(self.gateway.port, context, window, takes=takes)

    def raw(self) -> RawClient:
        return RawClient(self.gateway.port, self.authority.client_context() if self.authority else None)


def make_entrance(kind: str, start: Starter, servers: list[BackendServer], authority: Authority) -> Entrance:
    (server,) = servers
    description = site([server])
    description["frontends"][0]["http2"] = True
    description["access_log"] = {"path": "-", "format": "json"}
    if kind == "tls":
        description["frontends"][0]["tls"] = {"certificates": [authority.issue("localhost").as_site()]}
    return Entrance(start(description), server, authority if kind == "tls" else None)


@pytest.fixture(params=["plain", "tls"])
def entrance(
    request: pytest.FixtureRequest, lend_gateway: Starter, start_servers: Servers, authority: Authority
) -> Entrance:
    return make_entrance(request.param, lend_gateway, start_servers("app1"), authority)


@pytest.fixture(params=["plain", "tls"])
def fresh_entrance(
    request: pytest.FixtureRequest, start_gateway: Starter, start_servers: Servers, authority: Authority
) -> Entrance:
    """A gateway that was started for this test."""
    return make_entrance(request.param, start_gateway, start_servers("app1"), authority)


def test_requests_are_answered(entrance: Entrance) -> None:
    with entrance.client() as client:
        answer = client.get("/bytes/10")
        assert (answer.status, answer.body) == (200, b"abcdefghij")
        assert answer.header("content-length") == "10"
        assert answer.header("x-server") == "app1"
        assert answer.header("via") is not None
        assert [name for name, _ in answer.fields if name in {"connection", "transfer-encoding", "keep-alive"}] == []
    eventually(lambda: '"protocol":"HTTP/2.0"' in entrance.gateway.output, "the log to say HTTP/2.0")


def test_the_table_of_hpack_keeps_no_field_that_is_new_each_time(entrance: Entrance) -> None:
    with entrance.client() as client:
        ids = {client.get("/bytes/10").header("x-request-id") for _ in range(3)}
        kept = {name for name, _ in client.connection.decoder.header_table.dynamic_entries}
    assert len(ids) == 3
    assert None not in ids
    assert b"x-server" in kept
    assert b"x-request-id" not in kept


def test_clients_of_http_1_are_served_as_well(entrance: Entrance) -> None:
    with entrance.raw() as client:
        for _ in range(2):
            assert client.get("/bytes/10").body == b"abcdefghij"
    with entrance.raw() as client:
        for piece in (b"P", b"RI HTTP/1.1\r\n\r\n"):
            client.send(piece)
        assert client.response().status == 400


def test_bodies_of_all_sizes_both_ways(entrance: Entrance) -> None:
    with entrance.client() as client:
        for size in (0, 1, 16383, 16384, 16385, 65535, 131072, 1_500_000):
            assert client.get(f"/bytes/{size}").body == filler(size)
            assert client.get(f"/chunked/{size}").body == filler(size)
            assert client.get(f"/close-delimited/{size}").body == filler(size)
            assert client.post("/sink", bytes(size)).body == b"%d" % size
            assert client.post("/sink", bytes(size), ("content-length", str(size))).body == b"%d" % size


def test_many_streams_at_a_time(entrance: Entrance) -> None:
    with entrance.client() as client:
        sizes = {client.begin(f"/bytes/{size}"): size for size in range(0, 100_000, 2000)}
        for stream, size in sizes.items():
            assert client.wait(stream).body == filler(size)


def test_servers_get_http_1_with_one_host_and_one_cookie(entrance: Entrance) -> None:
    with entrance.client() as client:
        fields = (
            ("cookie", "a=1"),
            ("accept", "*/*"),
            ("cookie", "b=2"),
            ("te", "trailers"),
            ("x-forwarded-for", "9.9.9.9"),
        )
        head = client.get("/headers", *fields).body.decode()
    first, *lines = head.split("\r\n")
    assert first == "GET /headers HTTP/1.1"
    assert lines.count("Host: localhost") == 1
    assert lines.count("cookie: a=1; b=2") == 1
    assert "9.9.9.9" not in head
    assert any(line.startswith("Via: 2.0 ") for line in lines)
    assert f"X-Forwarded-Proto: {'https' if entrance.authority else 'http'}" in lines


def test_head_has_a_length_and_no_body(entrance: Entrance) -> None:
    with entrance.client() as client:
        answer = client.get("/bytes/1000", method="HEAD")
        assert (answer.status, answer.header("content-length"), answer.body) == (200, "1000", b"")
        for status in (204, 304):
            assert client.get(f"/status/{status}").status == status


def test_interim_answers_and_trailers_come_through(entrance: Entrance) -> None:
    with entrance.client() as client:
        early = client.get("/interim/10")
        assert (early.interims, early.status, early.body) == ([103], 200, b"abcdefghij")
        assert any(name == "link" for name, _ in early.interim_fields[0])
        answer = client.get("/trailers/3000")
        assert answer.body == filler(3000)
        assert answer.trailers != []
        stream = client.begin("/echo", ("te", "trailers"), method="POST", end=False)
        client.connection.send_data(stream, b"body")
        client.connection.send_headers(stream, [("x-checksum", "7"), ("host", "evil")], end_stream=True)
        client.flush()
        body = client.wait(stream).body
        assert b"4\r\nbody\r\n0\r\nx-checksum: 7\r\n\r\n" in body
        assert b"evil" not in body


def test_own_answers_of_the_gateway(entrance: Entrance) -> None:
    with entrance.client() as client:
        answer = client.send_head([(":method", "GET"), (":scheme", "http"), (":path", "/%2e%00"), (":authority", "a")])
        assert client.wait(answer).status == 400
        assert client.get("/").status == 200
        entrance.server.kill()
        assert client.get("/").status == 502
        assert client.get("/", method="HEAD").body == b""


def test_a_slow_reader_stops_its_own_server_only(entrance: Entrance) -> None:
    with entrance.client(window=1000, takes=False) as client:
        slow = client.begin("/bytes/5000000")
        client.until(lambda: len(client.answers[slow].body) == 1000, "its window to be full")
        for _ in range(3):
            fast = client.begin("/bytes/500")
            assert client.wait(fast).body == filler(500)
        assert len(client.answers[slow].body) == 1000
        for _ in range(6):
            client.connection.increment_flow_control_window(10_000, slow)
            client.flush()
            seen = len(client.answers[slow].body)
            client.until(lambda: len(client.answers[slow].body) == seen + 10_000, "what was let in")  # noqa: B023
        client.connection.reset_stream(slow)
        client.flush()
        assert client.get("/bytes/7").body == b"abcdefg"
    eventually(lambda: '"outcome":"client_left"' in entrance.gateway.output, "the reset to be logged")


def test_an_upload_waits_for_its_server(entrance: Entrance) -> None:
    with entrance.client() as client:
        stream = client.begin("/sink?rate=100000", method="POST", end=False)
        sent = 0
        while client.connection.local_flow_control_window(stream) > 0:
            n = min(16384, client.connection.local_flow_control_window(stream))
            client.connection.send_data(stream, bytes(n))
            client.flush()
            sent += n
            assert sent < 20_000_000, "nothing holds the client back"
            if client.connection.local_flow_control_window(stream) == 0 and sent < 200_000:
                client.read()
        for _ in range(5):
            assert client.get("/bytes/5").body == b"abcde"
        client.connection.reset_stream(stream)
        client.flush()
        assert client.get("/bytes/5").body == b"abcde"


def test_uploads_that_wait_for_a_connection(entrance: Entrance) -> None:
    """The body comes with the head, before any server is there."""
    with entrance.client() as client:
        streams = {}
        for size in (0, 1, 1000, 30000):
            stream = client.connection.get_next_available_stream_id()
            client.connection.send_headers(stream, client.head("/sink", method="POST"))
            client.answers[stream] = Answer()
            for at in range(0, size, 16384):
                client.connection.send_data(stream, bytes(min(16384, size - at)))
            client.connection.end_stream(stream)
            streams[stream] = size
        client.flush()
        for stream, size in streams.items():
            assert client.wait(stream).body == b"%d" % size


def test_broken_answers_are_resets(entrance: Entrance) -> None:
    with entrance.client() as client:
        answer = client.get("/truncated/1000")
        assert (answer.status, answer.ended, answer.reset) == (200, False, 2)
        eventually(lambda: '"outcome":"response_cut"' in entrance.gateway.output, "the server's fault in the log")
        assert client.get("/reset").status == 502
        assert client.get("/bytes/5").body == b"abcde"


def test_a_client_that_leaves_frees_its_servers(entrance: Entrance) -> None:
    with entrance.client() as client:
        for _ in range(5):
            client.begin("/hang")
        eventually(lambda: entrance.server.count == 5, "five requests to be there")
    eventually(lambda: entrance.gateway.output.count('"outcome":"client_left"') == 5, "all to be ended")


def test_draining_loses_no_request(fresh_entrance: Entrance) -> None:
    with fresh_entrance.client() as client:
        slow = client.begin("/delay/1.5")
        assert client.get("/bytes/1").status == 200
        fresh_entrance.gateway.process.terminate()
        client.until(lambda: bool(client.goaways), "the first GOAWAY")
        assert client.goaways[0] == (2**31 - 1, 0)
        assert client.get("/bytes/1").status == 200
        assert client.wait(slow).status == 200
        client.until(lambda: len(client.goaways) > 1, "the second GOAWAY")
        assert client.goaways[1] == (5, 0)
        client.until_closed()
    assert fresh_entrance.gateway.process.wait(10.0) == 0


@pytest.mark.skipif(bool(hardened.PRELOADED), reason="AddressSanitizer keeps memory that was freed")
@pytest.mark.parametrize("fresh_entrance", ["tls"], indirect=True)
def test_idle_connections_give_back_memory_that_they_do_not_need(fresh_entrance: Entrance) -> None:
    """bench/memory.py measures how much remains."""
    description = dict(fresh_entrance.gateway.site)
    description["frontends"][0]["limits"] = {"idle_timeout": "3s", "connections_per_source": 1000}
    fresh_entrance.gateway.reload(description)
    worker = psutil.Process(fresh_entrance.gateway.workers()[0])
    with contextlib.ExitStack() as stack:
        clients = []
        for number in (50, 100):
            before = worker.memory_info().rss
            clients = [stack.enter_context(fresh_entrance.client()) for _ in range(number)]
            for client in clients:
                assert client.get("/bytes/10").status == 200
        eventually(lambda: worker.memory_info().rss - before < 100 * 36_000, "36 KB of each connection")
        for client in clients[:20]:
            assert client.get("/bytes/10").body == b"abcdefghij"
            assert client.get("/bytes/100000").body == filler(100_000)
        clients[-1].until_closed()
        assert clients[-1].goaways == [(1, 0)]


def test_an_idle_connection_is_told_goodbye(entrance: Entrance) -> None:
    description = dict(entrance.gateway.site)
    description["frontends"][0]["limits"] = {"idle_timeout": "300ms"}
    entrance.gateway.write(description)
    entrance.gateway.reload()
    with entrance.client() as client:
        assert client.get("/").status == 200
        client.until_closed()
        assert client.goaways == [(1, 0)]


@needs("curl")
def test_curl(entrance: Entrance, tmp_path: Path) -> None:
    scheme = "https" if entrance.authority else "http"
    how = "--http2" if entrance.authority else "--http2-prior-knowledge"
    url = f"{scheme}://127.0.0.1:{entrance.gateway.port}"
    body = tmp_path / "body"
    body.write_bytes(filler(3_000_000))
    assert run("curl", "-sk", how, "-w", "%{http_version}", f"{url}/bytes/5") == "abcde2"
    assert run("curl", "-sk", how, "-T", str(body), f"{url}/sink") == "3000000"
    assert len(run("curl", "-sk", how, "--limit-rate", "3M", f"{url}/bytes/2000000")) == 2_000_000
    assert run("curl", "-sk", "--http1.1", "-w", "%{http_version}", f"{url}/bytes/5") == "abcde1.1"


@needs("h2load")
@pytest.mark.parametrize("path", ["/bytes/130", "/bytes/100000"])
def test_h2load(entrance: Entrance, path: str) -> None:
    scheme = "https" if entrance.authority else "http"
    url = f"{scheme}://127.0.0.1:{entrance.gateway.port}{path}"
    said = run("h2load", "-n", "1000", "-c", "5", "-m", "20", url)
    assert "1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout" in said, said
