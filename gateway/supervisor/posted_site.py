"""A site file that an operator applies over HTTP: who may, and how it takes the place of the one in use.

The process with the admin listener is not trusted with this: by a site file it could give itself any right. So the
supervisor compares the operator's token itself, and a request without a token can never apply a file. It has a process
beside it read the file first, and reads only one that is valid and quickly read.
"""

import hmac
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.config import ConfigError, Loaded, load
from gateway.config.posted import LARGEST as LONGEST
from gateway.process.helper import Write
from gateway.supervisor.startup_lookup import addresses
from gateway.system import regular_file

LARGEST: Final = 16 * 1024 * 1024
"""Bytes of the site file in use."""
READING: Final = 1.0
"""Seconds of processor time to read a posted file. While the supervisor reads it, it does nothing else."""
PROBLEMS: Final = 20_000
"""Characters of a site file's problems in the answer to an operator; the log has all."""


class Refused(ValueError):
    """The file is not applied; the text says why."""


class Invalid(Refused):
    """The file has the problems of the text."""


class _Posted(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    text: Annotated[str, Field(max_length=LONGEST)]
    token: Annotated[str, Field(max_length=4096)]


@dataclass(frozen=True, slots=True)
class PostedSite:
    """What `who` wants in the place of `before`, at `path`."""

    path: Path
    before: bytes
    content: bytes
    who: str

    @classmethod
    def of(cls, argument: str, path: Path, used: Loaded) -> Self:
        """Read the command of the admin listener. Raises Refused."""
        try:
            posted = _Posted.model_validate_json(argument)
        except ValidationError:
            raise Refused("this is not a site file with a token") from None
        who = _operator(posted.token.encode(), used)
        if who is None:
            raise Refused("only an operator with the role configure, and a token, may apply a site file")
        target = Path(os.path.realpath(path))
        try:
            before, _ = regular_file.read(target, LARGEST + 1)
        except OSError as error:
            raise Refused(f"cannot read {target}: {(error.strerror or str(error)).lower()}") from None
        if before.decode("utf-8-sig", "replace") != used.source.text:
            raise Refused(f"{target} differs from what is in use: reload it first, so that no change is lost")
        return cls(target, before, posted.text.encode(), who)

    def write(self) -> None:
        """Replace the file, which keeps its owner and mode. Raises Refused."""
        self._put(self.content)

    def take_back(self) -> None:
        """Restore the file as it was, unless it has been changed since. Raises Refused."""
        now, _ = regular_file.read(self.path, LARGEST + 1)
        if now == self.content:
            self._put(self.before)

    def _put(self, content: bytes) -> None:
        try:
            regular_file.update(self.path, content)
        except OSError as error:
            raise Refused(f"cannot write {self.path}: {(error.strerror or str(error)).lower()}") from None


def _operator(token: bytes, used: Loaded) -> str | None:
    """The name of the operator with the role configure that has this token; every token is compared."""
    found = [
        operator.name
        for operator in used.site.admin.operators
        if operator.token_file is not None
        and hmac.compare_digest(bytes(used.files[operator.token_file]).strip(), token)
        and operator.role == "configure"
    ]
    return found[0] if found else None


def read(text: str, path: Path, write: Write) -> None:
    """Load a posted text in the place of the file at `path`, in a process beside the supervisor; write the outcome."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a process that looks up names is waited for
    began = time.process_time()
    problems = ""
    try:
        load(path, addresses, certificates=False, text=text)
    except ConfigError as error:
        problems = str(error)
    write(json.dumps({"problems": problems[:PROBLEMS], "seconds": time.process_time() - began}).encode())


def require_readable(outcome: Mapping[str, Any]) -> None:
    """Raise Refused, unless the supervisor may read the file by what `read` has found."""
    match outcome:
        case {"error": str(error)}:
            raise Refused(error)
        case {"problems": "", "seconds": float(seconds)} if seconds <= READING:
            return
        case {"problems": "", "seconds": float(seconds)}:
            raise Refused(
                f"reading it takes {seconds:.1f} s of processor time, and only {READING:g} s are allowed over HTTP: "
                "replace the file on the machine, and reload"
            )
        case {"problems": str(problems)} if problems:
            raise Invalid(problems)
        case _:
            raise Refused("the process that read it broke off; see the gateway's log")
