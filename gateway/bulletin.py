"""What one process of the tree says and another reads at leisure: JSON in shared memory, the newest only.

Nobody waits for anybody: the writer copies bytes, a reader looks again if it came in between. What was said survives
the death of either.
"""

import json
import mmap
import os
import struct
import time
import zlib
from typing import Any, Final

SIZE: Final = 1 << 18
"""Bytes; a text that does not fit is not said."""
HEADER: Final = struct.Struct("=IId")
"""Length and CRC-32 of the text, and when it was said: seconds of CLOCK_MONOTONIC, the same for every process."""
LOOKS: Final = 20
"""Times that a reader looks before it gives up: a copy takes microseconds."""


class Bulletin:
    """Shared by fork: make it before. One process writes."""

    def __init__(self) -> None:
        descriptor = os.memfd_create("gateway-bulletin", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, SIZE)
            self._memory = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)

    def post(self, said: dict[str, Any]) -> None:
        """Say something else from now on."""
        text = json.dumps(said).encode()
        if len(text) <= SIZE - HEADER.size:
            self._memory[HEADER.size : HEADER.size + len(text)] = text
            HEADER.pack_into(self._memory, 0, len(text), zlib.crc32(text), time.monotonic())

    def read(self, within: float = float("inf")) -> dict[str, Any] | None:
        """What was said last; None: nothing yet, or nothing in the last `within` seconds."""
        for _ in range(LOOKS):
            length, checksum, said = HEADER.unpack_from(self._memory)
            if not length or time.monotonic() - said > within:
                return None
            text = self._memory[HEADER.size : HEADER.size + length]
            if zlib.crc32(text) == checksum:
                found: dict[str, Any] = json.loads(text)
                return found
        return None
