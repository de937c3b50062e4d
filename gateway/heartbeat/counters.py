"""The counters of a heartbeat process for operators; they continue over an upgrade."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Counters:
    """Counts since the gateway was started."""

    refused: Counter[str] = field(default_factory=Counter)
    """Beats that were refused, by reason."""
    takeovers: Counter[str] = field(default_factory=Counter)
    """By address, as are the next two."""
    releases: Counter[str] = field(default_factory=Counter)
    contests: Counter[str] = field(default_factory=Counter)
    """Announcements by other nodes of an address that this node owns."""
    failures: Counter[str] = field(default_factory=Counter)
    """Programs that failed, by kind."""

    def handed_over(self) -> dict[str, dict[str, int]]:
        """Return all counts in a form that JSON can represent."""
        return {each.name: dict(getattr(self, each.name)) for each in fields(self)}

    def adopt(self, received: Mapping[str, Any]) -> None:
        """Continue from the result of `handed_over`, possibly of an older version with fewer counters."""
        for each in fields(self):
            getattr(self, each.name).update(received.get(each.name, {}))
