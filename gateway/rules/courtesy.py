"""How a long piece of work lets the traffic beside it have the interpreter.

A thread that waits for the interpreter gets it as soon as it has waited for the switch interval and the other one runs
Python's own code: it looks whether somebody waits whenever a function begins, or a loop begins again. Compiled code and
functions of C do not look. Letting go of the interpreter unasked (`with nogil`) would not do: whoever takes it back
before the other one has waked up makes that one wait from the beginning.
"""

from heapq import merge
from typing import Any, Final

CHUNK: Final = 500


def give_way() -> None:
    """Let compiled code look whether somebody waits: a function of Python's own begins, though it does nothing."""


def sort(items: list[Any]) -> list[Any]:
    """Return the items in order."""
    return list(merge(*[sorted(items[at : at + CHUNK]) for at in range(0, len(items), CHUNK)]))
