"""The server's admin state, as last set: in the agent file, or later by a command.

`loadagent drain` writes one word to a file beside the agent file; a running agent reads it with its next sample. So the
state survives restarts of the agent, and setting it requires only write permission for that file.
"""

import os
import tempfile
from pathlib import Path

from loadagent.report import State

MAX_BYTES = 64


class AdminState:
    """Reads the state from the file `path`; `otherwise` applies while that has no valid state."""

    def __init__(self, path: Path | None, otherwise: State) -> None:
        self._path = path
        self._otherwise = otherwise

    @property
    def state(self) -> State:
        """The current state."""
        if self._path is None:
            return self._otherwise
        try:
            with self._path.open("rb") as file:
                word = file.read(MAX_BYTES).decode("ascii", "replace").strip().upper()
        except OSError:
            return self._otherwise
        return State[word] if word in State.__members__ else self._otherwise


def write(path: Path, state: State) -> None:
    """Set the state. Raises OSError and keeps the previous state if it cannot be written."""
    descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(state.name.lower() + "\n")
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
