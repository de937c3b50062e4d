"""Clients and servers of the fuzzed gateway: non-blocking sockets that the driver moves, and that check what they get."""

import socket
import ssl
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.fuzz.oracle import Answer, Chunks, Head, Oracle, Request, Violation, take_head
from tests.fuzz.tls import TlsSocket, shake

if TYPE_CHECKING:
    from tests.fuzz.world import World

RESET = struct.pack("ii", 1, 0)
PIECE = 1 << 16


class Peer:
    """One end of a connection. `out` is what it wants to send and has not; `ended`: the gateway has sent its FIN."""

    def __init__(self, world: "World", sock: socket.socket | TlsSocket) -> None:
        sock.settimeout(0)
        if isinstance(sock, socket.socket) and sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is sent is there at once
        self.world = world
        self.oracle: Oracle = world.oracle
        self.sock = sock
        self.fd = sock.fileno()
        self.out = bytearray()
        self.got = bytearray()
        self.gone = False
        """This side has closed."""
        self.ended = False
        self.broken = False
        self.torn = False
        """Sending has failed: what has come before the reset is still to be read."""
        self.finished: int | None = None
        """When this side sent its FIN."""
        self.stalled = False
        self.held = 0
        """Bytes at the end of `out` that are sent only when the driver says so."""
        world.register(self)

    def flush(self) -> None:
        """Send what may be sent."""
        if not self.sends:
            return
        while len(self.out) > self.held:
            with memoryview(self.out) as view, view[: len(view) - self.held] as part:
                try:
                    sent = self.sock.send(part)
                except BlockingIOError:
                    return
                except OSError:
                    sent = -1
            if sent < 0:
                self.torn = True
                return
            del self.out[:sent]
            self.sent(sent)

    def sent(self, count: int) -> None:
        """So many bytes have gone."""

    def read(self) -> bool:
        """Take what has come; whether that was anything."""
        if self.gone or self.stalled or self.ended or self.broken:
            return False
        found = False
        while True:
            try:
                data = self.sock.recv(PIECE)
            except BlockingIOError:
                break
            except OSError:
                self.take()
                self.fail()
                return True
            found = True
            if not data and self.torn:
                self.take()
                self.fail()
                return True
            if not data:
                self.ended = True
                self.world.unregister(self)
                self.take()
                self.on_end()
                return True
            self.got += data
            if len(data) < PIECE:
                break
        if found:
            self.take()
        return found

    def fail(self) -> None:
        """The connection is broken."""
        if not self.broken:
            self.broken = True
            self.world.unregister(self)
            self.on_end()

    def take(self) -> None:
        """Read `got`."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The gateway sends nothing more."""
        raise NotImplementedError

    def stall(self, *, stalled: bool) -> None:
        """Stop reading, or go on."""
        if stalled == self.stalled or self.gone or self.ended or self.broken:
            return
        self.stalled = stalled
        if stalled:
            self.world.unregister(self)
        else:
            self.world.register(self)

    def finish(self) -> None:
        """Send a FIN; what was not sent is not."""
        if self.finished is None and not self.gone and not self.broken:
            self.finished = self.oracle.clock
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Close, with an RST or without."""
        if self.gone:
            return
        self.gone = True
        self.world.unregister(self)
        if reset:
            with suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    def relax(self) -> None:
        """Do from now on what a well-behaved peer does."""
        self.cut(0)

    def cut(self, keep: int) -> None:
        """Keep back so many bytes of what is encrypted from now on."""
        if isinstance(self.sock, TlsSocket) and self.sends:
            self.sock.keep = keep
            try:
                self.sock.push()
            except OSError:
                self.torn = True

    @property
    def greets(self) -> bool:
        """Whether it is in a handshake of TLS."""
        return isinstance(self.sock, TlsSocket) and not self.sock.shaken

    @property
    def cut_short(self) -> bool:
        """Whether it keeps back a part of what is encrypted."""
        return isinstance(self.sock, TlsSocket) and self.sock.keep > 0

    @property
    def clean(self) -> bool:
        """Whether its end would be one that the gateway can tell from a cut."""
        return not isinstance(self.sock, TlsSocket) or self.sock.clean

    def given(self, said: bytearray) -> int:
        """How many of the bytes that it has said must arrive: all, but for what a FIN has kept it from sending."""
        return len(said) - (self.unsent if self.finished is not None else 0)

    @property
    def unsent(self) -> int:
        """Bytes that it has said and not sent."""
        return len(self.out)

    @property
    def sends(self) -> bool:
        """Whether what it wants to send may go."""
        return not (self.gone or self.broken or self.torn or self.finished is not None)

    @property
    def live(self) -> bool:
        """Whether both directions of the connection may still be there."""
        return not (self.gone or self.broken or self.ended)


class Client(Peer):
    """A client, and what it may get: the answers to its requests in their order, each its own."""

    def __init__(self, world: "World", sock: socket.socket, *, named: str = "") -> None:
        super().__init__(world, sock)
        self.name = named
        self.requests: list[Request] = []
        self.next = 0
        self.length = 0
        """Bytes that were given to `say`."""
        self.written = 0
        self.wild: int | None = None
        """From which request on it has sent what is none of the table, so that what it may get is not known."""
        self.doomed = False
        """The gateway may have given it up, and it has not read that yet."""
        self.refused = False
        """It has begun with what is no PROXY header."""
        self.closing = False
        """An answer said that it is the last."""
        self.early = bytearray()
        """All that was said after a request to upgrade."""
        self.tunnel: ServerConn | None = None
        self.tunneled = 0
        self.head: Head | None = None
        self.answer: Answer | None = None
        self.chunks: Chunks | None = None
        self.left = 0
        self.body = 0
        self.bodyless = False

    # ------------------------------------------------------------------------------------------------------- sending

    def say(self, data: bytes, request: Request | None = None, hold: int = 0) -> None:
        """Send `data`, but for the last `hold` bytes; it is `request`, if given."""
        self.held = 0
        if self.tunnel is not None or self.upgrading:
            self.early += data
        self.length += len(data)
        if request is not None:
            request.end = self.length
            self.requests.append(request)
        self.out += data
        self.held = hold
        self.flush()

    def ask(self, request: Request) -> bool:
        """Send a whole request."""
        self.say(request.wire, request)
        return True

    @property
    def due(self) -> bool:
        """Whether it waits for something that should have come: the rest of an answer, an answer, or the end."""
        if not self.live or self.wild is not None or self.refused or self.tunnel is not None:
            return False
        asked = self.next < len(self.requests) and self.requests[self.next].end <= self.written
        return self.head is not None or self.closing or self.unsent > 0 or asked

    @property
    def upgrading(self) -> bool:
        """Whether an answer to a request to upgrade is due."""
        begun = self.head is not None
        return any(request.upgrade for request in self.requests[self.next + begun :])

    @property
    def speaks(self) -> bool:
        """Whether it can still send."""
        if not self.sends or self.closing:
            return False
        return not self.ended or self.tunnel is not None

    @property
    def unfinished(self) -> bool:
        """Whether a part of a request is still to be sent."""
        return bool(self.out)

    def sent(self, count: int) -> None:
        self.written += count

    @property
    def handed(self) -> int:
        """Bytes of which some may have gone."""
        return self.written

    # ------------------------------------------------------------------------------------------------------ receiving

    def take(self) -> None:
        while self.got:
            if self.wild is not None and self.next >= self.wild and self.head is None:
                self.got.clear()
                return None
            if self.refused:
                raise Violation(f"an answer to what is no PROXY header: {bytes(self.got[:80])!r}")
            if self.tunnel is not None:
                return self._tunnel()
            if self.head is None and not self._head():
                return None
            # An answer without a body is complete by now.
            if self.head is not None and not self._body():
                return None
        return None

    def _head(self) -> bool:
        if self.closing:
            raise Violation(f"bytes after the last answer: {bytes(self.got[:80])!r}")
        head = take_head(self.got, response=True)
        if head is None:
            return False
        status = int(head.start[0])
        if self.next >= len(self.requests):
            raise Violation(f"an answer without a request: {head.start!r} {head.fields!r}")
        request = self.requests[self.next]
        if status < 200 and status != 101:
            if request.minor == 0 or request.headless:
                raise Violation(f"an interim answer to HTTP/1.0 or to what is malformed: {status}")
            return True
        self.head = head
        self.answer = self.oracle.at_client(head, request)
        asked = request.method == b"HEAD" and (
            self.answer is not None or (request.end <= self.written and status != 408)
        )
        self.bodyless = asked or status in {204, 304}
        self.closing = head.close
        self.oracle.features.add(f"got {status} {'own' if self.answer is None else 'server'} {head.close}")
        self._check_head(status, request)
        if request.upgrade and status != 101 and self.early:
            self.world.taint(self)  # what it has said ahead was taken for requests
        if status == 101:
            self._begin_tunnel(request)
            return True
        if head.close:
            for later in self.requests[self.next + 1 :]:
                later.dead = True
        if head.chunked:
            self.chunks = Chunks()
        elif head.length is not None:
            self.left = head.length
        self.body = 0
        return True

    def _check_head(self, status: int, request: Request) -> None:
        head = self.head
        assert head is not None
        if self.answer is not None:
            if request.headless:
                raise Violation(f"a server's answer to what is malformed: {status}")
            if not self.answer.valid and self.answer.status in {-1, 101}:
                raise Violation(f"an answer that is none was passed on: {self.answer.number}")
            return
        if status < 400:
            raise Violation(f"the gateway's own answer is none of an error: {status}")
        if request.refused:
            if not head.close:
                raise Violation(f"a refusal that leaves the connection open: {status}")
            return
        if not self.world.excused(request, self, status):
            raise Violation(f"a good request was answered with an error: {status} for {request.number}")

    def _body(self) -> bool:
        """Take the body; whether it is complete."""
        head, answer = self.head, self.answer
        assert head is not None
        if self.bodyless:
            return self._complete()
        if self.chunks is not None:
            self._compare(self.chunks.feed(self.got))
            return self.chunks.done and self._complete()
        if head.length is None:
            self._compare(bytes(self.got))
            self.got.clear()
            return False
        piece = bytes(self.got[: self.left])
        del self.got[: self.left]
        self.left -= len(piece)
        if answer is not None:
            self._compare(piece)
        return self.left == 0 and self._complete()

    def _compare(self, piece: bytes) -> None:
        if self.answer is None:
            return
        if self.answer.body[self.body : self.body + len(piece)] != piece:
            raise Violation(
                f"the body of an answer differs: {self.answer.number} at {self.body}, {piece[:60]!r} "
                f"for {self.answer.body[self.body : self.body + 60]!r}"
            )
        self.body += len(piece)

    def _complete(self) -> bool:
        answer = self.answer
        if answer is not None and not self.bodyless:
            if not answer.valid:
                raise Violation(f"an answer that was cut looks complete: {answer.number}")
            if self.body != len(answer.body):
                raise Violation(f"an answer is shorter: {self.body} of {len(answer.body)}")
        if self.next < len(self.requests):
            self.requests[self.next].answered = True
            self.next += 1
        self.head = self.chunks = self.answer = None
        return True

    def _begin_tunnel(self, request: Request) -> None:
        conn = None if self.answer is None else self.world.upgraded.get(self.answer.number)
        if conn is None or not request.upgrade:
            raise Violation(f"a tunnel that was not agreed on: {request.number}")
        self.tunnel = conn
        request.answered = True
        self.head = self.answer = None
        del self.requests[self.next + 1 :]
        self.next += 1
        self.oracle.features.add("tunnel")

    def _tunnel(self) -> None:
        assert self.tunnel is not None
        data = bytes(self.got)
        self.got.clear()
        if self.tunnel.said[self.tunneled : self.tunneled + len(data)] != data:
            raise Violation(f"a tunnel's bytes differ at the client: {data[:60]!r} at {self.tunneled}")
        self.tunneled += len(data)

    def on_end(self) -> None:
        """Whatever is due does not come any more: see whether that may be."""
        self.oracle.features.add(
            f"client {'broken' if self.broken else 'ended'} due {min(2, len(self.requests) - self.next)} {self.closing}"
        )
        known = self.wild is None or self.next < self.wild or self.head is not None
        if self.gone or self.refused or self.tunnel is not None or not known:
            return
        if self.head is not None:
            if not self._ends_well(self.requests[self.next]):
                return
        elif self.got and not self.broken:
            raise Violation(f"half a head before the end: {bytes(self.got[:80])!r}")
        if not self.closing:
            self._missing()

    def _ends_well(self, request: Request) -> bool:
        """Within an answer: whether this end is the answer's. Raises Violation if it must not be cut."""
        answer = self.answer
        assert self.head is not None
        if self.head.length is None and self.chunks is None and not self.broken:
            self._complete()
            self.closing = True
            return True
        if (answer is None or answer.valid) and not self.world.excused(request, self, 0):
            whole = "an error page" if answer is None else f"{len(answer.body)}"
            raise Violation(f"an answer was cut: {self.body} of {whole} for {request.number}")
        return False

    def _missing(self) -> None:
        """See whether an answer is missing."""
        for request in self.requests[self.next : self.wild]:
            if (request.end > self.written and not request.refused) or (request.refused and self.broken):
                return
            if not self.world.excused(request, self, 0):
                how = "broken" if self.broken else "ended"
                raise Violation(f"no answer before the end: {request.number} {request.method.decode()} ({how})")
            return

    def state(self) -> str:
        """What it is in the middle of, roughly."""
        due = min(2, len(self.requests) - self.next)
        return (
            f"{due}{'t' if self.tunnel else ''}{'h' if self.head else ''}{'u' if self.out else ''}"
            f"{'s' if self.stalled else ''}{'f' if self.finished is not None else ''}{'' if self.wild is None else 'w'}"
            f"{'c' if self.closing else ''}{'' if self.live else 'x'}"
        )


class TlsClient(Client):
    """The same over TLS."""

    def __init__(
        self, world: "World", sock: socket.socket, context: ssl.SSLContext, *, before: bytes = b"", **more: Any
    ) -> None:
        self.plain = bytearray()
        self.encrypted = 0
        """Bytes whose records have not gone yet."""
        self.shaken = False
        self.notified = False
        self.cipher = bytearray(before)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        super().__init__(world, sock, **more)
        self.flush()

    def flush(self) -> None:
        if not self.sends:
            return
        if not self.shaken and not self._shake():
            self._flush_cipher()
            return
        while len(self.out) > self.held:
            piece = bytes(self.out[: min(16384, len(self.out) - self.held)])
            if len(self.cipher) > PIECE or self.notified:
                break
            try:
                count = self.tls.write(piece)
            except ssl.SSLError:
                self.torn = True
                return
            del self.out[:count]
            self.encrypted += count
            self.cipher += self.outgoing.read()
        self._flush_cipher()

    def _shake(self) -> bool:
        self.shaken = shake(self.tls, "the handshake", over=self.ended)
        self.cipher += self.outgoing.read()
        return self.shaken

    def _flush_cipher(self) -> None:
        self.cipher += self.outgoing.read()
        while self.cipher and not self.broken and not self.torn:
            try:
                sent = self.sock.send(self.cipher)
            except BlockingIOError:
                return
            except OSError:
                self.torn = True
                return
            del self.cipher[:sent]
        if not self.cipher:
            self.written += self.encrypted
            self.encrypted = 0

    @property
    def unfinished(self) -> bool:
        return bool(self.out or self.cipher) or not self.shaken

    @property
    def handed(self) -> int:
        return self.written + self.encrypted

    @property
    def unsent(self) -> int:
        return len(self.out) + self.encrypted

    def take(self) -> None:
        self.incoming.write(self.got)
        self.got.clear()
        if self.ended:
            self.incoming.write_eof()
        if not self.shaken:
            if self.refused:
                return
            self.flush()
            if not self.shaken:
                return
        while True:
            try:
                piece = self.tls.read(65536)
            except (ssl.SSLWantReadError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                break
            except ssl.SSLError as error:
                if self.broken:
                    break
                raise Violation(f"malformed TLS from the gateway: {error}") from error
            if not piece:
                break  # the gateway's goodbye
            self.plain += piece
            self._plain()
        self._flush_cipher()

    def _plain(self) -> None:
        cipher, self.got = self.got, self.plain
        try:
            super().take()
        finally:
            self.plain, self.got = self.got, cipher

    def on_end(self) -> None:
        cipher, self.got = self.got, self.plain
        try:
            super().on_end()
        finally:
            self.plain, self.got = self.got, cipher

    def finish(self) -> None:
        if self.finished is None and not self.gone and not self.broken and self.shaken:
            with suppress(ssl.SSLError):
                self.tls.unwrap()
            self.notified = True
            self._flush_cipher()
        super().finish()


def compare_piece(request: Request | None, at: int, piece: bytes) -> None:
    """See whether a part of a body is its request's. Raises Violation."""
    if request is not None and not request.tainted and request.body[at : at + len(piece)] != piece:
        raise Violation(f"the body of a request differs: {request.number} at {at}, {piece[:60]!r}")


def compare_end(world: "World", request: Request | None, size: int) -> None:
    """See whether a server may have got all of a request, with a body of `size` bytes. Raises Violation."""
    if request is None:
        return
    if request.refused:
        raise Violation(f"a server got all of a malformed request: {request.number}")
    if request.tainted:
        return
    if size != len(request.body):
        raise Violation(f"a request is shorter: {size} of {len(request.body)} of {request.number}")
    client = world.sender.get(request.number)
    if client is not None and client.handed < request.end:
        raise Violation(f"a server got more of a request than was sent: {request.number}")


class ServerConn(Peer):
    """A server's end of a connection from the gateway: one request at a time, each as its client sent it."""

    def __init__(self, world: "World", sock: socket.socket | TlsSocket, server: int) -> None:
        super().__init__(world, sock)
        self.server = server
        self.request: Request | None = None
        self.strange = False
        """The request is none that the oracle knows."""
        self.deaf = False
        """It may have become a tunnel of such a client."""
        self.busy = False
        """A request has begun that is not answered, or not read in full."""
        self.complete = False
        self.answered = False
        self.answer: Answer | None = None
        self.last = False
        """Close after the answer."""
        self.chunks: Chunks | None = None
        self.left = 0
        self.body = 0
        self.served = 0
        self.spoiled = False
        """It has said what it must not: nothing more may come here."""
        self.owner: Client | None = None
        """It has asked this client to authenticate the connection: no other's request may come here."""
        self.tunnel: Client | None = None
        self.upgraded = False
        self.tunneled = 0
        self.said = bytearray()
        self.heard = bytearray()

    def take(self) -> None:
        if self.deaf:
            self.got.clear()
        if b"/bad/" in self.got and not self.oracle.loose:
            raise Violation(f"a server got a byte of what is malformed: {bytes(self.got[:120])!r}")
        while self.got:
            if self.upgraded:
                return self._tunnel()
            if not (self._body() if self.busy else self._head()):
                return None
        return None

    def _head(self) -> bool:
        head = take_head(self.got, response=False)
        if head is None:
            return False
        if self.spoiled:
            raise Violation(f"a connection is used again that must not be: {head.start!r}")
        self.request = self.oracle.at_server(head)
        if self.owner is not None:
            sender = None if self.request is None else self.world.sender.get(self.request.number)
            if sender is not self.owner and self.request is not None:
                raise Violation(f"another client's request on an authenticated connection: {head.start!r}")
            self.oracle.features.add("own")
        self.strange = self.request is None
        self.busy, self.complete, self.answered, self.answer = True, False, False, None
        self.body = 0
        self.chunks = Chunks() if head.chunked else None
        self.left = head.length or 0
        self.oracle.features.add(f"head {'again' if self.served else 'fresh'} {head.start[0].decode()} {head.chunked}")
        if self.chunks is None and self.left == 0:
            self._completed()
        return True

    def _body(self) -> bool:
        if self.complete:
            if self.strange:
                self.got.clear()
                return False
            if self.request is not None and self.request.upgrade:
                return False  # said ahead: whether that is a tunnel's, the answer tells
            raise Violation(f"a request before the answer to the one before: {bytes(self.got[:80])!r}")
        if self.chunks is not None:
            piece = self.chunks.feed(self.got)
            done = self.chunks.done
        else:
            piece = bytes(self.got[: self.left])
            del self.got[: self.left]
            self.left -= len(piece)
            done = self.left == 0
        compare_piece(self.request, self.body, piece)
        self.body += len(piece)
        if done:
            self._completed()
        return done

    def _completed(self) -> None:
        self.complete = True
        compare_end(self.world, self.request, self.body)
        self._rest()

    def _rest(self) -> None:
        """Be ready for the next request once this one is read and answered."""
        if self.complete and self.answered:
            self.busy = False
            self.request = self.answer = None
            self.served += 1

    # ------------------------------------------------------------------------------------------------------ answering

    def say(self, data: bytes, answer: Answer | None, hold: int = 0) -> None:
        """Begin an answer; the last `hold` bytes wait."""
        self.held = hold
        self.out += data
        self.answer = answer
        self.flush()

    def flush(self) -> None:
        super().flush()
        if self.busy and self.answer is not None and not self.answered and not self.out and not self.torn:
            self.answered = True
            self.answer.written = True
            if self.answer.status == 101 and self.answer.valid:
                return
            if self.last:
                self.answer.valid = self.answer.valid and (self.clean or not self.answer.by_end)
                self.close()
            else:
                self._rest()

    def upgrade(self, client: Client, extra: bytes) -> None:
        """A tunnel from now on; `extra` goes right behind the 101."""
        self.upgraded = True
        self.tunnel = client
        self.said += extra

    def _tunnel(self) -> None:
        assert self.tunnel is not None
        data = bytes(self.got)
        self.got.clear()
        if self.tunnel.early[self.tunneled : self.tunneled + len(data)] != data:
            raise Violation(f"a tunnel's bytes differ at the server: {data[:60]!r} at {self.tunneled}")
        self.tunneled += len(data)

    @property
    def rests(self) -> bool:
        """Whether it has nothing to do, and knows."""
        waits = self.busy or self.upgraded or self.stalled or self.out or self.greets or self.cut_short
        return self.live and self.sends and not waits

    def on_end(self) -> None:
        self.oracle.features.add(f"server {'broken' if self.broken else 'ended'} {self.state()}")
        # The gateway wants nothing more of it.
        if not self.gone and not self.upgraded:
            self.world.left(self)

    def state(self) -> str:
        """What it is in the middle of, roughly."""
        return (
            f"{'b' if self.busy else 'i'}{'c' if self.complete else ''}{'a' if self.answer else ''}"
            f"{'o' if self.out else ''}{'t' if self.upgraded else ''}{'s' if self.stalled else ''}"
            f"{'' if self.live else 'x'}"
        )
