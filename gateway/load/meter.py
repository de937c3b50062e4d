"""One server's load: counted by the workers and reported by its agent, both smoothed. Pure."""

from gateway.load.weights import Observation, approach


class Meter:
    """Averages one server's counters and reports. Times are in seconds of any one steady clock."""

    def __init__(self, requests: int, failures: int) -> None:
        self._counts = requests, failures
        self._rate = 0.0
        self._failure_rate = 0.0
        self._load: float | None = None
        self._heard_at = 0.0

    def count(self, requests: int, failures: int, elapsed: float) -> None:
        """Take the counters' present values, `elapsed` seconds after the last time."""
        before = self._counts
        self._counts = requests, failures
        if elapsed <= 0.0:
            return
        # Counters only go back when the row is cleared: then there is no difference to speak of.
        done, failed = (max(0, new - old) for new, old in zip(self._counts, before, strict=True))
        self._rate = approach(self._rate, done / elapsed, elapsed)
        self._failure_rate = approach(self._failure_rate, failed / elapsed, elapsed)

    def hear(self, load: float | None, now: float, stale_after: float) -> None:
        """Take a reported load; None: a report without one."""
        known = self.load(now, stale_after)
        self._load = load if load is None or known is None else approach(known, load, now - self._heard_at)
        self._heard_at = now

    def load(self, now: float, stale_after: float) -> float | None:
        """Return the load, or None if the last report is older than `stale_after` seconds."""
        return self._load if now - self._heard_at <= stale_after else None

    def observe(self, weight: float, load: float | None) -> Observation:
        """Return what the weights are made of, for a server of a configured weight."""
        ratio = min(1.0, self._failure_rate / self._rate) if self._rate > 0.0 else 0.0
        return Observation(weight, self._rate, ratio, load)
