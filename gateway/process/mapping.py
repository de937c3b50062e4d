"""Shared mappings of memory files that stay for good, and keep no descriptor: the standard library's do."""

import ctypes
import mmap
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_FAILED: Final = ctypes.c_void_p(-1).value


def map_shared(descriptor: int, size: int, protection: int) -> int:
    """The address of a mapping of the first `size` bytes, with mmap.PROT_READ and the like. Raises OSError."""
    address: int | None = _libc.mmap(None, size, protection, mmap.MAP_SHARED, descriptor, 0)
    if address is None or address == _FAILED:
        raise OSError(ctypes.get_errno(), "cannot map a memory file")
    return address
