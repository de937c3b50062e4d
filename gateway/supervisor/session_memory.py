"""The memory in which all workers keep sessions and their queue: it outlives workers, reloads and upgrades."""

import contextlib
import ctypes
import fcntl
import logging
import mmap
import os
from typing import Final

from gateway.process.mapping import map_shared
from qos.sessions import SessionTable, size

SIZE: Final = size()
"""Bytes; the kernel gives memory only for what is used of it."""
_SEALS: Final = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK

log = logging.getLogger(__name__)


class SessionMemory:
    """A memory file and the table in it. `inherited` is a predecessor's descriptor: its table continues to be used
    with, if this version knows the layout. Raises OSError.
    """

    def __init__(self, inherited: int | None = None) -> None:
        self._descriptor = -1
        if inherited is not None:
            try:
                self.table = self._open(inherited)
            except (OSError, ValueError) as error:
                log.warning("upgrade: cannot take over the sessions (%s); live ones return with their tickets", error)
                with contextlib.suppress(OSError):
                    os.close(inherited)
            else:
                return
        descriptor = os.memfd_create("gateway-sessions", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, SIZE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        self.table = self._open(descriptor)

    def fileno(self) -> int:
        """The descriptor, for a successor."""
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor; the table stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self, descriptor: int) -> SessionTable:
        if os.fstat(descriptor).st_size != SIZE or fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise ValueError("its size is wrong")
        address = map_shared(descriptor, SIZE, mmap.PROT_READ | mmap.PROT_WRITE)
        table = SessionTable((ctypes.c_uint8 * SIZE).from_address(address), os.urandom(16))
        self._descriptor = descriptor
        return table
