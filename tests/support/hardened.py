"""The environment of processes that run compiled modules of ours, where those are the hardened ones (.ci/hardened.py).

AddressSanitizer must be loaded before everything else, into this process and those that it starts of ours. The other
programs of a test (curl, nginx) are started as ever: so the variable is gone from the environment here.
"""

import os

PRELOADED = os.environ.pop("LD_PRELOAD", "")
"""What is loaded first; empty where the tests run on the release build."""

KEPT = 100 << 20 if PRELOADED else 0
"""Bytes by which a process may grow more than otherwise: AddressSanitizer keeps what was freed for a while."""


def environment() -> dict[str, str]:
    """Return the environment for a process of ours."""
    return {**os.environ, "LD_PRELOAD": PRELOADED} if PRELOADED else dict(os.environ)
