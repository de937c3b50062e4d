"""A site with its clients and servers, moved one event after the other."""

import os
import select
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

from tests.fuzz.http2 import WINDOWS, Http2Client, Http2TlsClient
from tests.fuzz.http2_servers import Call, Http2ServerConn
from tests.fuzz.oracle import Answer, Oracle, Request, Violation, pattern
from tests.fuzz.peers import Client, Peer, ServerConn, TlsClient
from tests.fuzz.site import SERVERS, Site, Variant
from tests.fuzz.tls import TlsSocket

CLIENTS = 6
TIMEOUT = 300
"""Turns of 10 ms until what is still missing is believed to be missing."""
SIZES = (0, 1, 17, 1000, 9000, 33_000, 70_000, 150_000, 300_000)
PATIENT_MS = 10_000
"""The first deadline that a complete request may meet."""
CONNECT_MS = 2100
"""More than a connection may take to come about."""
QUEUE_MS = 5000
"""The same in a queue."""
LEAVING_MS = 1000
"""A client that sends its FIN so long after a request, while the answer is due, is taken for one that has left."""
LINGER_MS = 30_000
"""The longest time for which a client may read what it was sent before its connection was to be closed."""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROXY = (
    b"PROXY TCP4 192.0.2.1 127.0.0.1 1000 80\r\n",
    SIGNATURE + b"\x21\x11\x00\x0c" + bytes((192, 0, 2, 2, 127, 0, 0, 1)) + struct.pack("!HH", 1000, 80),
    SIGNATURE + b"\x20\x00\x00\x00",
    b"PROXY UNKNOWN\r\n",
)
NO_PROXY = (b"PROXY TCP4 192.0.2.1 127.0.0.1 1000\r\n", b"GET /bad/0 HTTP/1.1\r\nHost: a\r\n\r\n", SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12), b"\x16\x03\x01")  # fmt: skip


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - at each input, twice


class Origin:
    """A server's place: its socket, and the connections that it has accepted."""

    def __init__(self, world: "World", number: int) -> None:
        self.world, self.number = world, number
        self.conns: list[ServerConn] = []
        """Of HTTP/1."""
        self.sessions: list[Http2ServerConn] = []
        """Of HTTP/2."""
        self.greeting = 0
        """With which SETTINGS they begin."""
        self.up = False
        self.holding = False
        """It accepts nothing for now; the kernel does."""
        self.narrow = False
        """Neither does the kernel, but for one: connections stay on their way."""
        self.open()

    def open(self) -> None:
        """Listen."""
        site, number = self.world.site, self.number
        if self.world.variant.unix:
            with suppress(FileNotFoundError):
                Path(site.paths[number]).unlink()
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(site.paths[number])
        else:
            self.sock = socket.socket()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if number == 1:
                # This one's kernel takes little when it does not read.
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            self.sock.bind(("127.0.0.1", site.ports[number]))
        self.sock.settimeout(0)
        self.sock.listen(64)
        self.up, self.holding, self.narrow = True, False, False
        self.world.poll.register(self.sock.fileno(), select.EPOLLIN)
        self.world.listening[self.sock.fileno()] = self

    def close(self) -> None:
        """Refuse connections; what the kernel has accepted is reset."""
        if self.up:
            self.up = self.narrow = False
            self.world.poll.unregister(self.sock.fileno())
            del self.world.listening[self.sock.fileno()]
            self.sock.close()
            if self.world.variant.unix:
                Path(self.world.site.paths[self.number]).unlink()

    def hold(self, *, holding: bool, narrow: bool = False) -> None:
        """Accept nothing, or go on."""
        if not self.up or holding == self.holding:
            return
        self.holding = holding
        self.world.poll.modify(self.sock.fileno(), 0 if holding else select.EPOLLIN)
        if narrow and holding:
            self.world.oracle.trouble += 1
            self.narrow = True
            self.sock.listen(0)
        elif self.narrow and not holding:
            # A SYN that was dropped comes again after a second, which no test waits for.
            self.world.oracle.trouble += 1
            self.sock.listen(64)
            self.world.skip(CONNECT_MS)
            self.narrow = False

    def accept(self) -> None:
        """Accept who waits."""
        while self.up and not self.holding:
            try:
                plain, _ = self.sock.accept()
            except OSError:
                return
            sock: socket.socket | TlsSocket = plain
            if self.world.variant.secure:
                sock = TlsSocket(plain, self.world.site.server_contexts[self.world.variant.h2, self.number])
            if self.world.variant.h2:
                self.sessions.append(Http2ServerConn(self.world, sock, self.number, self.greeting))
            else:
                self.conns.append(ServerConn(self.world, sock, self.number))


class World:
    """One run: made for each input, on a site that stays."""

    def __init__(self, site: Site, variant: Variant) -> None:
        self.site, self.variant = site, variant
        self.oracle = Oracle(attempts=variant.attempts + 1)
        self.poll = select.epoll()
        self.peers: dict[int, Peer] = {}
        self.all: list[Peer] = []
        self.listening: dict[int, Origin] = {}
        self.clients: list[Client | None] = [None] * CLIENTS
        self.sender: dict[int, Client] = {}
        self.upgraded: dict[int, ServerConn] = {}
        self.drained = False
        self.began = time.monotonic()
        self.events = 0
        self.numbers = 0
        """The number given last, to a request or an answer."""
        site.begin(variant)
        self.origins = [Origin(self, number) for number in range(SERVERS)]
        self.fds = _descriptors()

    # ---------------------------------------------------------------------------------------------------- the turning

    def register(self, peer: Peer) -> None:
        """Look after what a peer gets."""
        if peer.fd not in self.peers:
            self.poll.register(peer.fd, select.EPOLLIN)
            if not any(other is peer for other in self.all):
                self.all.append(peer)
        self.peers[peer.fd] = peer

    def unregister(self, peer: Peer) -> None:
        """Look after it no more."""
        if self.peers.get(peer.fd) is peer:
            del self.peers[peer.fd]
            self.poll.unregister(peer.fd)

    def left(self, conn: Peer) -> None:
        """The gateway has closed a server's connection."""
        conn.close()

    def step(self, rounds: int = 3) -> bool:
        """Let the gateway and all peers run; whether anything arrived."""
        found = False
        for number in range(rounds):
            self.site.poller.wait(0)
            if self.pump():
                found = True
            elif number:
                break
        if self.site.errors.found:
            raise Violation(f"the gateway logged a fault: {self.site.errors.found[0]}")
        return found

    def pump(self) -> bool:
        """Let clients and servers read and send; whether anything arrived."""
        found = gone = False
        for fd, _ in self.poll.poll(0):
            peer = self.peers.get(fd)
            if peer is not None:
                found |= peer.read()
            elif (origin := self.listening.get(fd)) is not None:
                origin.accept()
                found = True
        for peer in self.all:
            if peer.gone:
                gone = True
            elif len(peer.out) > peer.held or isinstance(peer, TlsClient):
                before = len(peer.out)
                peer.flush()
                found |= len(peer.out) != before
        if gone:
            self.all = [peer for peer in self.all if not peer.gone]
            for origin in self.origins:
                origin.conns = [conn for conn in origin.conns if not conn.gone]
                origin.sessions = [conn for conn in origin.sessions if not conn.gone]
        return found

    def skip(self, ms: int) -> None:
        """Let time pass, and see what comes of it; what has happened before is seen before, such as a connect."""
        self.step(3)
        if ms > LEAVING_MS // 2 and self._silent():
            self.oracle.trouble += 1
            for session in self.sessions:
                session.slow = session.slow or session.held > 0
        self.oracle.clock += ms
        taken = int((time.monotonic() - self.began) * 1000)
        for client in self.clients:
            if not isinstance(client, Http2Client) or not client.held:
                continue
            if self.oracle.clock - client.held_since + taken >= PATIENT_MS:
                client.slow = client.doomed = True
        if ms > LEAVING_MS:
            for client in self.clients:
                # One that reads slowly has half a minute for what the gateway has handed to the kernel.
                if client is not None and (client.stalled or (ms > LINGER_MS and client.head is not None)):
                    client.doomed = True
        self.site.skip(ms)
        self.step()

    @property
    def sessions(self) -> list[Http2ServerConn]:
        """The servers' connections in HTTP/2."""
        return [conn for origin in self.origins for conn in origin.sessions if not conn.gone]

    def _silent(self) -> bool:
        """Whether the gateway may give up a server, or a connection to it, because it says nothing."""
        waits = any(origin.holding for origin in self.origins) and (self.variant.h2 or self.variant.secure)
        waits = waits or any(conn.greets and conn.stalled for origin in self.origins for conn in origin.conns)
        return waits or any(conn.silent for conn in self.sessions)

    def greet(self) -> None:
        """Let the gateway see what clients speak that chose it by what the entrance offers now, as one that comes does."""
        for _ in range(TIMEOUT):
            new = [client for client in self.clients if isinstance(client, Http2Client) and not client.greeted]
            if not any(client.live and not client.stalled and client.wild is None for client in new):
                return
            if not self.step():
                select.select([], [], [], 0.01)

    # -------------------------------------------------------------------------------------------------- what clients do

    def connect(self, slot: int, flags: int) -> Client | None:
        """A client comes, if its place is free: flags say with what socket, from where and with what header."""
        if self.clients[slot] is not None or self.drained:
            return None
        sock = socket.socket()
        if flags & 1:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if flags & 2:
            sock.bind(("127.0.0.2", 0))
        sock.settimeout(0)
        with suppress(BlockingIOError):
            sock.connect(self.site.socket.getsockname())
        before = b""
        refused = False
        if self.variant.proxied:
            refused = flags & 0x1C == 0x1C
            before = (NO_PROXY if refused else PROXY)[(flags >> 5) & 3]
        client: Client
        if self.site.offers_http2 and self.variant.tls:
            context = self.site.client_context_http2
            client = Http2TlsClient(self, sock, context, before=before, window=WINDOWS[(flags >> 5) % len(WINDOWS)])
        elif self.site.offers_http2:
            client = Http2Client(self, sock, window=WINDOWS[(flags >> 5) % len(WINDOWS)])
        elif self.variant.tls:
            client = TlsClient(self, sock, self.site.client_context, before=before)
        else:
            client = Client(self, sock)
            if before:
                client.say(before, hold=len(before) // 2 if flags & 0x80 else 0)
        client.refused = refused
        self.clients[slot] = client
        return client

    def request(
        self, client: Client, method: bytes, fields: bytes = b"", size: int = 0, *, chunked: bool = False, **marks: bool
    ) -> Request:
        """Return a request of a client, with its bytes; nothing is sent yet."""
        self.numbers += 1
        number = self.numbers
        body = pattern(f"q{number}", size)
        target = b"/r/%d" % number
        minor = 0 if marks.pop("old", False) else 1
        wire = b"%s %s HTTP/1.%d\r\nHost: a\r\nX-Id: %d\r\n%s" % (method, target, minor, number, fields)
        if chunked:
            step = max(1, size // 3)
            pieces = [body[at : at + step] for at in range(0, size, step)]
            coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
            wire += (
                b"Transfer-Encoding: chunked\r\n\r\n" + coded + (b"0\r\nX-T: t\r\n\r\n" if size > 17 else b"0\r\n\r\n")
            )
        elif size or method in {b"POST", b"PUT"}:
            wire += b"Content-Length: %d\r\n\r\n%s" % (size, body)
        else:
            wire += b"\r\n"
        request = Request(
            number, method, target, wire, body, self.oracle.clock, self.oracle.trouble, minor=minor, **marks
        )
        if size > self.variant.body_bytes:
            request.refused = True
            request.headless = not chunked
        return self.enlist(client, request)

    def malformed(self, client: Client, wire: bytes, *, headless: bool) -> Request:
        """Return what must be refused; "%d" in it stands for its number."""
        self.numbers += 1
        number = self.numbers
        wire = wire.replace(b"%d", b"%d" % number)
        target = b"/r/%d" % number
        request = Request(
            number, b"POST", target, wire, b"", self.oracle.clock, self.oracle.trouble, refused=True, headless=headless
        )
        request.tainted = True
        return self.enlist(client, request)

    def enlist(self, client: Client, request: Request) -> Request:
        """Know a request, and what stands before it."""
        if client.wild is not None:
            if request.headless:
                self.oracle.loose = True  # behind arbitrary bytes it may be the body of a request
            return request
        self.oracle.requests[request.number] = request
        self.sender[request.number] = client
        request.dead = client.refused or any(before.refused for before in client.requests)
        return request

    def wild(self, client: Client, data: bytes) -> None:
        """Send arbitrary bytes, in front of what is still to be sent: from here on, nothing is known of this client."""
        if client.tunnel is not None:
            client.say(data)
            return
        self.taint(client)
        client.out[:0] = data
        client.held = min(client.held, len(client.out))
        client.flush()

    def taint(self, client: Client) -> None:
        """What this client has not sent yet means something else from now on."""
        if client.wild is not None:
            return
        self.oracle.wild = True
        client.wild = len(client.requests)
        for at, request in enumerate(client.requests):
            if request.end > client.handed or (client.upgrading and at > client.next):
                client.wild = min(client.wild, at)
                request.tainted = True
                if request.headless:
                    self.oracle.loose = True
                else:
                    self.oracle.requests.pop(request.number, None)

    # -------------------------------------------------------------------------------------------------- what servers do

    def answer(self, request: Request | None, status: int, body: bytes = b"", **marks: bool) -> Answer:
        """Know another answer."""
        self.numbers += 1
        no_request = Request(-1, b"GET", b"", b"", b"", 0, -1)
        answer = Answer(self.numbers, request or no_request, status, body, **marks)
        self.oracle.answers[answer.number] = answer
        return answer

    def fault(self, conn: ServerConn) -> None:
        """A server does what it must not, or cannot help: whatever is on its connection may fail."""
        if conn.busy and conn.request is not None:
            conn.request.faulted = True
        if not conn.busy or conn.answer is not None:
            # It has answered, maybe before it has read all that its kernel has: another request may be on its way.
            self.oracle.trouble += 1

    # ------------------------------------------------------------------------------------------------------- what is due

    def excused(self, request: Request, client: Client, status: int) -> bool:
        """Whether a good request may fail, with an error of that status or (0) with the connection's end."""
        return (
            request.trouble != self.oracle.trouble
            or request.faulted
            or request.dead
            or request.tainted
            or request.refused
            or self.drained
            or request.end > client.written
            or (status == 503 and self.variant.most is not None)
            or (status == 502 and self._unreachable())
            or any(conn.unsure or (conn.ruined and conn.live) for conn in self.sessions)
            or (status == 0 and self._ended(client))
            or self._late(request, client)
        )

    def _ended(self, client: Client) -> bool:
        """Whether a client's connection may have ended for something else than the request."""
        if client.doomed or any(before.faulted for before in client.requests[: client.next]):
            return True
        return self.variant.connections < 100 and client.next == 0

    def _late(self, request: Request, client: Client) -> bool:
        """Whether a deadline may have passed. The gateway's clock also has the time that this run has really taken."""
        taken = int((time.monotonic() - self.began) * 1000)
        if self.oracle.clock - request.began + taken >= (QUEUE_MS if self.variant.queue else PATIENT_MS):
            return True
        if client.finished is None:
            return False
        return client.finished - request.began + taken >= LEAVING_MS

    def _unreachable(self) -> bool:
        """Whether a request may meet nothing but closed ports."""
        members = self.site.members
        down = sum(not self.origins[number].up or self.origins[number].narrow for number in members)
        return down >= max(2, len(members) - 1) or (
            down > 0 and (self.variant.most is not None or self.variant.attempts == 0)
        )

    def settle(self) -> None:
        """Let all peers run, until all good requests have their answers. Raises Violation."""
        for origin in self.origins:
            origin.hold(holding=False)
            origin.greeting = 0
        for peer in self.all:
            peer.stall(stalled=False)
            peer.held = 0
            peer.relax()
        self._rounds()
        for client in self.clients:
            # What nothing is known of must not keep a server's place.
            if client is not None and (client.wild is not None or (client.unfinished and client.finished is not None)):
                client.close(reset=True)
            if client is not None and client.tunnel is not None:
                self._end_tunnel(client)
        for origin in self.origins:
            for conn in origin.conns:
                if conn.upgraded and (conn.tunnel is None or conn.tunnel.gone):
                    conn.close()  # its client has left, which looks like a half-close: a tunnel may outlive it
        self._rounds()
        if self._due():
            self._wait(lambda: not self._due())
        if any(session.ruined for session in self.sessions):
            raise Violation("a server's connection goes on that has broken a rule: " + self.sessions[0].state())
        for client in self._due():
            raise Violation(
                f"no answer, and no end: {client.state()} at request {client.next} of {len(client.requests)}"
            )

    def _rounds(self) -> None:
        """Go on as well-behaved peers until nothing happens any more."""
        for _ in range(400):
            found = self.step(2)
            for session in self.sessions:
                for call in session.waiting(lambda call: call.complete):
                    self.reply(call)
                    found = True
            for origin in self.origins:
                for conn in origin.conns:
                    if conn.busy and conn.complete and conn.answer is None and not conn.gone and not conn.upgraded:
                        self.reply(conn)
                        found = True
            if not found:
                self.site.skip(3)
                self.oracle.clock += 3
                if not self.step(1):
                    return

    def reply(self, conn: ServerConn | Call) -> None:
        """Answer well."""
        if isinstance(conn, Call):
            conn.conn.reply(conn)
            return
        answer = self.answer(conn.request, 200, pattern(f"a{self.numbers}", 20))
        body = b"" if conn.request is not None and conn.request.method == b"HEAD" else answer.body
        conn.say(b"HTTP/1.1 200 OK\r\nX-Fuzz: %d\r\nContent-Length: 20\r\n\r\n%s" % (answer.number, body), answer)

    def _due(self) -> list[Client]:
        """Clients that wait for something that should have come: the rest of an answer, an answer, or the end."""
        return [client for client in self.clients if client is not None and client.due]

    def _wait(self, done: object) -> None:
        for _ in range(TIMEOUT):
            self.site.poller.wait(0.01)
            self._rounds()
            if done():  # type: ignore[operator]
                return

    def _end_tunnel(self, client: Client) -> None:
        """A tunnel of which both ends are there delivers everything, also when one of them has ended."""
        conn = client.tunnel
        assert conn is not None
        if client.gone or client.broken or conn.gone or conn.broken or self.oracle.trouble:
            client.close(reset=True)
            conn.close(reset=True)
            return

        def whole() -> bool:
            heard = client.tunneled == conn.given(conn.said)
            told = conn.tunneled == client.given(client.early)
            return heard and told

        if client.speaks:
            client.say(b"one more")
        if not whole():
            self._rounds()
        if not whole():
            self._wait(whole)
        if client.gone or client.broken or conn.gone or conn.broken:
            raise Violation(f"a tunnel broke: {client.state()} {conn.state()}")
        if client.tunneled != conn.given(conn.said):
            raise Violation(f"a tunnel lost bytes for the client: {client.tunneled} of {len(conn.said)}")
        if conn.tunneled != client.given(client.early):
            raise Violation(f"a tunnel lost bytes for the server: {conn.tunneled} of {len(client.early)}")
        if client.finished is None:
            client.finish()
        if conn.finished is None:
            conn.finish()

    def finish(self) -> None:
        """Disconnect all peers, and check that nothing is left. Raises Violation."""
        for number, client in enumerate(self.clients):
            if client is not None:
                client.close(reset=number & 1 == 1)
        self.step()
        for origin in self.origins:
            busy: list[Peer] = [conn for conn in origin.conns if conn.busy]
            busy += [session for session in origin.sessions if session.busy]
            for conn in busy:
                conn.close(reset=True)
        for ms in (1500, 2500, 6000, 11_000, 31_000):
            self.site.skip(ms)
            self.step(1)
        self._nothing("is in flight", lambda: not any(self.site.in_flight.values()), self.site.in_flight)
        self._nothing("connections are open", lambda: self.site.passed_through().open == 0, None)
        if not self.drained:
            self._still_works()
        for ms in (61_000, 2500, 3_700_000):
            self.site.skip(ms)
            self.step(1)
        self.site.end()
        self._nothing("is watched", lambda: self.site.poller.count == 0, None)
        for origin in self.origins:
            for conn in (*origin.conns, *origin.sessions):
                conn.close()
        fds = _descriptors()
        self.close()
        if fds > self.fds:
            raise Violation(f"descriptors are left: {fds - self.fds}")

    def _nothing(self, what: str, done: object, found: object) -> None:
        if not done():  # type: ignore[operator]
            self._wait(done)
        if not done():  # type: ignore[operator]
            raise Violation(f"at the end something {what}: {found or self.site.passed_through()}")

    def _still_works(self) -> None:
        """As many clients as one source may have come, and each gets an answer: nothing is counted for those before."""
        for origin in self.origins:
            if not origin.up:
                origin.open()
        self.clients = [None] * CLIENTS
        count = min(self.variant.per_source, self.variant.connections, 2)
        if self.variant.per_source < CLIENTS:
            count = self.variant.per_source
        clients = [self.connect(slot, 0) for slot in range(count)]
        for client in clients:
            assert client is not None
            request = self.request(client, b"GET")
            client.ask(request)
        for client in clients:
            assert client is not None
            if client.next == 0:
                self._rounds()
            if client.next == 0:
                self._wait(lambda client=client: client.next > 0)
            if client.next == 0:
                raise Violation(f"the gateway does not work any more: {client.state()}")
        for client in clients:
            assert client is not None
            client.close()
        self.step()

    def close(self) -> None:
        """Let everything go, whatever state it is in."""
        for peer in self.all:
            peer.close()
        for client in self.clients:
            if client is not None:
                client.close()
        for origin in self.origins:
            for conn in (*origin.conns, *origin.sessions):
                conn.close()
            origin.close()
        self.poll.close()
