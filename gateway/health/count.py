"""Rise and fall: the number of consecutive results that change a server's state. Pure."""

import enum

from gateway import board


class State(enum.IntEnum):
    """A server's operational state, as the Board holds it."""

    UNKNOWN = board.UNKNOWN
    UP = board.UP
    DOWN = board.DOWN


class Counter:
    """Counts one server's results.

    The first check alone decides the state UNKNOWN, so that a start takes one round. From then on `fall` consecutive
    bad results take an UP server down, and `rise` good ones bring it back.
    """

    def __init__(self, rise: int, fall: int, state: State = State.UNKNOWN) -> None:
        self.state = state
        self.streak = 0  # consecutive results that contradict the state
        self._rise = rise
        self._fall = fall

    def __repr__(self) -> str:
        return f"<Counter {self.state.name}, {self.streak} against>"

    @property
    def undecided(self) -> bool:
        """Whether results contradict the state, but not enough of them yet."""
        return self.streak > 0

    def add(self, *, good: bool) -> int:
        """Count one result. Return the number of consecutive results if they changed the state, 0 otherwise."""
        state = State.UP if good else State.DOWN
        if state is self.state:
            self.streak = 0
            return 0
        self.streak += 1
        needed = {State.UNKNOWN: 1, State.UP: self._fall, State.DOWN: self._rise}[self.state]
        if self.streak < needed:
            return 0
        counted, self.streak, self.state = self.streak, 0, state
        return counted
