"""The states of one address on one node, as a table."""

from enum import Enum
from typing import Final


class State(Enum):
    """The state of an address on a node."""

    INIT = "init"
    """Just started: listening, requesting nothing."""
    BACKUP = "backup"
    """Ready to take it."""
    OWNER = "owner"
    """Owns it, while its lease holds."""
    FAULT = "fault"
    """Cannot own it: interface down, program failed, duplicate found …"""


class Event(Enum):
    """The events of an address."""

    SETTLED = "settled"
    """Has listened for long enough."""
    WON = "won"
    """Holds the lease."""
    LOST = "lost"
    """The lease has expired, or another owner has precedence."""
    RELEASED = "released"
    """Given away in order."""
    UNFIT = "unfit"
    FIT = "fit"


class Effect(Enum):
    """What a transition requires the node to do."""

    TAKE = "take"
    DROP = "drop"
    """At once."""


TABLE: Final[dict[tuple[State, Event], tuple[State, Effect | None]]] = {
    (State.INIT, Event.SETTLED): (State.BACKUP, None),
    (State.INIT, Event.UNFIT): (State.FAULT, None),
    (State.BACKUP, Event.WON): (State.OWNER, Effect.TAKE),
    (State.BACKUP, Event.UNFIT): (State.FAULT, None),
    (State.OWNER, Event.LOST): (State.BACKUP, Effect.DROP),
    (State.OWNER, Event.RELEASED): (State.BACKUP, None),
    (State.OWNER, Event.UNFIT): (State.FAULT, Effect.DROP),
    (State.FAULT, Event.FIT): (State.BACKUP, None),
}
"""(state, event) → (next state, effect). Other events are ignored."""


def step(state: State, event: Event) -> tuple[State, Effect | None]:
    """Return the next state and the effect."""
    return TABLE.get((state, event), (state, None))
