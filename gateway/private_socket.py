"""A Unix socket at which only its owner can ask something: `gateway status` and `gateway explain --live` do."""

import os
import socket
from pathlib import Path


def listen(path: Path, backlog: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Listen at `path`, in the place of what is there. Raises OSError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def accept(listening: socket.socket) -> socket.socket | None:
    """A client that waits at it, non-blocking; None if it has left again."""
    try:
        client, _ = listening.accept()
    except OSError:
        return None
    client.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    return client
