"""A disk shared by all nodes, with one block per node: a link for beats, and a witness (disk_witness.py).

A thread reads and writes, bypassing the page cache where possible: a disk may block it without limit, and the loop of
the heartbeat must not block. A block is a length (4 bytes) and a beat; the signature of the beat detects a block that a
crash has left half written.
"""

import contextlib
import logging
import mmap
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gateway.heartbeat.beat import MAGIC, BadBeat, Beat, Codec
from gateway.heartbeat.disk_witness import DiskWitness
from gateway.heartbeat.guardian import clock
from gateway.heartbeat.privileges import hurry, renounce

log = logging.getLogger(__name__)

AT_ONCE: Final = 64
"""Messages processed before other work."""
_LENGTH: Final = struct.Struct("!I")


class BadDisk(Exception):
    """The disk cannot be used; the message gives the reason."""


class Voice:
    """The disk as a witness: converts between beats and bytes."""

    def __init__(self, codec: Codec, witness: DiskWitness) -> None:
        self._codec = codec
        self._witness = witness

    def show(self, place: int, content: bytes | None, begin: float, end: float) -> None:
        """Process the block at `place`, read from `begin` to `end`; None: it could not be read."""
        message = _message(content) if content is not None else None
        self._witness.show(place, content, self._decode(message) if message else None, begin, end)

    def answer(self, message: bytes, begin: float, end: float) -> bytes | None:
        """Return the disk's response to this node's beat `message`, written from `begin` to `end`."""
        own = self._decode(message)
        return self._codec.encode(self._witness.answer(own, begin, end)) if own is not None else None

    def forget(self) -> None:
        """Discard all votes held."""
        self._witness.forget()

    def _decode(self, message: bytes) -> Beat | None:
        try:
            return self._codec.decode(message)
        except BadBeat:
            return None


class Disk:
    """`place`: index of this node's block among `count`. `period`: seconds between two reads of the others' blocks.

    `carries`: the others' beats are delivered as on any link; `voice`: the disk is a witness. Raises BadDisk.
    """

    BLOCK: Final = 8192

    def __init__(
        self, path: Path, place: int, count: int, period: float, voice: Voice | None = None, *, carries: bool = True
    ) -> None:
        self.name = self.sender = f"disk {path}"
        self._place, self._count, self._period = place, count, period
        self._voice, self._carries = voice, carries
        self._disk, self._direct = _open(path)
        try:
            self._prepare(path)
        except BaseException:
            os.close(self._disk)
            raise
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (self._ours, self._theirs):
            sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._message: bytes | None = None
        self._written = b""
        self._block = mmap.mmap(-1, self.BLOCK)  # aligned, as O_DIRECT requires
        self._seen: dict[int, bytes] = {}
        self._trespasser = False
        self._wake, self._ready, self._may = threading.Event(), threading.Event(), threading.Event()
        self._confined = threading.Event()
        self._closing = False
        self._confine: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._work, name="disk", daemon=True)

    def start(self) -> None:
        """Create the thread as root, before other threads and processes. It waits for `go`."""
        self._thread.start()
        self._ready.wait()

    def go(self, confine: Callable[[], None]) -> None:
        """Start the thread's work, without privileges; return when it has called `confine`.

        A filter set for all threads later would prevent the thread from dropping more privileges.
        """
        self._confine = confine
        self._may.set()
        self._confined.wait()

    def doubts(self) -> Iterator[str]:
        """Warnings for the operator."""
        if not self._direct:
            yield f"{self.name}: direct I/O is not available, but all nodes must see each write at once"

    def fileno(self) -> int:
        """The descriptor on which the thread delivers."""
        return self._ours.fileno()

    def send(self, message: bytes) -> None:
        """Schedule a message for writing; only the newest is written."""
        self._message = message
        self._wake.set()

    def receive(self) -> Iterator[bytes]:
        """New beats in the other nodes' blocks, and the disk's responses as a witness."""
        for _ in range(AT_ONCE):
            try:
                yield self._ours.recv(self.BLOCK)
            except OSError:
                return

    def close(self) -> None:
        """Let the thread end; it closes its descriptors once a pending disk operation returns."""
        self._closing = True
        self._may.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        if not self._thread.is_alive():
            os.close(self._disk)
            self._theirs.close()
        self._ours.close()

    def _prepare(self, path: Path) -> None:
        """Extend a file to the needed size; refuse one that contains other data. Raises BadDisk."""
        size = self._count * self.BLOCK
        try:
            about = os.fstat(self._disk)
            if stat.S_ISREG(about.st_mode) and about.st_size < size:
                os.ftruncate(self._disk, size)
            area = mmap.mmap(-1, size)
            if os.preadv(self._disk, [area], 0) < size:
                raise BadDisk(f"{path} is too small: {size // 1024} KiB are needed")
        except OSError as error:
            raise BadDisk(f"{path}: {(error.strerror or '').lower()}") from None
        for place in range(self._count):
            content = area[place * self.BLOCK : (place + 1) * self.BLOCK]
            if content[4:8] != MAGIC and any(content):
                raise BadDisk(
                    f"{path} contains other data: give the heartbeat its own device or file, or fill the first "
                    f"{size // 1024} KiB with zeros"
                )

    # ------------------------------------------------------------------------------------------------------ the thread

    def _work(self) -> None:
        hurry()
        self._ready.set()
        self._may.wait()
        try:
            renounce()
            if self._confine is not None:
                self._confine()
        finally:
            self._confined.set()
        area = mmap.mmap(-1, self._count * self.BLOCK)
        while not self._closing:
            self._wake.wait(self._period)
            self._wake.clear()
            message, self._message = self._message, None
            begin = clock()
            if message is not None and not self._write(message):
                message = None
            end = clock()
            self._look(area)
            if message is not None and self._voice is not None and not self._trespasser:
                self._deliver(self._voice.answer(message, begin, end))

    def _write(self, message: bytes) -> bool:
        content = (_LENGTH.pack(len(message)) + message).ljust(self.BLOCK, b"\0")
        self._block[:] = content
        self._written = b""
        try:
            done = os.pwritev(self._disk, [self._block], self._place * self.BLOCK) == self.BLOCK
        except OSError:
            done = False
        self._written = content if done else b""
        return done

    def _look(self, area: mmap.mmap) -> None:
        """Read all blocks."""
        begin = clock()
        try:
            got = os.preadv(self._disk, [area], 0)
        except OSError:
            got = 0
        end = clock()
        for place in range(self._count):
            at = place * self.BLOCK
            content = area[at : at + self.BLOCK] if at + self.BLOCK <= got else None
            if place == self._place:
                self._check_own(content)
                continue
            if self._voice is not None:
                self._voice.show(place, content, begin, end)
            if content is not None and content != self._seen.get(place):
                self._seen[place] = content
                if self._carries:
                    self._deliver(_message(content))

    def _check_own(self, content: bytes | None) -> None:
        """Check that no other node writes to this node's block: the two would overwrite each other's flag."""
        trespasser = bool(self._written) and content is not None and content != self._written
        if trespasser and not self._trespasser:
            log.error(
                "%s: another node writes to block %d; `nodes` must be the same on all nodes", self.name, self._place
            )
        self._trespasser = trespasser
        if trespasser and self._voice is not None:
            self._voice.forget()

    def _deliver(self, message: bytes | None) -> None:
        if message:
            with contextlib.suppress(OSError):
                self._theirs.send(message)


def _open(path: Path) -> tuple[int, bool]:
    """The descriptor, and whether it bypasses the page cache. Raises BadDisk."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_DSYNC
    try:
        try:
            return os.open(path, flags | os.O_DIRECT), True
        except OSError:  # the file system does not support it
            return os.open(path, flags), False
    except OSError as error:
        raise BadDisk(f"{path}: {(error.strerror or '').lower()}") from None


def _message(content: bytes) -> bytes | None:
    """The message in a block; None if it is not valid."""
    (length,) = _LENGTH.unpack_from(content)
    return content[4 : 4 + length] if 0 < length <= len(content) - 4 else None
