"""Tests that must pass before a site is worked by, in a process of their own: the rules of the file run there."""

import json
from collections.abc import Callable
from typing import Final

from gateway.config import ConfigError, Problem
from gateway.config.loader import Loaded
from gateway.errand import Say, errand

DEADLINE: Final = 20.0
"""Seconds for all tests."""


def require(loaded: Loaded, settle: Callable[[], None]) -> None:
    """Run the tests of a site that says tests_required; `settle` gives up privileges. Raises ConfigError."""
    if not loaded.site.tests_required:
        return

    def run(say: Say) -> None:
        # Here, so that the supervisor does without what only workers need.
        from gateway.explain import trial  # noqa: PLC0415

        settle()
        failed = [
            (*verdict.place, f"tests[{verdict.index}] fails: {verdict.summary}")
            for verdict in trial.run(loaded)
            if verdict.differences
        ]
        say(json.dumps(failed).encode())

    try:
        found = json.loads(errand(run, DEADLINE, "the tests of the site file broke off"))
    except ValueError:
        message = f"its tests did not end within {DEADLINE:g} s, or broke off"
        raise ConfigError([Problem(loaded.path, 1, 1, message)]) from None
    if found:
        raise ConfigError([Problem(loaded.path, line, column, message) for line, column, message in found])
