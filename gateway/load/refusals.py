"""Refused datagrams: counted by reason, and logged with a limit on repeats."""

import logging
import time
from collections import Counter
from collections.abc import Callable

from loadagent.log_throttle import LogThrottle


class Refusals:
    """`what`: the name of such a datagram in the log. `steady`: seconds of a monotonic clock."""

    def __init__(self, what: str, log: logging.Logger, steady: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._what = what
        self._log = log
        self._steady = steady
        self._throttle = LogThrottle()

    def note(self, reason: str, detail: str, source: str) -> None:
        """Note one from `source`, an IP address, or "" for an error of the socket itself."""
        self.counts[reason] += 1
        kept_back = self._throttle.ask((source, reason), self._steady())
        if kept_back is not None:
            more = f" ({kept_back} more like this before)" if kept_back else ""
            self._log.warning("%s from %s refused: %s%s", self._what, source or "the network", detail, more)
