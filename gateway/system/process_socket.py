"""The client of the Unix sockets of control and heartbeat: queries a gateway on this machine."""

import os
from pathlib import Path
from typing import Any, Final

from gateway.system import plain_json, private_socket

TIMEOUT: Final = 5.0


class NoAnswer(OSError):
    """No response; the message names the socket."""


def ask(directory: Path, command: str, who: str = "heartbeat", parent: int | None = None) -> dict[str, Any]:
    """Return the response to `command` of the heartbeat, or of `control`, whose socket is in `directory`.

    With `parent`, it must be a child of that supervisor. Raises NoAnswer.
    """
    path = directory / f"{who}.sock"
    try:
        text, descriptors = private_socket.ask(path, command.encode() + b"\n", TIMEOUT, parent)
        for descriptor in descriptors:  # none is expected
            os.close(descriptor)
        answer = plain_json.parse(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        gone = isinstance(error, FileNotFoundError | ConnectionError)
        hint = " (it is starting, or has just ended: try again in a few seconds, and see the log)" if gone else ""
        raise NoAnswer(f"no response from {who} at {path}: {reason.lower()}{hint}") from None
    if not isinstance(answer, dict):
        raise NoAnswer(f"what answers for {who} at {path} is no gateway of this version")
    if "error" in answer:
        raise NoAnswer(f"the {who} at {path} says: {answer['error']}")
    return answer
