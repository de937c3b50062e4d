"""Runs what may crash in a process of its own, and tells what it was doing then."""

import faulthandler
import mmap
import os
import pickle
import signal
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LENGTH = struct.Struct("I")
ROOM = 1 << 16


@dataclass(slots=True)
class Crash(Exception):
    """The process died; `data` is what it had noted last."""

    data: bytes
    status: int
    trace: str

    def __str__(self) -> str:
        how = f"signal {signal.Signals(-self.status).name}" if self.status < 0 else f"status {self.status}"
        trace = self.trace.partition("\nExtension modules: ")[0]  # all that are loaded
        return f"died by {how}: {trace[-6000:]}"


@dataclass(slots=True)
class Shelter:
    """`note` keeps what is about to be done where the parent finds it."""

    _memory: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, ROOM))

    def note(self, data: bytes) -> None:
        """Say what comes next."""
        LENGTH.pack_into(self._memory, 0, len(data))
        self._memory[LENGTH.size : LENGTH.size + len(data)] = data

    def run(self, work: Callable[[], Any]) -> Any:
        """Return what `work` returns in a child. Raises Crash."""
        LENGTH.pack_into(self._memory, 0, 0)
        with tempfile.TemporaryDirectory(prefix="fuzz") as directory:
            result, trace = Path(directory) / "result", Path(directory) / "trace"
            pid = os.fork()
            if pid == 0:
                self._child(work, result, trace)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status == 0 and result.exists():
                return pickle.loads(result.read_bytes())
            (length,) = LENGTH.unpack_from(self._memory, 0)
            data = self._memory[LENGTH.size : LENGTH.size + length]
            raise Crash(data, status, trace.read_text(errors="replace") if trace.exists() else "")

    def _child(self, work: Callable[[], Any], result: Path, trace: Path) -> None:
        status = 70
        try:
            with trace.open("w") as file:
                os.dup2(file.fileno(), 2)
                faulthandler.enable(file)
                result.write_bytes(pickle.dumps(work()))
                status = 0
        finally:
            os._exit(status)
