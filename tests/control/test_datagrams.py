import asyncio
import socket

import uvloop

from gateway.control.datagrams import Datagrams


class Collector(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.got.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)


def bound() -> socket.socket:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


async def exchange() -> None:
    collector = Collector()
    sock = bound()
    ours = sock.getsockname()
    datagrams = Datagrams(sock, collector)
    # Another process could bind the same port if this were set.
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
    with bound() as peer:
        peer.settimeout(5)
        for number in range(200):  # more than are read in one turn
            peer.sendto(b"%d" % number, ours)
        async with asyncio.timeout(5):
            assert [(await collector.got.get())[0] for _ in range(200)] == [b"%d" % number for number in range(200)]
        datagrams.sendto(b"back", peer.getsockname())
        assert peer.recvfrom(100) == (b"back", ours)
    datagrams.sendto(b"x" * 70_000, ours)
    async with asyncio.timeout(5):
        assert isinstance(await collector.errors.get(), OSError)  # EMSGSIZE
    datagrams.close()
    datagrams.close()
    assert sock.fileno() < 0


def test_datagrams_go_both_ways_on_a_socket_that_no_other_process_can_bind() -> None:
    for loop_factory in (uvloop.new_event_loop, asyncio.new_event_loop):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(exchange())
