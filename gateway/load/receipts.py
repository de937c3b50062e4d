"""How often trials of agents are answered, and with which opinion."""

from collections.abc import Callable, Mapping
from typing import Final

from gateway.load.replay import Verdict
from loadagent.receipt import Opinion

OPINIONS: Final[Mapping[Verdict, Opinion]] = {
    Verdict.ACCEPTED: Opinion.ACCEPTED,
    Verdict.SKEWED: Opinion.CLOCK,
    Verdict.ELSEWHERE: Opinion.ELSEWHERE,
}
"""What ReplayGuard.foresee finds."""
SIGNED: Final = 50.0
"""Receipts per second."""
UNSIGNED: Final = 5.0
"""Refusals per second: anybody can ask for one, in the name of another address."""
BURST: Final = 10.0


class _Bucket:
    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._left = BURST
        self._at = now

    def take(self, now: float) -> bool:
        self._left = min(BURST, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Receipts:
    """Bounds the answers, those to trials that are signed apart from the others. `steady`: a monotonic clock."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._signed = _Bucket(SIGNED, steady())
        self._unsigned = _Bucket(UNSIGNED, steady())

    def may_answer(self, *, signed: bool) -> bool:
        """Whether one more trial may be answered now."""
        return (self._signed if signed else self._unsigned).take(self._steady())
