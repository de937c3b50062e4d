"""What must hold before a site is used, checked in a child process, where the code of the site may run."""

import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from gateway.config import ConfigError, Problem
from gateway.config.loader import Loaded
from gateway.config.python import Function
from gateway.hardening import roles
from gateway.hardening.account import Account
from gateway.hardening.confinement import Bounds, settle
from gateway.process.helper import Task, Write, run_helper
from loadagent.printable import printable

DEADLINE: Final = 20.0
"""Seconds for everything."""
LIMIT: Final = 1024 * 1024
"""Bytes that the child may say."""
LONGEST: Final = 4000
"""Characters of one of its texts."""

_Text = Annotated[str, Field(max_length=LONGEST), AfterValidator(printable)]
_Number = Annotated[int, Field(ge=1, le=2**31)]
_FAILED: Final = TypeAdapter(Annotated[list[tuple[_Text, _Number, _Number, _Text]], Field(max_length=10_000)])
"""What the child says: of each failure the file, the line, the column, and what failed."""


def require(loaded: Loaded, who: Account | None) -> None:
    """Run the Python files of a site, and its tests if it says tests_required, as `who`. Raises ConfigError."""
    functions = {route.python.function for route in loaded.site.routes if route.python is not None}
    tests = loaded.site.tests_required
    if not tests and not functions:
        return

    def prepare() -> Task:
        # Here, so that the supervisor does without what only workers need.
        from gateway.explain import trial  # noqa: PLC0415
        from gateway.rules.python import function_of  # noqa: PLC0415

        def run(write: Write) -> None:
            failed = [
                problem
                for function in sorted(functions, key=str)
                for problem in _broken(function, loaded.files[function.path], function_of)
            ]
            if tests and not failed:
                failed = [
                    (verdict.path, *verdict.place, f"tests[{verdict.index}] fails: {verdict.summary}")
                    for verdict in trial.run(loaded)
                    if verdict.differences
                ]
            write(_FAILED.dump_json([(path, line, column, text[:LONGEST]) for path, line, column, text in failed]))

        return run

    settled = partial(settle, who, roles.RULES, Bounds.of(loaded.site))
    what = " and ".join(["its Python files"] * bool(functions) + ["its tests"] * tests)
    try:
        found = _FAILED.validate_json(run_helper(prepare, settled, DEADLINE, LIMIT, f"{what} broke off"), strict=True)
    except ValidationError:
        message = f"{what} did not end within {DEADLINE:g} s, or crashed"
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
