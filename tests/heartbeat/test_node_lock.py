"""Who is the node, and what it leaves: over real files and sockets, and as data."""

import fcntl
import os
import selectors
import socket
import stat
import subprocess
import sys
import threading

import pytest

from gateway.heartbeat import handover, node_lock
from gateway.heartbeat.beat import Codec
from gateway.heartbeat.node import Node, Settings, Shared
from gateway.heartbeat.node_lock import LOCK, SOCKET, NoLock
from tests.support.waiting import eventually

CODEC = Codec(b"0123456789abcdef")
TERMS = bytes(32)


def successor(directory, terms):
    """A process that wants to be the node; what it got."""
    found = []
    thread = threading.Thread(target=lambda: found.append(node_lock.enter(directory, terms)))
    thread.start()
    return thread, found


def serve(selector, until):
    for _ in range(400):
        for key, _ in selector.select(0.05):
            key.data()
        if until():
            return
    raise AssertionError("no process came")


def is_free(directory):
    """Whether another process could have the lock."""
    with (directory / LOCK).open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def directory(tmp_path):
    found = tmp_path / "run"
    found.mkdir(mode=0o755)
    return found


def test_the_successor_gets_everything_and_the_lock_is_never_free(directory):
    lock, received = node_lock.enter(directory, TERMS)
    assert received is None
    assert stat.S_IMODE((directory / LOCK).stat().st_mode) == 0o600
    assert stat.S_IMODE((directory / SOCKET).stat().st_mode) == 0o600
    thread, found = successor(directory, TERMS)
    with selectors.DefaultSelector() as selector, socket.socket(type=socket.SOCK_DGRAM) as link:
        link.bind(("127.0.0.1", 0))
        lock.watch(selector)
        serve(selector, lambda: lock.has_successor)
        reading, writing = os.pipe()
        assert not is_free(directory)
        assert lock.hand_over({"history": ["x" * 100_000]}, writing, [link.fileno()])
        assert not is_free(directory), "it passes with the descriptor"
        assert list(selector.get_map()) == []
        name = link.getsockname()
    thread.join(20)
    ((after, received),) = found
    assert received is not None
    assert received.state == {"history": ["x" * 100_000]}
    os.write(received.deadlines, b"the same")
    assert os.read(reading, 8) == b"the same"
    (number,) = received.sockets
    with socket.socket(fileno=number) as inherited:
        assert inherited.getsockname() == name
    assert not is_free(directory)
    after.close()
    assert is_free(directory)
    for descriptor in (reading, writing, received.deadlines):
        os.close(descriptor)


def test_one_with_other_terms_gets_the_lock_alone(directory):
    lock, _ = node_lock.enter(directory, TERMS)
    thread, found = successor(directory, b"1" * 32)
    with selectors.DefaultSelector() as selector:
        lock.watch(selector)
        serve(selector, lambda: lock.refused)
        assert not lock.has_successor
        assert not lock.hand_over({}, 0, [])
        assert not is_free(directory)
        assert found == []
        lock.close()
    thread.join(20)
    ((after, received),) = found
    assert received is None
    after.close()


def test_a_waiting_process_names_the_owner_of_the_lock(directory, caplog):
    caplog.set_level("INFO")
    lock, _ = node_lock.enter(directory, TERMS)
    thread, found = successor(directory, TERMS)
    eventually(lambda: f"{directory / LOCK}, which process {os.getpid()} has locked" in caplog.text, "a line")
    lock.close()
    thread.join(20)
    found[0][0].close()


def test_two_directories_have_two_locks(tmp_path):
    locks = [node_lock.enter(tmp_path / name, TERMS)[0] for name in ("a", "b")]
    assert not is_free(tmp_path / "a")
    assert not is_free(tmp_path / "b")
    for lock in locks:
        lock.close()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_directory_that_others_can_write_to_is_refused(directory, mode):
    directory.chmod(mode)
    with pytest.raises(NoLock, match="other users can write to"):
        node_lock.enter(directory, TERMS)


@pytest.mark.parametrize("kind", ["link", "pipe", "readable"])
def test_a_file_that_another_could_have_put_there_is_refused(directory, kind):
    path = directory / LOCK
    if kind == "link":
        (directory / "other").touch(0o600)
        path.symlink_to(directory / "other")
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    else:
        path.touch()
        path.chmod(0o644)
    with pytest.raises((NoLock, OSError)):
        node_lock.enter(directory, TERMS)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_another_user_can_neither_lock_nor_connect(directory):
    code = (
        "import fcntl, os, socket, sys\n"
        "os.setgid(65534), os.setuid(65534)\n"
        "for flags in os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT:\n"
        "    try:\n"
        "        fcntl.flock(os.open(sys.argv[1] + '/node.lock', flags), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "    except PermissionError:\n"
        "        continue\n"
        "    sys.exit('locked')\n"
        "try:\n"
        "    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1] + '/handover.sock')\n"
        "except PermissionError:\n"
        "    sys.exit(0)\n"
        "sys.exit('connected')\n"
    )
    for parent in directory.parents[:-2]:  # the way there is open; pytest closes it
        parent.chmod(0o755)
    lock, _ = node_lock.enter(directory, TERMS)
    for _ in range(2):
        tried = subprocess.run([sys.executable, "-c", code, directory], capture_output=True, text=True, check=False)
        assert (tried.returncode, tried.stderr) == (0, "")
        lock.close()
        (directory / SOCKET).unlink(missing_ok=True)  # also while none has it
        lock, _ = node_lock.enter(directory, TERMS)
    lock.close()


def test_a_handover_of_another_format_is_refused():
    settings = Settings("gw1", ("gw1", "gw2"), (Shared("192.0.2.10", ("gw1", "gw2")),), witness=True)
    left = handover.hand_over(Node(settings, 5, 0.0), CODEC)
    node = Node(settings, 6, 0.0)
    handover.adopt(node, left, CODEC)
    assert node.incarnation == 5
    with pytest.raises(handover.BadHandover, match="format 9 is unknown"):
        handover.adopt(node, {**left, "format": 9}, CODEC)
    del left["promises"]
    with pytest.raises(handover.BadHandover, match="promises"):
        handover.adopt(node, left, CODEC)
