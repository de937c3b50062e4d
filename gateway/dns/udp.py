"""DNS over UDP: a thread that waits for datagrams and answers them.

It waits in the kernel, without the event loop: a turn of that costs as much processor time as several answers.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterable

from gateway.dns.responder import Responder


class Datagrams:
    """Answers at sockets, in a process with a running event loop, until closed.

    `failed` is called in the loop with what has ended the thread, which is a bug.
    """

    def __init__(self, responder: Responder, failed: Callable[[BaseException], object]) -> None:
        self._responder = responder
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None

    def serve(self, sockets: Iterable[socket.socket]) -> None:
        """Answer at these sockets, and no longer at others; what waits there is answered first."""
        self._stop()
        descriptors = [sock.fileno() for sock in sockets]
        if descriptors:
            self._thread = threading.Thread(target=self._run, args=(descriptors,), name="udp", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Answer what waits, and stop."""
        self._stop()
        os.close(self._wake)

    def _stop(self) -> None:
        if self._thread is None:
            return
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.eventfd_read(self._wake)
        self._thread = None

    def _run(self, descriptors: list[int]) -> None:
        try:
            self._responder.serve_until(self._wake, descriptors)
        except BaseException as error:  # noqa: BLE001 - who waits for it is told
            self._loop.call_soon_threadsafe(self._failed, error)
