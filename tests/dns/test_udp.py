"""The thread that answers datagrams, while its sockets change and the loop does other things."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import dns.message
import pytest

from gateway.dns.responder import Responder
from gateway.dns.udp import Datagrams
from tests.dns.zones import query, responder
from tests.support.waiting import soon


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Two of a server."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(2)]
        for sock in found:
            sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            sock.bind(("127.0.0.1", 0))
        yield found


class Client:
    """One of a server's socket."""

    def __init__(self, server: socket.socket) -> None:
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.connect(server.getsockname())
        self._socket.settimeout(5.0)
        self._sent: list[int] = []

    def send(self) -> None:
        asked = query("www.example.com")
        self._sent.append(asked.id)
        self._socket.send(asked.to_wire())

    def is_answered(self) -> bool:
        """Whether all that was sent is answered, in order."""
        return all(dns.message.from_wire(self._socket.recv(4096)).id == one for one in self._sent)

    def close(self) -> None:
        self._socket.close()


async def test_what_waits_is_answered_before_a_socket_is_left_or_all_are_closed(sockets: list[socket.socket]) -> None:
    failed: list[BaseException] = []
    datagrams = Datagrams(responder(), failed.append)
    clients = [Client(sock) for sock in sockets]
    for client in clients:
        client.send()
    datagrams.serve(sockets)
    assert all(client.is_answered() for client in clients)
    for client in clients:
        client.send()
    datagrams.serve(sockets[:1])
    clients[1].send()
    datagrams.close()
    with pytest.raises(BlockingIOError):
        sockets[0].recv(4096)
    assert sockets[1].recv(4096), "it was left, so this one is for the next process"
    assert not failed
    for client in clients:
        client.close()


async def test_a_thread_that_fails_is_told_of(sockets: list[socket.socket]) -> None:
    class Broken:
        def serve_until(self, wake: int, descriptors: list[int]) -> None:
            raise ZeroDivisionError(wake, descriptors)

    failed: list[BaseException] = []
    datagrams = Datagrams(Broken(), failed.append)  # type: ignore[arg-type]
    datagrams.serve(sockets)
    await soon(lambda: bool(failed), "the failure")
    assert isinstance(failed[0], ZeroDivisionError)
    datagrams.close()


async def test_a_lookup_waits_while_what_it_would_find_changes(sockets: list[socket.socket]) -> None:
    of: Responder = responder()
    datagrams = Datagrams(of, bool)
    client = Client(sockets[0])
    with of.lock:
        datagrams.serve(sockets)
        client.send()
        await soon(lambda: of.counts()["udp"] == 1, "the query to be read")
        assert of.counts()["codes"] == {}
    assert client.is_answered()
    datagrams.close()
    client.close()
