"""Standard output and standard error, written without ever blocking on their reader.

A log driver that stalls must not stop the traffic: lines that cannot be written are lost, and the log counts them
afterwards.
"""

import logging
import os
import select
import stat


def unhurried(descriptor: int) -> int:
    """Return a descriptor for the same pipe whose writes do not wait, or the one given if there is none.

    Reopened, because O_NONBLOCK on the descriptor itself would count for every process that shares it.
    """
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return descriptor
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # another user's pipe: see `writable`
        return descriptor


def writable(descriptor: int) -> bool:
    """Tell whether PIPE_BUF bytes can be written without waiting, if no other process writes at this moment."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


class Handler(logging.Handler):
    """Writes each record as a line to `descriptor`; lines that would block are dropped and counted."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = unhurried(descriptor)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, after a line about those that were lost before it."""
        try:
            text = self.format(record) + "\n"
            if self._lost:
                again = logging.makeLogRecord(
                    {"levelno": logging.WARNING, "levelname": "WARNING", "msg": f"{self._lost} log lines were lost"}
                )
                text = f"{self.format(again)}\n{text}"
            if not writable(self._descriptor):
                self._lost += 1
                return
            data = text.encode("utf-8", "backslashreplace")
            while data:
                data = data[os.write(self._descriptor, data) :]
        except BlockingIOError:
            self._lost += 1
        except OSError:
            pass  # nowhere to say it
        except Exception:  # noqa: BLE001 - as logging does it
            self.handleError(record)
        else:
            self._lost = 0
