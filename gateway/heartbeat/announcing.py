"""When to tell the neighbours where an address is. Pure: jobs (jobs.py) that call `say`."""

from collections.abc import Callable
from typing import Final

from gateway.heartbeat.jobs import Job

BURST: Final = (0.0, 0.01, 0.05, 0.15, 0.4, 1.0, 2.0)
"""Seconds between the announcements after a takeover: a lost one must not cost a client its server."""
DEFENCE: Final = BURST[:4]
"""The same where a neighbour may have heard of another owner."""
AGAIN: Final = 10.0
"""Seconds between announcements from then on: a cache with a wrong entry is corrected."""


def announce(say: Callable[[], None]) -> Job:
    """After a takeover, and for as long as the address is here."""
    yield from _each(BURST, say)
    yield from repeat(say)


def repeat(say: Callable[[], None]) -> Job:
    """While the address stays where it is."""
    while True:
        yield AGAIN
        say()


def defend(say: Callable[[], None]) -> Job:
    """Once more, as a link has healed or another has claimed the address."""
    yield from _each(DEFENCE, say)


def _each(pauses: tuple[float, ...], say: Callable[[], None]) -> Job:
    for pause in pauses:
        if pause:  # the first at once: whatever else is to be done has time
            yield pause
        say()
