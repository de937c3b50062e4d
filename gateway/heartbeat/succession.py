"""One process at a time is a node of the cluster; at an upgrade the next one asks for what it may go on with.

The name of a Unix socket in the abstract namespace is the lock: who has bound it is the node. The successor connects to
it, says by which terms it would go on (estate.terms), and waits: for an estate, or for the name to be free.
"""

import itertools
import json
import logging
import os
import selectors
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, Final

from gateway.heartbeat.estate import MAX_BYTES

log = logging.getLogger(__name__)

LOOK: Final = 0.5
"""Seconds between two looks at whether the supervisor is still there."""
AGAIN: Final = 0.005
_CREDENTIALS: Final = struct.Struct("=3i")


class Orphaned(Exception):
    """The supervisor has gone while its heartbeat process waited."""


@dataclass(frozen=True, slots=True)
class Legacy:
    """What was left, and the descriptor of the deadlines."""

    estate: dict[str, Any]
    deadlines: int


class Door:
    """The lock, and who waits at it. Only who has the user id that this process began with is listened to."""

    def __init__(self, lock: socket.socket, terms: bytes) -> None:
        self._lock = lock
        self._terms = terms
        self._owner = os.getuid()
        self._selector: selectors.BaseSelector | None = None
        self._heir: socket.socket | None = None
        self.refused = False
        """Somebody came with other terms: nothing can be left."""
        lock.setblocking(False)  # noqa: FBT003 - the socket module's own signature

    @property
    def has_heir(self) -> bool:
        """Whether somebody with the same terms waits."""
        return self._heir is not None

    def fileno(self) -> int:
        """The descriptor of the lock: held until every process that has it has closed it."""
        return self._lock.fileno()

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Let them come."""
        self._selector = selector
        selector.register(self._lock, selectors.EVENT_READ, self._admit)

    def leave(self, estate: dict[str, Any], deadlines: int) -> bool:
        """Free the name and leave everything to the heir; whether that went well."""
        self.close()
        if self._heir is None:
            return False
        data = json.dumps(estate).encode()
        try:
            self._heir.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_BYTES)
            socket.send_fds(self._heir, [data], [deadlines])
        except OSError as error:
            log.error("nothing was left to the next process: %s", error)
            return False
        finally:
            self._heir.close()
        return True

    def close(self) -> None:
        """Free the name."""
        if self._selector is not None:
            self._selector.unregister(self._lock)
            self._selector = None
        self._lock.close()

    def _admit(self) -> None:
        try:
            visitor, _ = self._lock.accept()
        except OSError:
            return
        visitor.settimeout(0.0)
        if _user(visitor) != self._owner or self._heir is not None or self._selector is None:
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
        if said == self._terms and self._heir is None:
            self._heir = visitor
            return
        if visitor is self._heir:
            self._heir = None
        elif said:
            self.refused = True
        if self._selector is not None:
            self._selector.unregister(visitor)
        visitor.close()


def enter(node: str, terms: bytes) -> tuple[Door, Legacy | None]:
    """Become the process that is `node`, as soon as no other one is. Raises Orphaned."""
    name = f"\0gateway-heartbeat-{node}"
    lock = _socket()
    parent = os.getppid()
    legacy = None
    for i in itertools.count():
        try:
            lock.bind(name)
        except OSError:
            if i == 0:
                log.info("waiting for another process that is %s", node)
                legacy = _ask(name, terms, parent)
            if os.getppid() != parent:
                raise Orphaned from None
            time.sleep(AGAIN)
        else:
            break
    lock.listen(4)
    return Door(lock, terms), legacy


def _user(sock: socket.socket) -> int:
    """The user id of who is at the other end, as it was when that began to listen or connected."""
    user: int
    _, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return user


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def _ask(name: str, terms: bytes, parent: int) -> Legacy | None:
    """Wait for what the other process leaves; None: it leaves nothing."""
    with _socket() as sock:
        sock.settimeout(LOOK)
        try:
            sock.connect(name)
            if (user := _user(sock)) not in {0, os.getuid()}:
                # Anybody may take a name; what somebody else's process says is not to be believed.
                log.error("the name %r is taken by a process of user %d, which is no gateway: end it", name[1:], user)
                return None
            sock.sendall(terms)
        except OSError:
            return None
        while os.getppid() == parent:
            try:
                data, descriptors, _, _ = socket.recv_fds(sock, MAX_BYTES, 1)
            except TimeoutError:
                continue
            except OSError:
                return None
            if not data or not descriptors:
                return None
            os.set_inheritable(descriptors[0], False)  # noqa: FBT003 - the os module's own signature
            try:
                return Legacy(json.loads(data), descriptors[0])
            except (ValueError, RecursionError):
                os.close(descriptors[0])
                return None
    raise Orphaned
