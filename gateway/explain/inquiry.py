"""Inquiries of operators about the site that runs: what happens to a request, and how the site's tests come out.

They are answered in a process of their own (gateway/supervisor/inquiries.py), because they run code of the site.
"""

import difflib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.board import Board
from gateway.config import CapacityError, ConfigError, Problem, load, user_files
from gateway.config.loader import Loaded
from gateway.config.model import Site
from gateway.config.snapshot import Snapshot
from gateway.explain import trial
from gateway.explain.asked import Asked
from gateway.explain.report import plain, tree
from gateway.explain.sandbox import Sandbox

MOST: Final = 200
"""Problems of a site file in an answer."""
LINES: Final = 5000
"""Lines of a difference."""


@dataclass(frozen=True, slots=True)
class Present:
    """The gateway that runs, for a Sandbox: its board, and its snapshot of the site file that is asked about."""

    board: Board
    now: Snapshot

    def snapshot(self, _: Loaded) -> Snapshot:
        """The snapshot in use."""
        return self.now


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    request: Annotated[str, Field(max_length=16384)]
    headers: Annotated[list[tuple[str, str]], Field(max_length=200)] = []
    client: Annotated[str, Field(max_length=64)] = "192.0.2.1"


class _Posted(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str


def answer(inquiry: str, argument: str, loaded: Loaded, present: Present) -> dict[str, Any]:
    """The answer to one of the inquiries; "error" has what is wrong with it. `argument` is JSON, or empty."""
    try:
        if inquiry == "tests":
            return {"tests": _tests(loaded)}
        if inquiry == "site":
            return {"path": str(loaded.path), "text": loaded.source.text}
        if inquiry == "check":
            return _check(_Posted.model_validate_json(argument).text, loaded)
        return _explain(_Request.model_validate_json(argument), loaded, present)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return {"error": f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"}
    except ValueError as error:
        return {"error": str(error)}


def _explain(asked: _Request, loaded: Loaded, present: Present) -> dict[str, Any]:
    request = Asked.parse(asked.request, asked.headers, asked.client)
    with Sandbox(loaded, present) as sandbox:
        found = sandbox.decide(request)
        text = tree(request, found, sandbox.site)
    decision = json.loads(json.dumps(found, default=plain))
    return {"request": str(request), "text": text, "decision": decision}


def _tests(loaded: Loaded) -> list[dict[str, Any]]:
    return [
        {"line": one.place[0], "request": one.request, "passed": not one.differences, "why": one.summary}
        for one in trial.run(loaded)
    ]


def _check(text: str, used: Loaded) -> dict[str, Any]:
    """Check a site file in the place of the one in use, with the files that this one names: no other can be read here.

    Keys and certificates are not looked at, and no host name is looked up.
    """
    users = {path: used.files[path] for path in user_files.paths(used.site, used.rules)}
    saved = replace(used.source, text=text, includes=frozenset(used.site.include), users=users)
    diff = difflib.unified_diff(used.source.text.splitlines(), text.splitlines(), "in use", "posted", lineterm="")
    found = {"problems": [], "tests": [], "diff": "\n".join(islice(diff, LINES))}
    try:
        loaded = load(used.path, _no_lookup, certificates=False, saved=saved, offline=True)
        tests = _tests(loaded)
    except ConfigError as error:
        return {**found, "ok": False, "problems": [_problem(one, used.path) for one in error.problems[:MOST]]}
    except CapacityError as error:
        whole = Problem(used.path, 1, 1, str(error))
        return {**found, "ok": False, "problems": [_problem(whole, used.path)]}
    warnings = [_problem(one, used.path) for one in loaded.warnings if one.severity != "note"]
    return {**found, "ok": True, "problems": warnings[:MOST], "tests": tests}


def _problem(problem: Problem, main: Path) -> dict[str, Any]:
    message = problem.message if problem.path == main else f"{problem.path}: {problem.message}"
    return {"line": problem.line, "column": problem.column, "severity": problem.severity, "message": message}


def _no_lookup(_: Site, hosts: Collection[str]) -> dict[str, str | OSError]:
    """Any address: nothing is connected to."""
    return dict.fromkeys(hosts, "192.0.2.1")
