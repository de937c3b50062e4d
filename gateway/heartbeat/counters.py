"""What a heartbeat process counts for operators; an upgrade goes on counting."""

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
    """By address, as the next two."""
    releases: Counter[str] = field(default_factory=Counter)
    contests: Counter[str] = field(default_factory=Counter)
    """Announcements by other nodes of an address that this node owns."""
    failures: Counter[str] = field(default_factory=Counter)
    """Programs that did not end well, by what they are."""

    def handed_over(self) -> dict[str, dict[str, int]]:
        """Return all counts, as JSON can have them."""
        return {each.name: dict(getattr(self, each.name)) for each in fields(self)}

    def adopt(self, received: Mapping[str, Any]) -> None:
        """Go on from what `handed_over` said, perhaps that of an older version, which counts less."""
        for each in fields(self):
            getattr(self, each.name).update(received.get(each.name, {}))
