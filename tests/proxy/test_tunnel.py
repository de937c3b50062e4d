"""Tunnel by itself: bytes between two socket pairs, without any HTTP."""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from gateway.proxy.loop import EventLoop
from gateway.proxy.tunnel import Tunnel, between

TURNS = 2000
"""How often all sockets are polled before something counts as missing."""
IDLE = 30.0
"""Seconds."""


class Line:
    """A tunnel with a peer at either end: what each says, hears, and how it sees the end."""

    def __init__(self, family: int) -> None:
        self.loop = EventLoop()
        self.poller = self.loop.poller
        self.first, near = _pair(family)
        self.second, far = _pair(family)
        self.ends: list[str] = []
        self.tunnel: Tunnel = between(self.poller, near.detach(), far.detach(), IDLE, self.ends.append)
        self.heard: dict[socket.socket, bytes] = {self.first: b"", self.second: b""}
        self.finished: set[socket.socket] = set()
        """Whose other side has said that nothing more comes."""
        self.reset: set[socket.socket] = set()

    def turn(self, *readers: socket.socket) -> None:
        """Let the tunnel work, and these peers (all, if none is given) read."""
        self.poller.wait(0)
        for sock in readers or (self.first, self.second):
            if sock in self.reset:
                continue
            try:
                data = sock.recv(1 << 18)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                self.reset.add(sock)
                continue
            self.heard[sock] += data
            if not data:
                self.finished.add(sock)

    def until_heard(self, sock: socket.socket, data: bytes) -> None:
        """Turn until a peer has heard exactly this."""
        for _ in range(TURNS):
            if len(self.heard[sock]) >= len(data):
                break
            self.turn()
        assert self.heard[sock] == data

    def until_finished(self, sock: socket.socket) -> None:
        for _ in range(TURNS):
            if sock in self.finished:
                return
            self.turn()
        raise AssertionError("no FIN")

    def say(self, sock: socket.socket, data: bytes, *readers: socket.socket) -> int:
        """Send as much of it as the tunnel takes; return how much that was."""
        sent = quiet = 0
        while sent < len(data) and quiet < 20:
            try:
                sent += sock.send(data[sent : sent + (1 << 18)])
                quiet = 0
            except BlockingIOError:
                quiet += 1
            self.turn(*(readers or (self.first, self.second)))
        return sent

    def close(self) -> None:
        self.first.close()
        self.second.close()
        self.poller.stop()
        self.loop.close()


def _pair(family: int) -> tuple[socket.socket, socket.socket]:
    if family == socket.AF_UNIX:
        ends = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            ends = client, server.accept()[0]
    for sock in ends:
        sock.settimeout(0)
    return ends


@pytest.fixture(params=[socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    made = Line(request.param)
    yield made
    made.close()


def test_bytes_pass_both_ways_and_are_counted(line: Line) -> None:
    line.first.send(b"hello")
    line.second.send(b"good day")
    line.until_heard(line.second, b"hello")
    line.until_heard(line.first, b"good day")
    assert (line.tunnel.from_first, line.tunnel.from_second) == (5, 8)
    assert line.ends == []


@pytest.mark.parametrize("ends_first", ["first", "second"])
def test_each_side_ends_by_itself(line: Line, ends_first: str) -> None:
    one, other = (line.first, line.second) if ends_first == "first" else (line.second, line.first)
    one.send(b"last words")
    one.shutdown(socket.SHUT_WR)
    line.until_heard(other, b"last words")
    line.until_finished(other)
    other.send(b"there is more to say")
    line.until_heard(one, b"there is more to say")
    assert line.ends == []
    other.shutdown(socket.SHUT_WR)
    line.until_finished(one)
    assert line.ends == ["done"]
    assert line.poller.count == 0
    assert line.reset == set()


def test_both_sides_may_end_at_once(line: Line) -> None:
    for sock in (line.first, line.second):
        sock.send(b"bye")
        sock.shutdown(socket.SHUT_WR)
    for sock in (line.first, line.second):
        line.until_heard(sock, b"bye")
        line.until_finished(sock)
    assert line.ends == ["done"]


def test_megabytes_pass_both_ways_at_once(line: Line) -> None:
    there, back = bytes(range(251)) * 20_000, bytes(range(241)) * 20_000
    sent = {line.first: 0, line.second: 0}
    whole = {line.first: there, line.second: back}
    for _ in range(TURNS):
        for sock, data in whole.items():
            if sent[sock] < len(data):
                with suppress(BlockingIOError):
                    sent[sock] += sock.send(data[sent[sock] : sent[sock] + (1 << 18)])
                if sent[sock] == len(data):
                    sock.shutdown(socket.SHUT_WR)
        line.turn()
        if len(line.finished) == 2:
            break
    assert line.heard[line.second] == there
    assert line.heard[line.first] == back
    assert (line.tunnel.from_first, line.tunnel.from_second) == (len(there), len(back))
    assert line.ends == ["done"]


def test_a_side_is_read_only_when_the_other_has_taken_what_came_before(line: Line) -> None:
    data = bytes(range(253)) * 80_000
    sent = line.say(line.first, data, line.first)
    assert sent < len(data)  # the second does not read: sockets fill, and the tunnel keeps one buffer
    line.second.send(b"the way back is free")
    line.until_heard(line.first, b"the way back is free")
    while sent < len(data):
        sent += line.say(line.first, data[sent:])
    line.until_heard(line.second, data)


def test_a_fin_waits_for_what_is_before_it(line: Line) -> None:
    data = b"x" * 20_000_000
    sent = line.say(line.first, data, line.first)
    line.first.shutdown(socket.SHUT_WR)
    for _ in range(20):
        line.turn(line.first)
    line.until_heard(line.second, data[:sent])
    line.until_finished(line.second)
    assert line.ends == []


def test_a_tunnel_through_which_nothing_passes_for_too_long_ends(line: Line) -> None:
    line.first.send(b"x")
    line.until_heard(line.second, b"x")
    line.poller.skip(IDLE * 900)
    line.second.send(b"y")  # counts for both directions
    line.until_heard(line.first, b"y")
    line.poller.skip(IDLE * 900)
    assert line.ends == []
    line.poller.skip(IDLE * 200)
    assert line.ends == ["idle"]
    assert line.poller.count == 0


def test_a_tunnel_that_is_idle_is_broken_off_for_both() -> None:
    line = Line(socket.AF_INET)
    try:
        line.poller.wait(0)
        line.poller.skip(IDLE * 1100)
        line.turn()
        assert line.reset == {line.first, line.second}
    finally:
        line.close()


@pytest.mark.parametrize("resets", ["first", "second"])
def test_a_reset_ends_the_tunnel_and_is_passed_on_to_clients(resets: str) -> None:
    line = Line(socket.AF_INET)
    try:
        line.poller.wait(0)
        one, other = (line.first, line.second) if resets == "first" else (line.second, line.first)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        for _ in range(20):
            line.turn(other)
        assert line.ends == [f"cut by {resets}"]
        # A client must not take what it has got for the whole; a server learns that the other side is gone.
        assert (line.reset, line.finished) == ((set(), {other}) if resets == "first" else ({other}, set()))
        assert line.poller.count == 0
    finally:
        line.close()


def test_the_end_of_the_worker_ends_the_tunnel(line: Line) -> None:
    line.first.send(b"x")
    line.until_heard(line.second, b"x")
    line.poller.stop()
    assert line.ends == ["stopped"]
    assert line.poller.count == 0
