"""Who is the node, and what it leaves: over real sockets, and as data."""

import os
import selectors
import subprocess
import sys
import threading
import uuid

import pytest

from gateway.heartbeat import estate, succession
from gateway.heartbeat.beat import Codec
from gateway.heartbeat.node import Node, Settings, Shared
from tests.support.waiting import eventually

CODEC = Codec(b"0123456789abcdef")
TERMS = bytes(32)


def heir(name, terms):
    """A process that wants to be `name`; what it got."""
    found = []
    thread = threading.Thread(target=lambda: found.append(succession.enter(name, terms)))
    thread.start()
    return thread, found


def serve(selector, until):
    for _ in range(400):
        for key, _ in selector.select(0.05):
            key.data()
        if until():
            return
    raise AssertionError("nobody came")


@pytest.fixture
def name():
    return uuid.uuid4().hex


def test_the_successor_gets_everything_and_the_name(name):
    door, legacy = succession.enter(name, TERMS)
    assert legacy is None
    thread, found = heir(name, TERMS)
    with selectors.DefaultSelector() as selector:
        door.watch(selector)
        serve(selector, lambda: door.has_heir)
        reading, writing = os.pipe()
        assert door.leave({"history": ["x" * 100_000]}, writing)
    thread.join(20)
    ((after, legacy),) = found
    assert legacy is not None
    assert legacy.estate == {"history": ["x" * 100_000]}
    os.write(legacy.deadlines, b"the same")
    assert os.read(reading, 8) == b"the same"
    after.close()
    for descriptor in (reading, writing, legacy.deadlines):
        os.close(descriptor)


def test_one_with_other_terms_gets_the_name_alone(name):
    door, _ = succession.enter(name, TERMS)
    thread, found = heir(name, b"1" * 32)
    with selectors.DefaultSelector() as selector:
        door.watch(selector)
        serve(selector, lambda: door.refused)
        assert not door.has_heir
        assert not door.leave({}, 0)
    thread.join(20)
    ((after, legacy),) = found
    assert legacy is None
    after.close()


def test_an_estate_of_another_format_is_refused():
    settings = Settings("gw1", ("gw1", "gw2"), (Shared("192.0.2.10", ("gw1", "gw2")),), witness=True)
    left = estate.leave(Node(settings, 5, 0.0), CODEC)
    node = Node(settings, 6, 0.0)
    estate.adopt(node, left, CODEC)
    assert node.incarnation == 5
    with pytest.raises(estate.BadEstate, match="format 9 is unknown"):
        estate.adopt(node, {**left, "format": 9}, CODEC)
    del left["promises"]
    with pytest.raises(estate.BadEstate, match="promises"):
        estate.adopt(node, left, CODEC)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to be somebody else")
def test_what_another_users_process_leaves_is_not_taken(name, caplog):
    """A name can be taken by anybody; so the one who has it must be of the same user, or root."""
    code = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "lock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "lock.bind(chr(0) + sys.argv[1])\n"
        "lock.listen(1)\n"
        "print('taken', flush=True)\n"
        "other, _ = lock.accept()\n"
        "socket.send_fds(other, [b'{}'], [0])\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, f"gateway-heartbeat-{name}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as impostor:
        assert impostor.stdout is not None
        assert impostor.stdout.readline() == b"taken\n"
        thread, found = heir(name, TERMS)
        eventually(lambda: "is taken by a process of user 65534" in caplog.text, "the impostor to be named")
        impostor.kill()
    thread.join(20)
    ((door, legacy),) = found
    assert legacy is None
    door.close()
