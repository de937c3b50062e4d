"""What control says of the evacuation of this site: whether shared addresses may move to other nodes."""

from typing import Final

from gateway.process.bulletin import Bulletin

EVERY: Final = 0.5
"""Seconds between two looks."""


class Evacuation:
    """`released`: the site is evacuated, and no client is left here."""

    def __init__(self, control: Bulletin) -> None:
        self._control = control
        self._looked = float("-inf")
        self.released = False

    def look(self, now: float) -> bool:
        """Look if it is time to; whether `released` has changed. Control's last word holds while it is restarted."""
        if now - self._looked < EVERY:
            return False
        self._looked = now
        before, self.released = self.released, (self._control.read() or {}).get("released") is True
        return self.released is not before
