"""Notices that files of certificates have changed, by polling them.

Looking works on every file system and through symbolic links, unlike inotify(7): Kubernetes and certbot replace links,
and certificates are on network file systems.
"""

import time
from collections.abc import Callable
from typing import Final

from gateway.config import Site, certificate_files
from gateway.config.file_stamp import Stamps

PERIOD: Final = 2.0
"""Seconds between two looks,"""
COST: Final = 100
"""and at least so many times what a look takes: thousands of files take at most 1 % of a processor."""
SETTLE: Final = 1.0
"""Seconds without another change: a certificate and its key are written one after the other."""
REPEAT: Final = 86400.0
"""Seconds between two warnings about a certificate that expires."""


class CertificateWatch:
    """Compares stamps of files with those of the files in use. `clock` counts seconds."""

    def __init__(
        self, look: Callable[[Site], Stamps] = certificate_files.stamps, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._clock = clock
        self._changed: Stamps | None = None
        self._next = 0.0
        self._warn = clock() + REPEAT

    @property
    def deadline(self) -> float:
        """When there is something to do next."""
        return min(self._next, self._warn)

    def due(self, now: float) -> bool:
        """Return whether it is time to warn again."""
        if now < self._warn:
            return False
        self._warn = now + REPEAT
        return True

    def changed(self, now: float, site: Site, used: Stamps) -> bool:
        """Return whether files differ from those in use, and have been left alone for a while.

        It looks only when it is time to.
        """
        if now < self._next:
            return False
        if not used:
            self._next = float("inf")  # a site without certificates gets some by a reload only
            return False
        began = self._clock()
        found = self._look(site)
        self._next = now + max(PERIOD, (self._clock() - began) * COST)
        if found in (used, self._changed):
            ready = found != used
            self._changed = None
            return ready
        self._changed = found
        self._next = now + max(SETTLE, (self._clock() - began) * COST)
        return False

    def restart(self) -> None:
        """Look again soon: other files may be in use now."""
        self._changed = None
        self._next = self._clock() + PERIOD
