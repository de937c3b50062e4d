"""Keeps a repeated complaint from filling the log: the first is said, then one a period, with a count."""

from collections.abc import Hashable

_MAX_TOPICS = 1024


class Quiet:
    """Decides whether to say something again. `period` is in seconds."""

    def __init__(self, period: float = 60.0) -> None:
        self._period = period
        self._topics: dict[Hashable, tuple[float, int]] = {}  # topic → last said, kept back since

    def ask(self, topic: Hashable, now: float) -> int | None:
        """Return how many were kept back since the last time if it is to be said now, else None.

        `now` is in seconds of any steady clock. Topics may come from the network: at most 1024 are
        remembered, and while all of them are fresh, new ones are kept back.
        """
        said, kept_back = self._topics.get(topic, (None, 0))
        if said is not None and now - said < self._period:
            self._topics[topic] = (said, kept_back + 1)
            return None
        if said is None and len(self._topics) >= _MAX_TOPICS:
            self._topics = {key: value for key, value in self._topics.items() if now - value[0] < self._period}
            if len(self._topics) >= _MAX_TOPICS:
                return None
        self._topics[topic] = (now, 0)
        return kept_back
