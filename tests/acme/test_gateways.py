"""What the gateways of a cluster tell each other of certificates, over real connections."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.acme.authority import Proof
from gateway.acme.gateways import MOST_OF_ONE, Gateways
from gateway.acme.state import Certificate, Record, State

KEY = b"0123456789abcdef"
PROOF = Proof("token", "token.thumbprint")


class Node:
    """A gateway with a state, as the acme process has one."""

    def __init__(self, name: str, state: State) -> None:
        self.name = name
        self.state = state
        self.posted = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.gateways = Gateways(lambda: self.state, self.learn)
        self.gateways.changed = self.post

    def learn(self, theirs: State) -> None:
        self.state = self.state.merged(theirs)

    def post(self) -> None:
        self.posted += 1

    @property
    def place(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()
        return host, port


@asynccontextmanager
async def cluster(one: Node, two: Node, key: bytes = KEY, other: bytes = KEY) -> AsyncIterator[None]:
    one.gateways.apply(one.name, {two.name: two.place}, key)
    two.gateways.apply(two.name, {one.name: one.place}, other)
    for node in (one, two):
        await node.gateways.listen(node.socket)
    try:
        yield
    finally:
        for node in (one, two):
            node.gateways.close()
        await asyncio.sleep(0)


def certificate(text: str, at: float) -> State:
    return State(certificates={"n": Certificate(text, at, "k")}, records={"n": Record(changed=at)})


async def test_one_exchange_makes_both_know_all_and_the_challenge_is_there_when_it_ends() -> None:
    one, two = Node("gw1", certificate("old", 1.0)), Node("gw2", certificate("new", 2.0))
    async with cluster(one, two):
        one.gateways.proofs = (PROOF,)
        await one.gateways.tell()
        assert two.gateways.all_proofs() == [PROOF]
        assert two.posted == 1
        assert one.state == two.state == certificate("new", 2.0)
        assert set(one.gateways.alive()) == set(two.gateways.alive()) == {"gw1", "gw2"}
        one.gateways.proofs = ()
        await one.gateways.tell()
        assert two.gateways.all_proofs() == []
        assert two.posted == 2


async def test_another_key_is_refused_by_both_and_nothing_is_learnt(caplog: pytest.LogCaptureFixture) -> None:
    one, two = Node("gw1", certificate("ours", 1.0)), Node("gw2", certificate("theirs", 2.0))
    async with cluster(one, two, other=KEY[::-1]):
        one.gateways.proofs = (PROOF,)
        await one.gateways.tell()
        assert two.gateways.all_proofs() == []
        assert (one.state, two.state) == (certificate("ours", 1.0), certificate("theirs", 2.0))
        assert two.gateways.refused == {"it does not have the key of the cluster": 1}
        assert one.gateways.alive() == ("gw1",)
    assert "gateway gw2 does not answer" in caplog.text


async def test_a_gateway_that_is_not_there_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    one, two = Node("gw1", State()), Node("gw2", State())
    two.socket.close()
    one.gateways.apply("gw1", {"gw2": ("127.0.0.1", 1)}, KEY)
    for _ in range(3):
        await one.gateways.tell()
    assert caplog.text.count("gateway gw2 does not answer") == 1
    assert one.gateways.alive() == ("gw1",)
    one.socket.close()


class Recorder:
    """Stands between two gateways and keeps what the one that calls has sent."""

    def __init__(self, place: tuple[str, int]) -> None:
        self.place = place
        self.sent = bytearray()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self.place)

        async def copy(
            source: asyncio.StreamReader, to: asyncio.StreamWriter, keep: Callable[[bytes], None] | None
        ) -> None:
            while data := await source.read(65536):
                if keep is not None:
                    keep(data)
                to.write(data)
            to.close()

        await asyncio.gather(copy(reader, back, self.sent.extend), copy(there, writer, None))


async def test_what_was_recorded_cannot_be_sent_again_and_shows_nothing() -> None:
    one, two = Node("gw1", certificate("secret of one", 1.0)), Node("gw2", certificate("x", 0.5))
    async with cluster(one, two):
        recorder = Recorder(two.place)
        server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
        one.gateways.apply("gw1", {"gw2": server.sockets[0].getsockname()}, KEY)
        one.gateways.proofs = (PROOF,)
        await one.gateways.tell()
        assert two.state == certificate("secret of one", 1.0)
        assert len(recorder.sent) > 100
        assert b"secret" not in recorder.sent
        assert b"token" not in recorder.sent
        two.state, posted = State(), two.posted
        reader, writer = await asyncio.open_connection(*two.place)
        writer.write(recorder.sent)
        await reader.read(1000)  # its half of a new key, and then the end
        assert await reader.read() == b""
        assert two.state == State()
        assert two.posted == posted
        assert two.gateways.refused == {"it does not have the key of the cluster": 1}
        writer.close()
        server.close()


@pytest.mark.parametrize("sent", [b"", b"x" * 10, bytes(32), b"x" * 32 + b"\xff\xff\xff\xff", b"x" * 32 + bytes(4)])
async def test_bytes_that_are_no_message_end_the_connection(sent: bytes) -> None:
    one, two = Node("gw1", State()), Node("gw2", State())
    async with cluster(one, two):
        reader, writer = await asyncio.open_connection(*two.place)
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(4):
            assert len(await reader.read()) == 32
        writer.close()
        assert two.gateways.alive() == ("gw2",)


async def test_one_address_cannot_keep_the_others_out() -> None:
    one, two = Node("gw1", State()), Node("gw2", State())
    async with cluster(one, two):
        idle = [await asyncio.open_connection(*two.place) for _ in range(MOST_OF_ONE)]
        for reader, _ in idle:
            assert len(await reader.readexactly(32)) == 32  # its half of a key: it waits for the other
        more, writer = await asyncio.open_connection(*two.place)
        assert await more.read() == b""
        for _, opened in idle:
            opened.close()
        writer.close()
