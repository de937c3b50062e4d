"""When to announce an address to the neighbours. Pure: jobs (jobs.py) that call `say`."""

from collections.abc import Callable
from typing import Final

from gateway.heartbeat.jobs import Job

BURST: Final = (0.0, 0.01, 0.05, 0.15, 0.4, 1.0, 2.0)
"""Seconds between the announcements after a takeover: several, because one may be lost."""
DEFENCE: Final = BURST[:4]
"""The same where a neighbour may have received another owner's announcement."""
AGAIN: Final = 10.0
"""Seconds between announcements from then on: they correct wrong cache entries."""


def announce(say: Callable[[], None]) -> Job:
    """After a takeover, and while this node has the address."""
    yield from _each(BURST, say)
    yield from repeat(say)


def repeat(say: Callable[[], None]) -> Job:
    """While the address stays here."""
    while True:
        yield AGAIN
        say()


def defend(say: Callable[[], None]) -> Job:
    """Again, because a link has recovered or another host has claimed the address."""
    yield from _each(DEFENCE, say)


def _each(pauses: tuple[float, ...], say: Callable[[], None]) -> Job:
    for pause in pauses:
        if pause:  # the first one at once: the other work can wait
            yield pause
        say()
