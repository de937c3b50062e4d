"""GIL yield: lets threads that carry traffic run while a long computation continues beside them.

A thread that waits for the global interpreter lock gets it once it has waited for the switch interval
(sys.setswitchinterval) and the holder reaches a check of the evaluation loop: at the start of a Python function, or of
a loop's next iteration. Compiled code and functions written in C have no such check. An explicit release
(`with nogil`) would not help: if the releasing thread takes the lock back before the waiting one is awake, the waiting
thread's interval starts again.
"""

from heapq import merge
from typing import Any, Final

CHUNK: Final = 500
"""Items sorted by one call into C: the longest stretch without a check."""


def yield_gil() -> None:
    """Give compiled code a check of the evaluation loop by calling a Python function that does nothing."""


def sort(items: list[Any]) -> list[Any]:
    """Return the items in order; there is a check after every CHUNK of them."""
    return list(merge(*[sorted(items[at : at + CHUNK]) for at in range(0, len(items), CHUNK)]))
