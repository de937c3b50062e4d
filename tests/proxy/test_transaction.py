"""The life of a request: every edge of its table of states is one that traffic takes, and leaves nothing behind."""

import select
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from gateway.board import DOWN
from gateway.outcome import OUTCOMES
from gateway.proxy.queue import WaitQueue
from gateway.proxy.transaction import STATES, edges, live
from tests.fuzz.connections import site
from tests.fuzz.site import Variant

Edge = tuple[str, str]

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"

ONE_EACH = Variant("one each", queue=True, most=1, attempts=3, retried=(503,))
"""Two servers in turn, s0 and s1, each with room for one request; three may wait, for five seconds."""
QUEUE_MS = 5100
CONNECT_MS = 60_000
"""More than a connection may take."""
LOOK_AGAIN_MS = 3
"""More than a queue waits before it looks for room that another worker has made."""


class Play:
    """The gateway of ONE_EACH, with clients and servers that do what a case says."""

    def __init__(self) -> None:
        self.site = site()
        self.site.begin(ONE_EACH)
        self.servers = {number: self._listen(number) for number in self.site.members}
        self.clients: list[socket.socket] = []
        self.taken: list[socket.socket] = []
        self.before = edges()

    def _listen(self, number: int) -> socket.socket:
        sock = socket.create_server(("127.0.0.1", self.site.ports[number]))
        sock.settimeout(0)
        return sock

    def look(self) -> None:
        """Let the gateway handle what there is, once."""
        self.site.poller.wait(0)

    def until(self, done: Callable[[], object]) -> None:
        events = select.poll()
        events.register(self.site.poller.fd, select.POLLIN)
        for _ in range(300):
            if done():
                return
            events.poll(10)
            self.look()
        raise AssertionError(f"nothing came of it: {dict(self.walked)}")

    @property
    def walked(self) -> Counter[Edge]:
        """The edges taken in this case."""
        return Counter(
            {edge: count - self.before[edge] for edge, count in edges().items() if count > self.before[edge]}
        )

    @property
    def queue(self) -> WaitQueue:
        return self.site.plan.backends["app"].queue

    def ask(self, wire: bytes, edge: Edge) -> socket.socket:
        """Send a request, and let the gateway work until it has taken that edge, and no longer."""
        client = socket.create_connection(self.site.socket.getsockname())
        client.settimeout(5)
        self.clients.append(client)
        self.go_on(edge, lambda: client.sendall(wire))
        return client

    def go_on(self, edge: Edge, event: Callable[[], object]) -> None:
        """Let something happen, and the gateway work until it has taken that edge, and no longer."""
        count = edges()[edge]
        event()
        self.until(lambda: edges()[edge] > count)

    def at_server(self, wire: bytes = GET) -> tuple[socket.socket, socket.socket, int]:
        """Send a request that goes to a server over a new connection: its client, the server's end, which server."""
        client = self.ask(wire, ("connecting", "sent"))
        conn, number = self.accept()
        return client, conn, number

    def accept(self) -> tuple[socket.socket, int]:
        """The connection that has been made to a server, from which the request has been read; and which server."""
        for number, sock in self.servers.items():
            try:
                conn, _ = sock.accept()
            except BlockingIOError:
                continue
            conn.settimeout(5)
            self.taken.append(conn)
            assert conn.recv(4096)
            return conn, number
        raise AssertionError("no server has got a connection")

    def full(self) -> dict[int, tuple[socket.socket, socket.socket]]:
        """Both servers are at work: (client, server's end) by server."""
        found = {}
        for _ in range(2):
            client, conn, number = self.at_server()
            found[number] = client, conn
        assert len(found) == 2
        return found

    def answered(self, client: socket.socket, status: int = 200) -> None:
        """The client gets an answer of that status."""
        client.settimeout(0)
        got = b""

        def read() -> bool:
            nonlocal got
            try:
                got += client.recv(1 << 16)
            except BlockingIOError:
                return False
            return b"\r\n\r\n" in got

        self.until(read)
        assert got.startswith(b"HTTP/1.1 %d " % status)

    def set_state(self, state: int) -> None:
        """Of all servers, as a check finds it."""
        for slot in self.site.snapshot.slots.values():
            self.site.board.set_state(slot, state)

    def refuse(self, number: int) -> None:
        """A server refuses connections from now on."""
        self.servers.pop(number).close()

    def end(self) -> None:
        """Everybody leaves; clients in a way that is no half-close."""
        for sock in self.clients:
            leave(sock)
        for sock in self.taken:
            sock.close()
        self.until(lambda: self.site.passed_through().open == 0)
        for sock in self.servers.values():
            sock.close()
        self.look()
        self.site.end()
        self.look()


def leave(client: socket.socket) -> None:
    """Reset a connection."""
    if client.fileno() >= 0:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


@pytest.fixture
def play() -> Iterator[Play]:
    made = Play()
    yield made
    try:
        made.end()
    except BaseException:
        made.site.renew()
        raise
    assert live() == 0
    assert set(made.site.in_flight.values()) == {0}
    assert made.site.passed_through().open == 0
    assert made.queue.count == 0
    assert made.site.poller.count == 0
    assert made.site.errors.found == []


CASES: dict[str, tuple[Callable[[Play], None], frozenset[Edge]]] = {}


def case(*taken: Edge) -> Callable[[Callable[[Play], None]], Callable[[Play], None]]:
    """Name a case, and the edges that it is there for."""

    def known(what: Callable[[Play], None]) -> Callable[[Play], None]:
        CASES[what.__name__] = what, frozenset(taken)
        return what

    return known


@case(("new", "connecting"), ("connecting", "sent"), ("sent", "responding"), ("responding", "ended"))
def a_server_is_connected_to_and_answers(play: Play) -> None:
    client, conn, _ = play.at_server()
    conn.sendall(OK)
    play.answered(client)


@case(("new", "ended"))
def a_request_is_refused(play: Play) -> None:
    play.answered(play.ask(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", ("new", "ended")), 400)


@case(("new", "ended"))
def no_server_is_up(play: Play) -> None:
    play.set_state(DOWN)
    play.answered(play.ask(GET, ("new", "ended")), 503)


@case(("new", "sent"))
def a_connection_rests(play: Play) -> None:
    for conn in [conn for _, conn in play.full().values()]:
        conn.sendall(OK)
        play.until(lambda: play.walked["responding", "ended"] > 0)
    play.until(lambda: not any(play.site.in_flight.values()))
    play.ask(GET, ("new", "sent"))


@case(("new", "waiting"), ("waiting", "called"), ("called", "sent"))
def a_place_comes_free_on_a_connection_that_is_kept(play: Play) -> None:
    (_, conn), _ = play.full().values()
    waits = play.ask(GET, ("new", "waiting"))
    play.go_on(("called", "sent"), lambda: conn.sendall(OK))
    assert conn.recv(4096).startswith(b"GET / ")
    conn.sendall(OK)
    play.answered(waits)


@case(("new", "waiting"), ("waiting", "called"), ("called", "connecting"))
def a_place_comes_free_and_the_connection_goes(play: Play) -> None:
    (_, conn), _ = play.full().values()
    waits = play.ask(GET, ("new", "waiting"))
    play.go_on(
        ("called", "connecting"), lambda: conn.sendall(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    )
    play.until(lambda: play.walked["connecting", "sent"] == 3)
    play.accept()[0].sendall(OK)
    play.answered(waits)


@case(("waiting", "called"), ("called", "waiting"))
def a_queue_looks_and_there_is_no_room(play: Play) -> None:
    play.full()
    play.ask(GET, ("new", "waiting"))
    play.go_on(("called", "waiting"), lambda: play.site.skip(LOOK_AGAIN_MS))
    assert play.queue.count == 1


@case(("called", "ended"))
def the_servers_have_gone_down_when_the_turn_comes(play: Play) -> None:
    play.full()
    waits = play.ask(GET, ("new", "waiting"))
    play.set_state(DOWN)
    play.go_on(("called", "ended"), lambda: play.site.skip(LOOK_AGAIN_MS))
    play.answered(waits, 503)


@case(("waiting", "ended"))
def the_wait_is_too_long(play: Play) -> None:
    play.full()
    waits = play.ask(GET, ("new", "waiting"))
    play.go_on(("waiting", "ended"), lambda: play.site.poller.skip(QUEUE_MS))
    play.answered(waits, 503)


@case(("waiting", "ended"))
def a_client_that_waits_leaves(play: Play) -> None:
    play.full()
    waits = play.ask(GET, ("new", "waiting"))
    play.go_on(("waiting", "ended"), lambda: leave(waits))


@case(("connecting", "connecting"), ("connecting", "ended"))
def no_server_takes_a_connection_in_time(play: Play) -> None:
    client = play.ask(GET, ("new", "connecting"))
    play.go_on(("connecting", "connecting"), lambda: play.site.poller.skip(CONNECT_MS))
    play.go_on(("connecting", "ended"), lambda: play.site.poller.skip(CONNECT_MS))
    play.answered(client, 502)


@case(("connecting", "waiting"))
def a_server_refuses_and_the_other_is_full(play: Play) -> None:
    _, conn, number = play.at_server()
    play.refuse(1 - number)
    waits = play.ask(GET, ("connecting", "waiting"))
    play.go_on(("called", "sent"), lambda: conn.sendall(OK))
    conn.sendall(OK)
    play.answered(waits)


@case(("sent", "waiting"))
def a_server_closes_and_the_other_is_full(play: Play) -> None:
    (_, conn), (waits, closes) = play.full().values()
    play.go_on(("sent", "waiting"), closes.close)
    play.go_on(("called", "sent"), lambda: conn.sendall(OK))
    conn.sendall(OK)
    play.answered(waits)


@case(("sent", "connecting"))
def a_server_closes_and_the_other_is_connected_to(play: Play) -> None:
    client, conn, number = play.at_server()
    play.go_on(("sent", "connecting"), conn.close)
    play.until(lambda: play.walked["connecting", "sent"] == 2)
    conn, other = play.accept()
    assert other != number
    conn.sendall(OK)
    play.answered(client)


@case(("sent", "connecting"))
def a_connection_was_closed_while_it_rested(play: Play) -> None:
    for conn in [conn for _, conn in play.full().values()]:
        conn.sendall(OK)
    play.until(lambda: not any(play.site.in_flight.values()))
    client = play.ask(GET, ("new", "sent"))
    for conn in play.taken:
        conn.close()
    play.until(lambda: play.walked["connecting", "sent"] == 3)
    play.accept()[0].sendall(OK)
    play.answered(client)


@case(("sent", "sent"))
def a_server_says_busy_and_the_other_has_a_connection_that_rests(play: Play) -> None:
    first, second = play.full().values()
    first[1].sendall(OK)
    play.answered(first[0])
    play.until(lambda: sum(play.site.in_flight.values()) == 1)
    play.go_on(("sent", "sent"), lambda: second[1].sendall(BUSY))
    first[1].sendall(OK)
    play.answered(second[0])


@case(("sent", "ended"))
def an_answer_is_none(play: Play) -> None:
    client, conn, _ = play.at_server(POST)
    play.go_on(("sent", "ended"), lambda: conn.sendall(b"garbage\r\n\r\n"))
    play.answered(client, 502)


@case(("sent", "tunnel"), ("tunnel", "ended"))
def a_tunnel_is_agreed_on_and_ends(play: Play) -> None:
    client, conn, _ = play.at_server(UPGRADE)
    play.go_on(("sent", "tunnel"), lambda: conn.sendall(SWITCHED))
    conn.shutdown(socket.SHUT_WR)
    play.go_on(("tunnel", "ended"), lambda: client.shutdown(socket.SHUT_WR))


@pytest.mark.parametrize("name", CASES)
def test_a_case_takes_its_edges(play: Play, name: str) -> None:
    what, taken = CASES[name]
    what(play)
    assert taken <= set(play.walked)


def test_every_edge_of_the_table_has_a_case() -> None:
    assert {edge for _, taken in CASES.values() for edge in taken} == set(edges())
    assert {state for edge in edges() for state in edge} == set(STATES)


def test_a_503_is_a_failure_also_when_no_other_server_can_be_asked(play: Play) -> None:
    slots = play.site.snapshot.slots
    play.site.board.set_state(slots["app", "s1"], DOWN)
    client, conn, _ = play.at_server()
    conn.sendall(BUSY)
    play.answered(client, 503)
    assert play.site.board.streak(slots["app", "s0"]) == 1


def test_a_fault_of_the_gateway_ends_the_request_and_nothing_else(play: Play) -> None:
    """Pages that are missing stand for any exception: while a request is read, and when a deadline passes."""
    bystander, conn, _ = play.at_server()
    pages = play.site.context.pages
    play.site.context.pages = {}
    refused = play.ask(b"GET / HTTP/1.1\r\n\r\n", ("new", "ended"))
    late, _, _ = play.at_server()
    conn.sendall(OK)
    play.answered(bystander)
    play.go_on(("sent", "ended"), lambda: play.site.skip(31_000))
    play.site.context.pages = pages
    for client in (refused, late):
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    faults, play.site.errors.found[:] = list(play.site.errors.found), []
    assert len(faults) == 2
    assert "KeyError: 400" in faults[0]
    assert "KeyError: 504" in faults[1]
    outcomes = play.site.passed_through().outcomes
    assert outcomes[[name for name, *_ in OUTCOMES].index("gateway_error")] == 2
