"""What must hold before a site is worked by, found out in a process of its own: there the code of the site may run."""

import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gateway.config import ConfigError, Problem
from gateway.config.loader import Loaded
from gateway.config.python import Function
from gateway.errand import Say, errand

DEADLINE: Final = 20.0
"""Seconds for everything."""


def require(loaded: Loaded, settle: Callable[[], None]) -> None:
    """Run the Python files of a site, and its tests if it says tests_required. Raises ConfigError.

    `settle` gives up privileges.
    """
    functions = {route.python.function for route in loaded.site.routes if route.python is not None}
    tests = loaded.site.tests_required
    if not tests and not functions:
        return

    def run(say: Say) -> None:
        # Here, so that the supervisor does without what only workers need; and before it may be out of reach.
        from gateway.explain import trial  # noqa: PLC0415
        from gateway.rules.python import function_of  # noqa: PLC0415

        settle()
        failed = [
            problem
            for function in sorted(functions, key=str)
            for problem in _broken(function, loaded.files[function.path], function_of)
        ]
        if tests and not failed:
            failed = [
                (str(loaded.path), *verdict.place, f"tests[{verdict.index}] fails: {verdict.summary}")
                for verdict in trial.run(loaded)
                if verdict.differences
            ]
        say(json.dumps(failed).encode())

    what = " and ".join(["its Python files"] * bool(functions) + ["its tests"] * tests)
    try:
        found = json.loads(errand(run, DEADLINE, f"{what} broke off"))
    except ValueError:
        message = f"{what} did not end within {DEADLINE:g} s, or broke off"
        raise ConfigError([Problem(loaded.path, 1, 1, message)]) from None
    if found:
        raise ConfigError([Problem(Path(path), line, column, message) for path, line, column, message in found])


def _broken(
    function: Function, source: bytes, run: Callable[[bytes, str, str], object]
) -> Iterator[tuple[str, int, int, str]]:
    """What running the file of a function raises, with its line there."""
    path = str(function.path)
    try:
        run(source, path, function.name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - its code may raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        yield path, (lines or [1])[-1] or 1, 1, f"running it for {function.text} fails: {said}"
