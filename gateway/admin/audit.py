"""The changes that operators make over HTTP: who, what, before, after, result. In the log; the last ones in memory."""

import json
import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Final

from loadagent.printable import printable

KEPT: Final = 200
"""Changes in memory; the log has all."""
LONGEST: Final = 2000
"""Characters of a state or a result."""

_log = logging.getLogger("gateway.audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change, or one that was refused."""

    at: float
    """In seconds since 1970."""
    who: str
    """The operator; "anyone": a request without a token."""
    what: str
    """The command."""
    target: str
    """What it is for; "": the gateway."""
    before: Any
    """The state before, in the form of the reports; null if nothing was set."""
    after: Any
    result: str
    """"done", or why it was refused; only the first line where the change is kept."""


class Audit:
    """The last changes, newest first."""

    def __init__(self) -> None:
        self._last: deque[Change] = deque(maxlen=KEPT)

    def note(self, change: Change) -> None:
        """Log a change, and keep it with the first line of its result.

        The role read may see the changes, but need not see what the problems of a refused site file quote.
        """
        kept = replace(change, result=change.result.partition("\n")[0].rstrip(":"))
        self._last.appendleft(kept)
        states = " to ".join(_short(state) for state in (change.before, change.after))
        target = f" {printable(change.target)}" if change.target else ""
        _log.info("audit: %s: %s%s: from %s: %s", printable(change.who), change.what, target, states,
                  printable(change.result)[:LONGEST])  # fmt: skip

    @property
    def last(self) -> tuple[Change, ...]:
        """The changes that are kept."""
        return tuple(self._last)


def _short(state: Any) -> str:
    return printable(json.dumps(state))[:LONGEST]
