"""What waits for the collector: bounded, with the losses counted by reason, and when to send what. Pure."""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Final

from gateway.tracing.spans import Traced

MOST: Final = 8192
"""Requests that wait; when there are more, the oldest are lost."""
BATCH: Final = 512
"""Requests that are sent at once."""
EVERY: Final = 1.0
"""Seconds that a request waits for others."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds between attempts at a collector that takes nothing."""
REASONS: Final = ("worker", "waiting", "refused", "stopped", "malformed")
"""worker: the tracing process did not read in time; waiting: more waited than MOST; refused: by the collector; stopped:
the gateway ended before they were sent; malformed: what a worker wrote cannot be read."""


class Outbox:
    """`exported` and `lost` go on from the counts given."""

    def __init__(self, exported: int = 0, lost: Mapping[str, int] | None = None) -> None:
        self.exported = exported
        self.lost = Counter(dict.fromkeys(REASONS, 0) | dict(lost or {}))
        self.failing = ""
        """Why the last attempt failed; empty: it did not."""
        self._waiting: deque[Traced] = deque()
        self._oldest = 0.0
        """When the first of those that wait came,"""
        self._again = 0.0
        """and when it may be sent."""
        self._pause = FIRST_PAUSE

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, traced: Traced, now: float) -> None:
        """Take one more."""
        if not self._waiting:
            self._oldest = now
        if len(self._waiting) >= MOST:
            self._waiting.popleft()
            self.lost["waiting"] += 1
        self._waiting.append(traced)

    def due(self) -> float:
        """When the next batch is to be sent; infinite: nothing waits."""
        if not self._waiting:
            return float("inf")
        return max(self._again, 0.0 if len(self._waiting) >= BATCH else self._oldest + EVERY)

    def take(self) -> list[Traced]:
        """The next batch, which then no longer waits."""
        return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    def sent(self, count: int, rejected: int, now: float) -> None:
        """The collector has taken a batch, but for some."""
        self.exported += max(0, count - rejected)
        self.lost["refused"] += min(count, rejected)
        self.failing, self._pause, self._again, self._oldest = "", FIRST_PAUSE, 0.0, now

    def refused(self, count: int, why: str, now: float) -> None:
        """The collector will never take this batch."""
        self.lost["refused"] += count
        self.failing, self._oldest = why, now

    def failed(self, batch: list[Traced], why: str, now: float, wait: float = 0.0) -> None:
        """The collector does not take a batch now: it waits again, as far as there is room. `wait`: as it says."""
        room = max(0, MOST - len(self._waiting))
        self.lost["waiting"] += max(0, len(batch) - room)
        self._waiting.extendleft(reversed(batch[max(0, len(batch) - room) :]))
        self.failing = why
        self._again = now + min(max(self._pause, wait), LONGEST_PAUSE)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def stop(self) -> None:
        """Count what waits still as lost."""
        self.lost["stopped"] += len(self._waiting)
        self._waiting.clear()
