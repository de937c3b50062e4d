"""A server's socket in TLS: to the peers of the fuzzer it is like one without, and its records can be cut or spoiled."""

import socket
import ssl
from contextlib import suppress

from tests.fuzz.oracle import Violation

PIECE = 1 << 16
RECORD = 16384
ALERT = b"\x15\x03\x03\x00\x02"
BROKEN = (
    ALERT + b"\x02\x28",
    ALERT + b"\x01\x00",
    b"\x17\x03\x03\x00\x20" + bytes(32),
    b"\x17\x03\x03\xff\xff" + bytes(9),
    b"\x16\x03\x03\x00\x04\x00\x00\x00\x00",
    b"\x14\x03\x03\x00\x01\x01" * 40,
    b"\x17\x03\x03\x00\x00" * 40,
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
)
"""What nobody sends within TLS: alerts in plain text, records that cannot be decrypted, too long or empty ones, a
HelloRequest, ChangeCipherSpec at length, no TLS."""


def shake(tls: ssl.SSLObject, what: str, *, over: bool) -> bool:
    """Go on with a handshake; whether it has ended. Raises Violation if it fails, unless the connection is `over`."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError as error:
        if not over:
            raise Violation(f"{what} failed: {error}") from error
        return False
    return True


class TlsSocket:
    """As much of a socket as peers use. What `send` takes counts as sent when its record is, whole."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.family = sock, socket.AF_UNIX  # which has no options of TCP left to set
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.cipher = bytearray()
        self.taken = 0
        """Bytes that the caller still has, and whose record is on its way."""
        self.keep = 0
        """Bytes at the end of what is encrypted that wait."""
        self.shaken = False
        self.over = False
        self.curt = False
        """It ends without a close_notify."""

    def fileno(self) -> int:
        """The descriptor."""
        return self.sock.fileno()

    def settimeout(self, _: float) -> None:
        """It never waits."""

    def setsockopt(self, level: int, name: int, value: bytes) -> None:
        """Set an option."""
        self.sock.setsockopt(level, name, value)

    def push(self) -> bool:
        """Send what is encrypted; whether nothing is left. Raises OSError."""
        self.cipher += self.outgoing.read()
        while len(self.cipher) > self.keep:
            try:
                sent = self.sock.send(self.cipher[: len(self.cipher) - self.keep])
            except BlockingIOError:
                break
            del self.cipher[:sent]
        return not self.cipher

    def _shake(self) -> bool:
        if not self.shaken:
            self.shaken = shake(self.tls, "the handshake with a server", over=self.over)
            self.push()
        return self.shaken

    def send(self, data: memoryview | bytearray) -> int:
        """Send the next record; the caller repeats what was not taken. Raises BlockingIOError, OSError."""
        if not self._shake():
            raise BlockingIOError
        if not self.taken:
            self.taken = self.tls.write(data[:RECORD])
        if not self.push():
            raise BlockingIOError
        taken, self.taken = self.taken, 0
        return taken

    def recv(self, _: int) -> bytes:
        """All that has come; empty: the end. Raises BlockingIOError, OSError."""
        while not self.over:
            try:
                got = self.sock.recv(PIECE)
            except BlockingIOError:
                break
            self.incoming.write(got)
            if not got:
                self.over = True
                self.incoming.write_eof()
        found = b""
        if self._shake():
            while True:
                try:
                    piece = self.tls.read(PIECE)
                except (ssl.SSLWantReadError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                    break
                except ssl.SSLError as error:
                    if "ALERT" in str(error):
                        raise ConnectionResetError from error
                    raise Violation(f"malformed TLS from the gateway: {error}") from error
                if not piece:
                    break  # its close_notify
                found += piece
        if not found and not self.over:
            raise BlockingIOError
        return found

    @property
    def clean(self) -> bool:
        """Whether its end would be one that the gateway can tell from a cut."""
        return self.shaken and not (self.curt or self.cipher)

    def shutdown(self, how: int) -> None:
        """Send a FIN, behind a close_notify."""
        self._notify()
        self.sock.shutdown(how)

    def _notify(self) -> None:
        if self.clean:
            with suppress(OSError):
                self.tls.unwrap()
            with suppress(OSError):
                self.push()

    def spoil(self, which: int) -> None:
        """Send what is no record of this connection, instead of the rest of one. Raises OSError."""
        self.keep = 0
        self.curt = True
        self.cipher[:] = BROKEN[which % len(BROKEN)]
        self.push()

    def close(self) -> None:
        """Close, behind a close_notify."""
        self._notify()
        self.sock.close()
