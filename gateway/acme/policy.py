"""When to order a certificate, and how long to leave an authority alone after a failure. Pure: times are passed in.

Times are in seconds since 1970, spans in seconds. Authorities count orders: Let's Encrypt refuses a name for an hour
after five failures, and an account after some more (letsencrypt.org/docs/rate-limits).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, TypeAlias

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
DUE: Final = 2 / 3
"""Part of a certificate's life after which it is renewed, if its authority does not say when,"""
SPREAD: Final = 0.05
"""or up to this part of its life earlier, so that certificates of one day are not renewed in one moment."""
LATEST: Final = 0.9
"""Part of a life by which it is renewed whatever the authority says."""
SOONEST: Final = HOUR
"""Seconds between two orders of a certificate, whatever its authority says, and however short it lives."""
LEADS_AFTER: Final = 60.0
"""Seconds for which a gateway waits for the one that ordered so far, which bounds how often two order at once; and for
all others after its start."""

Kind: TypeAlias = Literal["unreachable", "refused", "limited"]
"""Of a failure: no usable answer, which costs nothing; refused, which is counted; and too many of that."""

_FIRST: Final[dict[Kind, float]] = {"unreachable": 60.0, "refused": 5 * 60.0, "limited": HOUR}
_LONGEST: Final[dict[Kind, float]] = {"unreachable": HOUR, "refused": DAY, "limited": DAY}
_JITTER: Final = 0.2
_AT_MOST: Final = 4
"""Failures of a name in an hour, whatever its settings were."""
_LONGEST_ASKED: Final = 7 * DAY
"""Most that an authority can let us wait."""
_ASK_AGAIN: Final = 60.0, DAY
"""Bounds of the time between two questions when to renew (RFC 9773 section 4.3)."""


@dataclass(frozen=True, slots=True)
class Window:
    """When an authority suggests to renew a certificate (RFC 9773 section 4.2)."""

    start: float
    end: float


def draw(*texts: str) -> float:
    """A number from 0 to 1 that is the same in all gateways and after a restart."""
    return int.from_bytes(sha256("\n".join(texts).encode()).digest()[:7]) / 2**56


def renew_at(not_before: float, not_after: float, window: Window | None, luck: float, came: float = 0.0) -> float:
    """When to renew a certificate that `came` at a time; `luck` from 0 to 1 places it within what is allowed."""
    life = max(0.0, not_after - not_before)
    if window is None:
        at = not_before + life * (DUE - SPREAD * luck)
    else:
        at = min(window.start + max(0.0, window.end - window.start) * luck, not_before + life * LATEST)
    return max(at, came + SOONEST)


def ask_again(asked: float) -> float:
    """Seconds until the next question when to renew, of those that the authority asks for."""
    return min(max(asked, _ASK_AGAIN[0]), _ASK_AGAIN[1])


def wait_after(kind: Kind, failures: int, luck: float, asked: float = 0.0) -> float:
    """Seconds until the next try after so many failures in a row; `asked` are those that the authority wants."""
    wait = min(_FIRST[kind] * 2.0 ** min(max(failures, 1) - 1, 20), _LONGEST[kind])
    return max(wait * (1 - _JITTER / 2 + _JITTER * luck), min(asked, _LONGEST_ASKED))


def recent(failed_at: Sequence[float], now: float) -> tuple[float, ...]:
    """The failures that still count."""
    return tuple(at for at in failed_at if now - HOUR < at <= now)[-_AT_MOST:]


def allowed_at(failed_at: Sequence[float], now: float) -> float:
    """When another order of a name may fail, for which other settings do not matter."""
    found = recent(failed_at, now)
    return found[0] + HOUR if len(found) >= _AT_MOST else now


def orders(node: str, alive: Sequence[str], nodes: Sequence[str]) -> Literal["now", "later", "no"]:
    """Whether a gateway of a cluster orders: the first by name of those that are there.

    "later": those before it are not there, and could be ordering behind a network that is cut: LEADS_AFTER from now.
    """
    if any(other < node for other in alive if other != node):
        return "no"
    return "later" if any(other < node for other in nodes) else "now"
