"""Limits of what an operator follows live (tail.py), for commands that must not load the rule language."""

from typing import Final

MAX_WANTED: Final = 8192
"""Bytes of a Wanted in JSON."""
MOST_FOLLOWED: Final = 100
"""Requests of a worker whose steps one tail follows."""
PACKET: Final = 256 * 1024
"""Bytes that a reader must have room for."""
