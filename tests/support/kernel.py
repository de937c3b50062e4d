"""Reads the kernel's state of a connection between two local ports."""

import fcntl
import socket
import struct
import termios

from tests.support.waiting import eventually

# sock_diag(7): ask for one socket by its four numbers, which costs the same however many there are.
MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, sender
SOCKET = struct.Struct("!HH16s16s4s8s")  # our port, theirs, addresses, interface, cookie
REQUEST = struct.Struct("=BBBxI")  # family, protocol, extensions, states
QUEUES = struct.Struct("=II")  # expiry, bytes received and not read
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
NETLINK_SOCK_DIAG = 4
ANY_COOKIE = b"\xff" * 8


def unread(client: socket.socket) -> int:
    """Return the bytes sent by `client` (IPv4) that the other side's program has not read; 0 if it has closed."""
    try:
        (mine, my_port), (theirs, their_port) = client.getsockname(), client.getpeername()
    except OSError:
        return 0  # it has reset the connection
    which = SOCKET.pack(their_port, my_port, socket.inet_aton(theirs), socket.inet_aton(mine), bytes(4), ANY_COOKIE)
    body = REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + which
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(MESSAGE.pack(MESSAGE.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + body)
        answer = kernel.recv(8192)
    if MESSAGE.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:
        return 0  # no such socket
    return int(QUEUES.unpack_from(answer, MESSAGE.size + 4 + SOCKET.size)[1])


def unacknowledged(connection: socket.socket) -> int:
    """Return how many bytes are in flight or still to be sent (SIOCOUTQ of tcp(7))."""
    return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0])


def all_read(client: socket.socket) -> bool:
    """Tell whether the other side's program has read all that `client` (IPv4) has sent."""
    return unacknowledged(client) == 0 and unread(client) == 0


def send_and_wait(client: socket.socket, data: bytes) -> None:
    """Send `data` so that the other side reads it on its own. Raises OSError, AssertionError."""
    client.sendall(data)
    eventually(lambda: unread(client) == 0, "the other side to read")
