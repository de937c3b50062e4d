"""The latest data of one process of the tree for processes that cannot query it: JSON in shared memory.

Neither side blocks: the writer copies bytes, a reader retries if it raced with the writer. The data survives the
death of either.

Write access would allow impersonation of the writer, so only the writer has it: every other process has a permanently
read-only mapping, and no descriptor from which it could make another (F_SEAL_FUTURE_WRITE of fcntl(2), and
MADV_DONTFORK of madvise(2)).
"""

import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any, Final

from gateway.process.mapping import map_shared
from gateway.system import plain_json

SIZE: Final = 1 << 18
"""Bytes; a text that does not fit is not said."""
HEADER: Final = struct.Struct("=IId")
"""Length and CRC-32 of the text, and when it was said: seconds of CLOCK_MONOTONIC, the same for every process."""
LOOKS: Final = 20
"""Times that a reader looks before it gives up: a copy takes microseconds."""
_SEALS: Final = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
_FUTURE_WRITE: Final = 0x10  # F_SEAL_FUTURE_WRITE, Linux 5.1; fcntl of the standard library does not have it
_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Bulletin:
    """Make it before the processes that use it. The process that made it writes, and the children forked inside of
    `handed_on`, which must be one at a time; all others read.
    """

    def __init__(self) -> None:
        descriptor = os.memfd_create("gateway-bulletin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, SIZE)
            self._writing = map_shared(descriptor, SIZE, mmap.PROT_READ | mmap.PROT_WRITE)
            _advise(self._writing, mmap.MADV_DONTFORK)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            with contextlib.suppress(OSError):  # without it there is still no descriptor that could be written by
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _FUTURE_WRITE)
            reading = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._reading = map_shared(reading, SIZE, mmap.PROT_READ)
            finally:
                os.close(reading)
        finally:
            os.close(descriptor)
        self._owner = os.getpid()

    @contextlib.contextmanager
    def handed_on(self) -> Iterator[None]:
        """A child that is forked inside becomes the writer, once it has left the block, too."""
        _advise(self._writing, mmap.MADV_DOFORK)
        try:
            yield
        finally:
            _advise(self._writing, mmap.MADV_DONTFORK)
            self._owner = os.getpid()

    def post(self, said: dict[str, Any]) -> None:
        """Publish other data. Raises RuntimeError in a process that only reads."""
        if os.getpid() != self._owner:
            raise RuntimeError("this process may only read the bulletin")
        text = json.dumps(said).encode()
        if len(text) <= SIZE - HEADER.size:
            ctypes.memmove(self._writing + HEADER.size, text, len(text))
            header = HEADER.pack(len(text), zlib.crc32(text), time.monotonic())
            ctypes.memmove(self._writing, header, HEADER.size)

    def stamp(self) -> bytes:
        """What differs after each `post`."""
        return ctypes.string_at(self._reading, HEADER.size)

    def read(self, within: float = float("inf")) -> dict[str, Any] | None:
        """The latest data; None: none yet, none in the last `within` seconds, or JSON that is not an object."""
        for _ in range(LOOKS):
            length, checksum, said = HEADER.unpack(ctypes.string_at(self._reading, HEADER.size))
            # `not a <= b`, not `a > b`: a NaN in the memory must count as too old, and compares false either way.
            if not 0 < length <= SIZE - HEADER.size or not time.monotonic() - said <= within:
                return None
            text = ctypes.string_at(self._reading + HEADER.size, length)
            if zlib.crc32(text) == checksum:
                return _object(text)
        return None


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = plain_json.parse(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _advise(address: int, advice: int) -> None:
    if _libc.madvise(address, SIZE, advice):
        raise OSError(ctypes.get_errno(), "madvise of a bulletin")
