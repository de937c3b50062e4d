"""The connection path under events in any order: the corpus, a short run, and hypothesis' state machine.

`make fuzz` goes on for as long as one likes.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.fuzz import connections, http2_servers
from tests.fuzz.connections import ASKS, HEADLESS, OPERATION, SHAPES, Event, Run, encode, event, perform, site, written
from tests.fuzz.http2 import PING, Http2Client, frame
from tests.fuzz.http2_servers import Http2ServerConn
from tests.fuzz.oracle import Answer, Oracle, Request, Violation
from tests.fuzz.peers import Client, ServerConn
from tests.fuzz.run import CORPUS, failure, fuzz
from tests.fuzz.shelter import Crash, Shelter
from tests.fuzz.shrink import shrink
from tests.fuzz.site import VARIANTS
from tests.fuzz.world import World
from tests.support import hardened

CONNECTION_ERROR = frame(PING, bytes(8), 0, 1)
MOST_SHAPES = max(len(SHAPES), len(http2_servers.SHAPES))
FILES = sorted((CORPUS / "connections").iterdir())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_corpus(path: Path) -> None:
    assert failure("connections", encode(path.read_text())) == ""


def test_a_short_run() -> None:
    shelter = Shelter()
    outcome = shelter.run(lambda: fuzz("connections", 10.0, 1, shelter.note))
    assert outcome.data is None, f"{outcome.error}\n{written(outcome.data)}"
    assert outcome.events > 2000
    assert outcome.behaviours > 500


class Connections(RuleBasedStateMachine):
    """The same events, chosen by hypothesis, which finds the shortest list that fails."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None
        self.failed = False

    @initialize(variant=st.sampled_from(VARIANTS))
    def begin(self, variant: Any) -> None:
        self.world = World(site(), variant)
        self.at_work = Run(self.world)

    def do(self, name: str, who: int = 0, how: int = 0, cut: int = 0, rounds: int = 3) -> None:
        self.guarded(lambda: perform(self.at_work, Event(name, who, how, cut, rounds)))

    def guarded(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException:
            self.failed = True
            raise

    slots = st.integers(0, 2)
    bytes_ = st.integers(0, 255)
    cuts = st.one_of(st.just(0), st.integers(1, 255))
    looks = st.sampled_from((3, 3, 1, 0))

    @rule(who=slots, how=st.sampled_from((0, 1, 2, 32, 64, 96, 28)), rounds=looks)
    def connect(self, who: int, how: int, rounds: int) -> None:
        self.do("connect", who, how, 0, rounds)

    @rule(who=slots, kind=st.integers(0, len(ASKS) - 1), size=st.integers(0, 8), cut=cuts, rounds=looks)
    def request(self, who: int, kind: int, size: int, cut: int, rounds: int) -> None:
        self.do("request", who, kind + len(ASKS) * size, cut, rounds)

    @rule(who=slots, how=bytes_, cut=cuts, rounds=looks, name=st.sampled_from(("malformed", "garbage")))
    def bad_request(self, who: int, how: int, cut: int, rounds: int, name: str) -> None:
        self.do(name, who, how, cut, rounds)

    @rule(who=slots, how=bytes_, rounds=looks, name=st.sampled_from(("go_on", "talk", "half_close", "leave", "stall")))
    def client(self, who: int, how: int, rounds: int, name: str) -> None:
        self.do(name, who, how, 0, rounds)

    @rule(who=slots, kind=st.integers(0, MOST_SHAPES - 1), size=st.integers(0, 6), cut=cuts, rounds=looks)
    def answer(self, who: int, kind: int, size: int, cut: int, rounds: int) -> None:
        assert self.world is not None
        count = len(http2_servers.SHAPES if self.world.variant.h2 else SHAPES)
        self.do("answer", who, (kind % count + count * size) % 256, cut, rounds)

    @rule(
        who=slots,
        how=bytes_,
        rounds=looks,
        name=st.sampled_from(
            ("answer_on", "interim", "server_ends", "unsolicited", "server_stalls", "listener", "server_talks")
        ),
    )
    def server(self, who: int, how: int, rounds: int, name: str) -> None:
        self.do(name, who, how, 0, rounds)

    @rule(who=slots, how=bytes_, what=bytes_, rounds=looks, name=st.sampled_from(("unsolicited", "server_talks")))
    def frames(self, who: int, how: int, what: int, rounds: int, name: str) -> None:
        self.do(name, who, how, what, rounds)

    @rule(how=st.integers(0, 11))
    def time(self, how: int) -> None:
        self.do("time", 0, how)

    @rule(how=st.sampled_from((0, 1, 2, 255)), name=st.sampled_from(("reload", "drain")))
    def worker(self, how: int, name: str) -> None:
        self.do(name, 0, how)

    def teardown(self) -> None:
        world = self.world
        if world is None:
            return
        try:
            if not self.failed:
                self.guarded(world.settle)
                self.guarded(world.finish)
        finally:
            if self.failed:
                with suppress(Exception):
                    world.close()
                site().renew()


TestConnections = pytest.mark.timeout(120)(Connections.TestCase)
TestConnections.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,  # a finding of chance belongs to `make fuzz`, not to an unrelated change
    suppress_health_check=list(HealthCheck),
)


# What must be found: each of these is what the oracle is there for.


@pytest.fixture
def world() -> Any:
    made = World(site(), VARIANTS[0])
    yield made
    made.close()
    site().renew()


def life(world: World, *events: bytes) -> Run:
    run = Run(world)
    for what in connections.events(bytes(4) + b"".join(events)):
        perform(run, what)
    return run


def exchange(world: World) -> tuple[Client, ServerConn]:
    """A client and the server's connection that its request is on."""
    life(world, event("connect"), event("request"))
    client = world.clients[0]
    (conn,) = [conn for origin in world.origins for conn in origin.conns]
    assert client is not None
    return client, conn


def reply(answer: Answer, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nX-Fuzz: %d\r\nContent-Length: %d\r\n\r\n%s" % (answer.number, len(body or answer.body), body or answer.body)  # fmt: skip


def test_the_answer_to_another_request_is_found(world: World) -> None:
    client, conn = exchange(world)
    other = world.answer(Request(77, b"GET", b"", b"", b"", 0, 0), 200, b"other")
    conn.say(reply(other), other)
    with pytest.raises(Violation, match="another request"):
        world.step()
    assert client.next == 0


def test_an_answer_that_differs_is_found(world: World) -> None:
    _, conn = exchange(world)
    answer = world.answer(conn.request, 200, b"right")
    conn.say(reply(answer, b"wrong"), answer)
    with pytest.raises(Violation, match="body of an answer differs"):
        world.step()


def test_an_answer_that_comes_twice_is_found(world: World) -> None:
    _, conn = exchange(world)
    answer = world.answer(conn.request, 200, b"right")
    answer.passed = 1
    conn.say(reply(answer), answer)
    with pytest.raises(Violation, match="came twice"):
        world.step()


def test_an_error_without_a_cause_is_found(world: World) -> None:
    _, conn = exchange(world)
    conn.out += b"garbage\r\n\r\n"
    conn.flush()
    with pytest.raises(Violation, match="answered with an error: 502"):
        world.step()


def test_a_missing_answer_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange(world)
    monkeypatch.setattr("tests.fuzz.world.TIMEOUT", 1)
    monkeypatch.setattr(world, "reply", lambda conn: conn.say(b"", None))
    with pytest.raises(Violation, match="no answer, and no end"):
        world.settle()


def test_a_malformed_request_that_reaches_a_server_is_found(world: World) -> None:
    life(world, event("connect"))
    client = world.clients[0]
    assert client is not None
    wire = b"GET /bad/9 HTTP/1.1\r\nHost: a\r\nX-Id: 9\r\n\r\n"  # nothing is wrong with it but what the oracle is told
    request = world.malformed(client, wire, headless=True)
    client.say(wire, request)
    with pytest.raises(Violation, match="what is malformed"):
        world.step()


@pytest.fixture
def streams() -> Any:
    """A world whose clients speak HTTP/2."""
    made = World(site(), next(variant for variant in VARIANTS if variant.http2))
    yield made
    made.close()
    site().renew()


def two_streams(world: World) -> tuple[Http2Client, list[ServerConn]]:
    """A client with two requests on one connection, and the servers' connections that they are on."""
    life(world, event("connect"), event("request"), event("request"))
    client = world.clients[0]
    assert isinstance(client, Http2Client)
    conns = [conn for origin in world.origins for conn in origin.conns]
    assert len(conns) == len(client.open) == 2
    return client, conns


def test_an_answer_on_another_stream_is_found(streams: World) -> None:
    _, (one, other) = two_streams(streams)
    answer = streams.answer(other.request, 200, b"other")
    one.say(reply(answer), answer)
    with pytest.raises(Violation, match="another request"):
        streams.step()


def test_a_stream_whose_body_differs_is_found(streams: World) -> None:
    _, (conn, _) = two_streams(streams)
    answer = streams.answer(conn.request, 200, b"right")
    conn.say(reply(answer, b"wrong"), answer)
    with pytest.raises(Violation, match="body of an answer differs"):
        streams.step()


def test_a_stream_that_is_cut_is_found(streams: World) -> None:
    client, (conn, other) = two_streams(streams)
    for cut in (conn, other):
        answer = streams.answer(cut.request, 200, b"x" * 100)
        cut.out += reply(answer)[:-50]
        cut.flush()
    streams.step()
    assert all(stream.head is not None for stream in client.open)
    conn.close()
    with pytest.raises(Violation, match="an answer was cut"):
        streams.step()


def test_a_connection_of_http2_that_ends_without_a_cause_is_found(streams: World) -> None:
    client, _ = two_streams(streams)
    client.say(CONNECTION_ERROR)
    with pytest.raises(Violation, match=r"was ended: 1, 0 points"):
        streams.step()


def test_a_malformed_stream_that_reaches_a_server_is_found(streams: World) -> None:
    client, _ = two_streams(streams)
    request = streams.malformed(client, b"", headless=True)
    request.method, request.refused = b"GET", True
    client.ask(request)  # nothing is wrong with it but what the oracle is told
    with pytest.raises(Violation, match="a server got what is no request"):
        streams.step()


@pytest.fixture
def to_http2() -> Any:
    """A world whose servers speak HTTP/2."""
    made = World(site(), next(variant for variant in VARIANTS if variant.h2))
    yield made
    made.close()
    site().renew()


def two_calls(world: World) -> tuple[Client, Http2ServerConn]:
    """A client whose request has one of the server's streams, and a connection that has room for more."""
    life(world, event("connect"), event("connect", 1), event("request"), event("request", 1), event("request", 2))
    client = world.clients[0]
    sessions = [session for session in world.sessions if session.calls]
    assert client is not None
    return client, sessions[0]


def test_an_answer_on_another_stream_of_a_server_is_found(to_http2: World) -> None:
    _, session = two_calls(to_http2)
    (call,) = session.calls.values()
    call.request = Request(77, b"GET", b"", b"", b"", 0, 0)
    session.reply(call)
    with pytest.raises(Violation, match="another request"):
        to_http2.step()


def test_more_streams_than_a_server_allows_are_found(to_http2: World) -> None:
    _, session = two_calls(to_http2)
    session.most = 0
    with pytest.raises(Violation, match="more streams than allowed"):
        life(to_http2, *(event("connect", slot) + event("request", slot) for slot in (2, 3, 4, 5)))


def test_data_beyond_a_server_s_window_is_found(to_http2: World) -> None:
    life(to_http2, event("connect"), event("request"), event("answer"))
    for session in to_http2.sessions:
        session.room = 10
    with pytest.raises(Violation, match="more than its window"):
        life(to_http2, *(event("connect", slot) + event("request", slot, 44) for slot in (1, 2, 3)))


def test_a_request_behind_a_server_s_goaway_is_found(to_http2: World) -> None:
    _, session = two_calls(to_http2)
    session.parted = True  # as if the gateway had seen a GOAWAY
    with pytest.raises(Violation, match="behind GOAWAY"):
        life(to_http2, *(event("connect", slot) + event("request", slot) for slot in (2, 3, 4, 5)))


def test_a_connection_that_outlives_a_broken_rule_is_found(to_http2: World) -> None:
    _, session = two_calls(to_http2)
    session.ruined = True  # nothing is wrong but what the oracle is told
    with pytest.raises(Violation, match="goes on that has broken a rule"):
        to_http2.settle()


def test_a_connection_to_a_server_that_is_ended_without_a_cause_is_found(to_http2: World) -> None:
    _, session = two_calls(to_http2)
    session.say(CONNECTION_ERROR)
    with pytest.raises(Violation, match="a server's connection was ended: 1"):
        to_http2.step()


def test_a_request_that_a_server_gets_twice_is_found() -> None:
    oracle = Oracle(attempts=3)
    request = Request(1, b"POST", b"/r/1", b"", b"", 0, 0)
    oracle.requests[1] = request
    head = connections_head(b"POST /r/1 HTTP/1.1\r\nX-Id: 1\r\n\r\n")
    assert oracle.at_server(head) is request
    with pytest.raises(Violation, match="too often"):
        oracle.at_server(head)


def connections_head(data: bytes) -> Any:
    from tests.fuzz.oracle import take_head  # noqa: PLC0415

    return take_head(bytearray(data), response=False)


def test_a_leak_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.world.TIMEOUT", 1)
    world.settle()
    world.site.board.add_in_flight(world.site.snapshot.slots["app", "s0"], 0, 1)
    with pytest.raises(Violation, match="is in flight"):
        world.finish()


def test_a_fault_that_the_gateway_logs_is_found(world: World) -> None:
    import logging  # noqa: PLC0415

    try:
        raise ValueError("a bug")
    except ValueError:
        logging.getLogger("gateway.proxy.conn").exception("unexpected error")
    with pytest.raises(Violation, match="a bug"):
        world.step()


@pytest.mark.skipif(bool(hardened.KEPT), reason="AddressSanitizer reports a crash in its own way")
def test_a_crash_is_found_and_says_where() -> None:
    def work() -> None:
        shelter.note(b"the input")
        import ctypes  # noqa: PLC0415

        ctypes.string_at(8)

    shelter = Shelter()
    with pytest.raises(Crash) as found:
        shelter.run(work)
    assert found.value.data == b"the input"
    assert "SIGSEGV" in str(found.value)
    assert "in work" in str(found.value)


def test_an_input_is_read_as_it_is_written() -> None:
    for variant in range(len(VARIANTS)):
        data = bytes((variant, 0, 0, 0)) + b"".join(event(name, 1, 2, 3, 0x40) for name in OPERATION)
        assert encode(written(data)) == data


def test_a_finding_is_made_small() -> None:
    def fails(data: bytes) -> bool:
        return b"a" in data[4::4] and b"b" in data[4::4]

    small = shrink(b"head" + b"xxxxa123yyyyzzzzb456" * 3, fails, 4)
    assert small[:4] == b"head"
    assert sorted((small[4:8], small[8:])) == [b"a\0\0\0", b"b\0\0\0"]


def test_every_malformed_request_is_refused() -> None:
    for index in range(len(HEADLESS)):
        data = bytes(4) + event("connect") + event("malformed", 0, 3 * index + 1)
        assert "got 4" in str(connections.run(data)) or "got 5" in str(connections.run(data)), HEADLESS[index][:60]


def test_a_slow_machine_is_no_fault_of_the_gateway() -> None:
    """A client that half-closes 0.9 s after its request has left, for the gateway, if this process then slept."""
    made = World(site(), VARIANTS[0])
    run = Run(made)
    for what in (Event("connect", 0, 0, 0, 3), Event("request", 0, 0, 0, 3), Event("time", 0, 2, 0, 3)):
        perform(run, what)
    time.sleep(0.15)  # as if others had the processor
    perform(run, Event("half_close", 0, 0, 0, 3))
    made.settle()
    made.finish()
