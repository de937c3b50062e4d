"""Inquiries of operators about the site that runs: what happens to a request, and how the site's tests come out.

They are answered in a process of their own (gateway/supervisor/inquiries.py), because they run code of the site.
"""

import json
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.board import Board
from gateway.config.loader import Loaded
from gateway.config.snapshot import Snapshot
from gateway.explain import trial
from gateway.explain.asked import Asked
from gateway.explain.report import plain, tree
from gateway.explain.sandbox import Sandbox


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


def answer(inquiry: str, argument: str, loaded: Loaded, present: Present) -> dict[str, Any]:
    """The answer to "explain" or "tests"; "error" has what is wrong with it. `argument` is JSON, or empty."""
    try:
        if inquiry == "tests":
            return _tests(loaded)
        return _explain(_Request.model_validate_json(argument), loaded, present)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return {"error": f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"}
    except ValueError as error:
        return {"error": str(error)}


def _explain(asked: _Request, loaded: Loaded, present: Present) -> dict[str, Any]:
    ip_address(asked.client)
    request = Asked.parse(asked.request, asked.headers, asked.client)
    with Sandbox(loaded, present) as sandbox:
        found = sandbox.decide(request)
        text = tree(request, found, sandbox.site)
    decision = json.loads(json.dumps(found, default=plain))
    return {"request": str(request), "text": text, "decision": decision}


def _tests(loaded: Loaded) -> dict[str, Any]:
    verdicts = trial.run(loaded)
    return {
        "tests": [
            {"line": one.place[0], "request": one.request, "passed": not one.differences, "why": one.summary}
            for one in verdicts
        ]
    }
