"""Runs something in a process that is held to a role, and tells how it went."""

import json
import os
from collections.abc import Callable
from typing import Any

from gateway.hardening.confinement import Bounds, settle
from gateway.hardening.roles import Role

Operation = Callable[[], Any]


def in_role(role: Role, operation: Operation, bounds: Bounds | None = None) -> Any:
    """Return what `operation` returns in a child of that role, as JSON has it; "signal N" if a signal ended it.

    An OSError comes back as the name of its class.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            settle(None, role, bounds or Bounds())
            os.write(writing, json.dumps(outcome(operation)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else json.loads(text)


def outcome(operation: Operation) -> Any:
    """Return what it returns, or the name of the OSError that it raises."""
    try:
        return operation()
    except OSError as error:
        return type(error).__name__
