"""Beats that are not of this cluster: who sends them and why they are refused, for the log and `gateway status`."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.load.refusals import Refusals
from gateway.reports import RefusedBeatsReport

MOST: Final = 16
"""Senders and reasons that are remembered."""
LATELY: Final = 300.0
"""Seconds for which they are."""
MEANINGS: Final = {
    "signature": "signed with another key: key_file of cluster differs between the two nodes",
    "another cluster": "of a cluster with the same key and another name (cluster: name)",
    "version": "of another format: the two gateways are of versions that do not understand each other",
    "unknown node": "of a node that cluster: nodes does not name here",
    "own name": "of a node with the name of this one: each needs its own (node:)",
}
"""What an operator has to do something about. Others, such as a beat that comes twice, are counted only."""

_log = logging.getLogger("gateway.heartbeat")


@dataclass(slots=True)
class _Seen:
    count: int
    last: float


class RefusedBeats:
    """Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._refusals = Refusals("beat", _log)
        self._seen: dict[tuple[str, str], _Seen] = {}

    def note(self, reason: str, sender: str, now: float) -> None:
        """Note one from `sender`: an address, or the name of the link if that has none."""
        if reason not in MEANINGS:
            return
        self._refusals.note(reason, MEANINGS[reason], sender)
        count = self._seen.pop((sender, reason)).count if (sender, reason) in self._seen else 0
        if len(self._seen) >= MOST:
            del self._seen[next(iter(self._seen))]  # the one that has been silent longest
        self._seen[sender, reason] = _Seen(count + 1, now)

    def report(self, now: float) -> Iterator[RefusedBeatsReport]:
        """Those of the last minutes."""
        for (sender, reason), seen in self._seen.items():
            if now - seen.last <= LATELY:
                ago = round(now - seen.last, 1)
                yield RefusedBeatsReport(sender=sender, why=MEANINGS[reason], count=seen.count, ago=ago)
