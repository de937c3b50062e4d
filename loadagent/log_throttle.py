"""Keeps a repeated message from filling the log: the first is logged, then one per period, with a count."""

from collections.abc import Hashable
from typing import Final

MAX_TOPICS: Final = 1024


class LogThrottle:
    """Decides whether to log a message again. `period` is in seconds.

    The cost of a decision is constant and the memory is bounded, whatever the number of topics: they may come from the
    network.
    """

    def __init__(self, period: float = 60.0) -> None:
        self._period = period
        self._topics: dict[Hashable, tuple[float, int]] = {}
        """Topic → time of its last log line, number suppressed since; ordered by that time."""
        self._others: tuple[float, int] | None = None
        """The same for all topics together that exceed MAX_TOPICS."""

    def ask(self, topic: Hashable, now: float) -> int | None:
        """Return the number suppressed since the last log line if the message should be logged now, else None.

        `now` is in seconds of any monotonic clock. MAX_TOPICS are remembered; while all of them are recent, any others
        share one entry.
        """
        if topic not in self._topics and len(self._topics) >= MAX_TOPICS and not self._forget_one(now):
            self._others, answer = self._decide(self._others, now)
            return answer
        entry, answer = self._decide(self._topics.get(topic), now)
        if answer is not None:
            self._topics.pop(topic, None)  # becomes the last one
        self._topics[topic] = entry
        return answer

    def _decide(self, entry: tuple[float, int] | None, now: float) -> tuple[tuple[float, int], int | None]:
        """The new entry of a topic, and the result of `ask`."""
        if entry is None:
            return (now, 0), 0
        said, kept_back = entry
        return ((said, kept_back + 1), None) if now - said < self._period else ((now, 0), kept_back)

    def _forget_one(self, now: float) -> bool:
        """Forget the topic that was logged least recently; False if it is recent, and so are all."""
        oldest = next(iter(self._topics))
        if now - self._topics[oldest][0] < self._period:
            return False
        del self._topics[oldest]
        return True
