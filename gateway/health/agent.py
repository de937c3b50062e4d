"""Text agents: a server sends one line with its state to each connection, as HAProxy's agent-check.

The words are those of HAProxy's configuration manual (`agent-check`), so that existing agents work unchanged.
"""

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Final

from gateway.health.result import Outcome, Result
from loadagent.printable import printable
from loadagent.report import State

MAX_LINE: Final = 1024  # bytes that are read
MAX_REASON: Final = 120  # of the agent's text in the log

_SHARE: Final = re.compile(r"([0-9]{1,4})%")
_LIMIT: Final = re.compile(r"maxconn:([0-9]{1,9})")
_ADMIN: Final = {"ready": State.READY, "drain": State.DRAIN, "maint": State.MAINTENANCE}
_UP: Final = {"up": True, "down": False, "stopped": False, "fail": False, "failed": False}


@dataclass(frozen=True, slots=True)
class Line:
    """The content of an agent's line; None: not specified, leaves the setting unchanged.

    `share`: of the configured weight (1.0: all of it); `limit`: requests in flight (0: as configured).
    """

    admin: State | None = None
    up: bool | None = None
    share: float | None = None
    limit: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """An agent's address, the text to send first, and the timeout in seconds."""

    address: tuple[str, int]
    send: bytes
    timeout: float


class BadLine(ValueError):
    """The line has none of the agent protocol's words."""


def parse(data: bytes) -> Line:
    """Parse the first line. Words may come in any order; unknown ones are ignored. Raises BadLine."""
    first = re.split(rb"[\r\n]", data, maxsplit=1)[0].decode("utf-8", "replace")
    said, _, reason = first.partition("#")
    admin = up = share = limit = None
    for word in re.split(r"[ \t,]+", said.lower()):
        if word in _ADMIN:
            admin = _ADMIN[word]
        elif word in _UP:
            up = _UP[word]
        elif match := _SHARE.fullmatch(word):
            share = int(match[1]) / 100
        elif match := _LIMIT.fullmatch(word):
            limit = int(match[1])
    if all(word is None for word in (admin, up, share, limit)):
        raise BadLine(f"{first[:MAX_REASON]!r} is not a valid agent response")
    return Line(admin, up, share, limit, printable(reason.strip())[:MAX_REASON])


async def ask(question: Question) -> tuple[Result, Line | None]:
    """Query an agent once. Never raises: every failure is a result; without a line, nothing changes."""
    began = time.monotonic()
    connected = False
    line = None
    try:
        async with asyncio.timeout(question.timeout):
            reader, writer = await asyncio.open_connection(*question.address, limit=MAX_LINE)
            connected = True
            try:
                writer.write(question.send)
                line = parse(await _first_line(reader))
            finally:
                writer.transport.abort()
        outcome, detail = Outcome.OK, line.reason
    except TimeoutError:
        outcome, detail = (Outcome.AGENT_TIMEOUT if connected else Outcome.TCP_CONNECT_TIMEOUT), "no answer"
    except BadLine as error:
        outcome, detail = Outcome.AGENT_INVALID, str(error)
    except ConnectionRefusedError as error:
        outcome, detail = Outcome.TCP_CONNECT_REFUSED, error.strerror or ""
    except OSError as error:
        outcome, detail = (Outcome.AGENT_INVALID if connected else Outcome.TCP_CONNECT_FAILED), error.strerror or ""
    return Result(outcome, time.monotonic() - began, detail), line


async def _first_line(reader: asyncio.StreamReader) -> bytes:
    """The data up to the first line break, the end, or MAX_LINE bytes."""
    data = b""
    while len(data) < MAX_LINE and b"\n" not in data and (more := await reader.read(MAX_LINE - len(data))):
        data += more
    return data
