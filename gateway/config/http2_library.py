"""Whether HTTP/2 is available on this machine: its framing library is not a Python package."""

import ctypes
from typing import Final

NAME: Final = "libnghttp2.so.14"
PACKAGE: Final = "libnghttp2-14"


def is_there() -> bool:
    """Return whether the library can be loaded."""
    try:
        ctypes.CDLL(NAME)
    except OSError:
        return False
    return True
