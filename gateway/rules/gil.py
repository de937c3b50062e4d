"""GIL yield: lets the threads that carry traffic have the interpreter while a long piece of work goes on beside them.

A thread that waits for the global interpreter lock gets it as soon as it has waited for the switch interval
(sys.setswitchinterval) and the thread that holds it reaches a check of the evaluation loop: the beginning of a Python
function, or of a loop's next round. Compiled code and functions written in C have no such check. Releasing the lock
unasked (`with nogil`) would not do: the thread that takes it back before a waiting one is awake starts that one's
interval again.
"""

from heapq import merge
from typing import Any, Final

CHUNK: Final = 500
"""Items sorted by one call of C: the longest stretch without a check."""


def yield_gil() -> None:
    """Give compiled code a check of the evaluation loop: a Python function begins, though it does nothing."""


def sort(items: list[Any]) -> list[Any]:
    """Return the items in order, with a check after every CHUNK of them."""
    return list(merge(*[sorted(items[at : at + CHUNK]) for at in range(0, len(items), CHUNK)]))
