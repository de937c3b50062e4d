"""The node lock: one process at a time acts as the node; at an upgrade, its successor requests its state.

The lock is a file in the gateway's own directory, which only root can open (flock(2)). The successor connects to a Unix
socket beside it, sends its terms (handover.terms), and waits: for a handover, or until the lock is free. A handover
includes the descriptors of the lock and of the sockets: neither is ever unowned.
"""

import fcntl
import hmac
import itertools
import json
import logging
import os
import selectors
import socket
import stat
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.heartbeat.handover import MAX_BYTES
from gateway.system import plain_json, private_socket

log = logging.getLogger(__name__)

LOCK: Final = "node.lock"
SOCKET: Final = "handover.sock"
LOOK: Final = 0.5
"""Seconds between two checks that the supervisor still exists."""
AGAIN: Final = 0.005
MAX_DESCRIPTORS: Final = 253
"""Largest number in one message (SCM_MAX_FD of Linux)."""
_CREDENTIALS: Final = struct.Struct("=3i")


class NoLock(Exception):
    """The lock cannot be used in this directory; the message gives the reason."""


class Orphaned(Exception):
    """The supervisor has exited while its heartbeat process waited."""


@dataclass(frozen=True, slots=True)
class Handover:
    """The state that was handed over, and the descriptors of the lock, the deadlines and the sockets."""

    state: dict[str, Any]
    lock: int
    deadlines: int
    sockets: tuple[int, ...]


class NodeLock:
    """The lock, and the successor that waits at `listening`; only processes with this user id are accepted."""

    def __init__(self, lock: int, listening: socket.socket, terms: bytes) -> None:
        self._lock = lock
        self._listening = listening
        self._terms = terms
        self._owner = os.getuid()
        self._selector: selectors.BaseSelector | None = None
        self._successor: socket.socket | None = None
        self.refused = False
        """A process had other terms: nothing can be handed over to it."""

    @property
    def has_successor(self) -> bool:
        """Whether a process with the same terms waits."""
        return self._successor is not None

    def fileno(self) -> int:
        """The descriptor of the lock: held until every process that has the descriptor has closed it."""
        return self._lock

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Accept connections of successors."""
        self._selector = selector
        selector.register(self._listening, selectors.EVENT_READ, self._admit)

    def hand_over(self, state: dict[str, Any], deadlines: int, sockets: Sequence[int]) -> bool:
        """Hand over the lock and everything else; return whether that succeeded. If not, the lock is kept."""
        if self._successor is None:
            return False
        data = json.dumps(state).encode()
        try:
            self._successor.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_BYTES)
            socket.send_fds(self._successor, [data], [self._lock, deadlines, *sockets])
        except OSError as error:
            log.error("handover failed, the shared addresses are given away: %s", error)
            return False
        finally:
            if self._selector is not None:
                self._selector.unregister(self._successor)
            self._successor.close()
            self._successor = None
        self.close()
        return True

    def close(self) -> None:
        """Release the lock; it is free once no other process has its descriptor."""
        if self._selector is not None:
            self._selector.unregister(self._listening)
            self._selector = None
        if self._lock >= 0:
            self._listening.close()
            os.close(self._lock)
            self._lock = -1

    def _admit(self) -> None:
        visitor = private_socket.accept(self._listening)
        if visitor is None:
            return
        if _user(visitor) != self._owner or self._successor is not None or self._selector is None:
            visitor.close()
            return
        self._selector.register(visitor, selectors.EVENT_READ, lambda: self._hear(visitor))

    def _hear(self, visitor: socket.socket) -> None:
        try:
            said = visitor.recv(len(self._terms) + 1)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if hmac.compare_digest(said, self._terms) and self._successor is None:
            self._successor = visitor
            return
        if visitor is self._successor:
            self._successor = None
        elif said:
            self.refused = True
        if self._selector is not None:
            self._selector.unregister(visitor)
        visitor.close()


def enter(directory: Path, terms: bytes) -> tuple[NodeLock, Handover | None]:
    """Acquire the lock, as soon as no other process with this directory holds it. Raises NoLock, Orphaned, OSError."""
    lock = _open(directory)
    parent = os.getppid()
    received = None
    for i in itertools.count():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if i == 0:
                log.info("waiting for %s, which process %s has locked", directory / LOCK, _holder(lock))
                received = _ask(directory, terms, parent)
                if received is not None:
                    os.close(lock)
                    lock = received.lock
                    break
            if os.getppid() != parent:
                raise Orphaned from None
            time.sleep(AGAIN)
        else:
            break
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return NodeLock(lock, private_socket.listen(directory / SOCKET, 4, socket.SOCK_SEQPACKET), terms), received


def _open(directory: Path) -> int:
    """Open the lock file, and check that no other user could have created it. Raises NoLock, OSError."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    within = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        about = os.fstat(within)
        if about.st_uid not in {0, os.getuid()} or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            message = f"other users can write to {directory}: chown root, chmod 755, or set admin: sockets"
            raise NoLock(message)
        lock = os.open(
            LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=within
        )
    finally:
        os.close(within)
    about = os.fstat(lock)
    if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        os.close(lock)
        raise NoLock(f"{directory / LOCK} is not a file that only its owner can open: remove it")
    return lock


def _holder(lock: int) -> str:
    """The process that holds the lock, as it wrote there."""
    written = os.pread(lock, 16, 0).strip()
    return written.decode() if written.isdigit() else "(unknown)"


def _user(sock: socket.socket) -> int:
    """The user id of the other end, at the time when it connected or began to listen."""
    user: int
    _, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return user


def _ask(directory: Path, terms: bytes, parent: int) -> Handover | None:
    """Wait for the other process's handover; None: nothing is handed over."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(LOOK)
        try:
            sock.connect(str(directory / SOCKET))
            if (user := _user(sock)) not in {0, os.getuid()}:
                log.error("%s belongs to user %d and is not a gateway: end its process", directory / SOCKET, user)
                return None
            sock.sendall(terms)
        except OSError:
            return None
        while os.getppid() == parent:
            try:
                data, descriptors, _, _ = socket.recv_fds(sock, MAX_BYTES, MAX_DESCRIPTORS)
            except TimeoutError:
                continue
            except OSError:
                return None
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)  # noqa: FBT003 - the os module's own signature
            try:
                lock, deadlines, *sockets = descriptors
                return Handover(plain_json.parse(data), lock, deadlines, tuple(sockets))
            except ValueError:  # the other process has ended, or is broken
                for descriptor in descriptors:
                    os.close(descriptor)
                return None
    raise Orphaned
