"""What workers and the process of the programs of maps send each other."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.process.map_questions import MAX_KEY, MAX_PACKET, Answer, Asked, Malformed, accept, connect, packets


@given(st.integers(0), st.lists(st.text(), min_size=1), st.binary().filter(lambda key: b"\n" not in key))
def test_a_question_comes_out_as_it_went_in(number: int, command: list[str], key: bytes) -> None:
    asked = Asked(number, tuple(command), key)
    assert Asked.read(asked.packet()) == asked


@given(st.integers(0), st.binary() | st.none() | st.text())
def test_an_answer_comes_out_as_it_went_in(number: int, said: bytes | str | None) -> None:
    assert Answer.read(Answer(number, said).packet()) == Answer(number, said)


def test_the_longest_question_fits() -> None:
    assert len(Asked(1, ("/bin/x",), b"\xff" * MAX_KEY).packet()) < MAX_PACKET


@pytest.mark.parametrize(
    "packet",
    [b"", b"[1]", b"{}", b'[1, [], "a"]', b'["1", ["/x"], "a"]', b'[1, ["/x"], "a\\nb"]', b'[1, ["/x", 2], "a"]',
     b'[1, ["/x"], "\\u20ac"]', b'[1, ["/x"], "' + b"a" * (MAX_KEY + 1) + b'"]', b"\xff", b"[" * 100_000],
)  # fmt: skip
def test_anything_else_is_no_question(packet: bytes) -> None:
    with pytest.raises(Malformed):
        Asked.read(packet)


@pytest.mark.parametrize("packet", [b"", b"[1]", b'[1, "\\u20ac"]', b'["1", null]', b"[1, 2]", b'[1, null, "a", "b"]'])
def test_and_no_answer(packet: bytes) -> None:
    with pytest.raises(Malformed):
        Answer.read(packet)


@pytest.mark.parametrize(
    "packet",
    [Asked(12, ("/bin/x", "an argument"), b"a\xffkey").packet(), Answer(12, b"a\xffvalue").packet(),
     Answer(12, None).packet(), Answer(12, "why").packet()],
)  # fmt: skip
def test_a_packet_that_is_cut_anywhere_is_neither(packet: bytes) -> None:
    for length in range(len(packet)):
        for kind in (Asked, Answer):
            with pytest.raises(Malformed):
                kind.read(packet[:length])


def test_packets_end_where_none_has_come_and_where_the_other_end_has_gone() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    with ours, theirs:
        for packet in (b"a", b"b"):
            theirs.send(packet)
        assert list(packets(ours)) == [b"a", b"b"]
        theirs.send(b"c")
        theirs.close()
        rest = packets(ours)
        assert next(rest) == b"c"
        with pytest.raises(ConnectionError):
            next(rest)
    assert list(packets(ours)) == []


def test_both_ends_of_a_connection_notice_the_end_of_the_other() -> None:
    inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (inside, outside):
        end.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    with inside, outside:
        with pytest.raises(BlockingIOError):
            accept(inside)
        with connect(outside) as worker:
            worker.send(b"before it is taken")
            with accept(inside) as programs:
                assert programs.recv(100) == b"before it is taken"
            assert worker.recv(100) == b""
        outside.send(b"nothing")
        with pytest.raises(ConnectionError):
            accept(inside)
