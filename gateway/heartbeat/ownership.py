"""The states of one address on one node, as a table."""

from enum import Enum
from typing import Final


class State(Enum):
    """Where a node stands with an address."""

    INIT = "init"
    """Just started: listening, asking for nothing."""
    BACKUP = "backup"
    """Ready to take it."""
    OWNER = "owner"
    """Has it, for as long as its lease holds."""
    FAULT = "fault"
    """Cannot have it: interface down, program failed, duplicate found …"""


class Event(Enum):
    """What can happen to it."""

    SETTLED = "settled"
    """Listened for long enough."""
    WON = "won"
    """Holds the lease."""
    LOST = "lost"
    """The lease ran out, or another owner goes first."""
    RELEASED = "released"
    """Given away in order."""
    UNFIT = "unfit"
    FIT = "fit"


class Deed(Enum):
    """What follows."""

    TAKE = "take"
    DROP = "drop"
    """At once."""


TABLE: Final[dict[tuple[State, Event], tuple[State, Deed | None]]] = {
    (State.INIT, Event.SETTLED): (State.BACKUP, None),
    (State.INIT, Event.UNFIT): (State.FAULT, None),
    (State.BACKUP, Event.WON): (State.OWNER, Deed.TAKE),
    (State.BACKUP, Event.UNFIT): (State.FAULT, None),
    (State.OWNER, Event.LOST): (State.BACKUP, Deed.DROP),
    (State.OWNER, Event.RELEASED): (State.BACKUP, None),
    (State.OWNER, Event.UNFIT): (State.FAULT, Deed.DROP),
    (State.FAULT, Event.FIT): (State.BACKUP, None),
}
"""(state, event) → (next state, deed). What is not in it changes nothing."""


def step(state: State, event: Event) -> tuple[State, Deed | None]:
    """Return what `event` makes of `state`."""
    return TABLE.get((state, event), (state, None))
