"""A file as the disk that nodes share: what is written, read, refused."""

import os
import select
import struct
import threading
import time

import pytest

from gateway.heartbeat.beat import Beat, Claim, Codec, Stake
from gateway.heartbeat.disk import BadDisk, Disk, Voice
from gateway.heartbeat.disk_witness import DiskWitness

CODEC = Codec(b"0123456789abcdef")
VIP = "192.0.2.10"
LEASE = 1.0


def receive(disk, count=1, seconds=10.0):
    found: list[bytes] = []
    end = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        if select.select([disk], [], [], 0.1)[0]:
            found += disk.receive()
    return found


def beat(node, sequence, stake=Stake.IDLE, lease=LEASE):
    return CODEC.encode(Beat(node, 7, sequence, lease, 0.05, claims=(Claim(VIP, stake, 200),)))


@pytest.fixture
def open_disk(tmp_path):
    opened = []

    def open_disk(place, count=2, **more):
        disk = Disk(tmp_path / "disk", place, count, 0.01, **more)
        opened.append(disk)
        disk.start()
        disk.go(lambda: None)
        return disk

    (tmp_path / "disk").touch()
    yield open_disk
    for disk in opened:
        disk.close()


def test_blocks_show_the_newest_beat_of_the_other_node(open_disk):
    one, other = open_disk(0), open_disk(1)
    one.send(b"first")
    assert receive(other) == [b"first"]
    one.send(b"second")
    other.send(b"back")
    assert receive(other) == [b"second"]
    assert receive(one) == [b"back"]


@pytest.mark.slow
def test_the_disk_votes_for_one_of_two_and_for_the_other_when_that_one_falls_silent(open_disk):
    one = open_disk(0, voice=Voice(CODEC, DiskWitness(1, [1])), carries=False)
    other = open_disk(1, voice=Voice(CODEC, DiskWitness(2, [0])), carries=False)

    def asked(disk, node, sequence):
        disk.send(beat(node, sequence, Stake.ASKING))
        answers = [CODEC.decode(message) for message in receive(disk)]
        assert [answer.node for answer in answers] == ["witness"]
        return [vote.candidate for vote in answers[0].votes]

    def meanwhile(first, second):
        """Whom the disk votes for when `second` asks for its vote while `first` has it."""
        (disk, name), (other_disk, other_name) = first, second
        while True:
            began = time.monotonic()
            assert began < end
            if asked(disk, name, next(sequences)) == [name]:
                vote = asked(other_disk, other_name, next(sequences))
                if time.monotonic() - began < LEASE:  # else it may have run out meanwhile
                    return vote

    sequences = iter(range(1, 10**6))
    end = time.monotonic() + 30
    assert meanwhile((one, "gw1"), (other, "gw2")) == []
    assert meanwhile((other, "gw2"), (one, "gw1")) == []  # once the first one's is not renewed


def test_a_torn_block_is_no_beat(open_disk, tmp_path):
    one = open_disk(0, voice=Voice(CODEC, DiskWitness(1, [1])))
    whole = beat("gw2", 1)
    with (tmp_path / "disk").open("r+b") as file:
        file.seek(Disk.BLOCK)
        file.write(struct.pack("!I", len(whole)) + whole[:40] + bytes(len(whole) - 40))
    one.send(beat("gw1", 1, Stake.ASKING))
    messages = receive(one, 2)
    assert max(len(message) for message in messages) >= len(whole)
    (answer,) = [CODEC.decode(message) for message in messages if message[-16:] != bytes(16)]
    assert answer.votes == ()


def test_two_nodes_on_one_block_are_noticed_and_have_no_vote(open_disk, caplog):
    one = open_disk(0, voice=Voice(CODEC, DiskWitness(1, [1])))
    other = open_disk(0)
    end = time.monotonic() + 20
    while "another node writes to block 0" not in caplog.text:
        assert time.monotonic() < end
        one.send(beat("gw1", 1))
        other.send(beat("gw2", 1))
        time.sleep(0.002)


@pytest.mark.parametrize("content", [b"\xeb\x58\x90mkfs.fat" + bytes(16384), bytes(8192 + 100) + b"x" + bytes(9000)])
def test_what_holds_something_else_is_left_alone(tmp_path, content):
    path = tmp_path / "disk"
    path.write_bytes(content)
    with pytest.raises(BadDisk, match="contains other data"):
        Disk(path, 0, 2, 0.01)
    assert path.read_bytes() == content


@pytest.mark.slow
def test_a_hanging_disk_delays_no_beat(open_disk, monkeypatch):
    disk = open_disk(0)
    going, over = threading.Event(), threading.Event()

    def stand_still(*_: object) -> int:
        going.set()
        over.wait(20.0)
        return 0

    monkeypatch.setattr(os, "pwritev", stand_still)
    disk.send(b"never")
    assert going.wait(20.0)
    for _ in range(100):
        disk.send(b"never")
        assert list(disk.receive()) == []
    disk.close()
    assert not over.is_set(), "not even closing waits for it"
    over.set()
