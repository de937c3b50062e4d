"""What operators ask over HTTP about the configurations that ran, answered in a process beside the supervisor.

It may read what the supervisor may: copies of site files belong to that account alone.
"""

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.supervisor import history
from gateway.supervisor.history import NoVersion

WORDS: Final = ("history", "history/show", "history/diff")


class _Numbers(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    number: int = 0
    before: int = 0
    after: int | None = None


def answer(word: str, argument: str, site: Path, in_force: int | None) -> dict[str, Any]:
    """The answer to one of WORDS about the site file at a path; "error" has what is wrong.

    `argument` is JSON; `in_force`: the number of the version that the gateway runs by.
    """
    try:
        asked = _Numbers.model_validate_json(argument)
        match word:
            case "history":
                return {"versions": history.listing(site, in_force)}
            case "history/show":
                return history.shown(site, asked.number)
            case _:
                return history.compared(site, asked.before, asked.after)
    except ValidationError:
        return {"error": f"{word} takes numbers of versions"}
    except NoVersion as error:
        return {"error": str(error)}


def text(word: str, argument: str, site: Path, in_force: int | None) -> bytes:
    """The same as JSON."""
    return json.dumps(answer(word, argument, site, in_force)).encode()
