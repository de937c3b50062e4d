"""HTTP/1 from clients: requests are read one at a time, responses written in order, and the connection closed.

    C_HEAD ── head ──► C_BODY ── its last byte ──► C_WAIT ── answered ──► C_HEAD …
       │ no body ─────────────────────────────────────▲ │
       │                 │ answered before that         │ to be closed
       │ FIN, timeout    ▼                              ▼
       └──► closed     C_FLUSH ◄────────────────────────┘            C_WAIT ── 101 ──► C_TUNNEL
                         │ sent
                         ▼
                       C_LINGER ──► closed

Pipelined requests stay in the kernel, or are held if they were read already. Bodies are never collected: a piece is
read only when the server has taken the previous one.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset

from gateway.proxy.chunks cimport put_chunk, put_last_chunk
from gateway.proxy.conn cimport FOREVER, HEAD, RECV_AGAIN, RECV_END, RECV_FULL, SCRATCH, WORTH, Handler, Poller
from gateway.proxy.openssl cimport SSL, SSL_has_pending
from gateway.proxy.linger cimport LINGER_PAUSE_MS, linger_begin, linger_goes_on, linger_waits
from gateway.proxy.server cimport ServerConn
from gateway.outcome cimport O_BUG, O_STOPPED
from gateway.proxy.tls cimport ServerContext, client_lines, describe, has_valid_certificate
from gateway.proxy.transaction cimport T_RESPONDING, Transaction, new_transaction
from gateway.proxy.states cimport Machine, edges_of, step
from gateway.proxy.tunnel cimport Tunnel
from gateway.wire.chunked cimport CHUNK_DATA, CHUNK_END, CHUNK_MORE, CHUNK_TRAILER, chunk_next, chunk_start
from gateway.wire.edit cimport (
    FRAME_CHUNKED, FRAME_CLOSE, Out, edit_interim, edit_response, edit_upgrade,
)
from gateway.wire.head cimport (
    Head, M_HEAD, R_BODY_TOO_LARGE, R_CHUNK, R_MORE, R_OK, R_TARGET_TOO_LONG, R_TIMEOUT, R_TOO_LARGE, check_start,
    find_end, scan_request,
)
from gateway.wire.origin cimport Provenance

from gateway.wire.pages import phrase

cdef extern from "<sys/ioctl.h>" nogil:
    enum:
        FIONREAD
    int ioctl(int fd, unsigned long request, int *value)

cdef enum:
    TURN = 4                # consecutive reads before others get their turn
    TORN_PAUSE_MS = 25      # first pause until the next check whether a reset is harmless; each pause doubles
    MARGIN = 32             # the scanners read a few bytes beyond the end
    AHEAD = 40 * 1024       # more than OpenSSL buffers of what it has read: READ_BUFFER of tls.pyx, and a record

PHASES = ("head", "body", "wait", "flush", "linger", "tunnel")

cdef int64_t LEAVING_NS = 1_000_000_000         # see on_input

# A process works on one head at a time: these need no owner.
cdef Head _scan
cdef Out _out


cdef Machine _machine
_machine.next[<int>C_HEAD] = 1 << C_BODY | 1 << C_WAIT | 1 << C_FLUSH | 1 << C_LINGER
_machine.next[<int>C_BODY] = 1 << C_WAIT | 1 << C_FLUSH | 1 << C_LINGER
_machine.next[<int>C_WAIT] = 1 << C_HEAD | 1 << C_FLUSH | 1 << C_LINGER | 1 << C_TUNNEL
_machine.next[<int>C_FLUSH] = 1 << C_LINGER


def edges():
    """{(phase, next phase): number of transitions in this process} for every possible transition."""
    return edges_of(&_machine, PHASES)


cdef class Http1ClientProtocol(ClientProtocol):
    cdef Handler open(self, Conn conn, WorkerContext context):
        return open_http1(<ClientConn>conn, context)


cdef Http1Downstream open_http1(ClientConn conn, WorkerContext context):
    cdef Http1Downstream made = Http1Downstream.__new__(Http1Downstream)
    made.conn = conn
    made.context = context
    made.frontend = conn.listener.frontend
    made.address = conn.address
    made.port = conn.port
    made.room = SCRATCH
    return made


cdef class Http1Downstream(Downstream):
    def __dealloc__(self):
        free(self.held)

    def __repr__(self):
        return f"<Http1Downstream {PHASES[self.phase]} {self.transaction!r}>"

    cdef int _enter(self, int phase) except -1:
        if not step(&_machine, self.phase, phase):
            raise RuntimeError(f"a connection within {PHASES[self.phase]} can't go over to {PHASES[phase]}")
        self.phase = phase
        if phase == C_WAIT:
            self.whole = self.conn.poller.now
        return 0

    # ------------------------------------------------------------------------------------------------- reading requests

    cdef int on_input(self, Conn conn) except -1:
        cdef Transaction t = self.transaction
        if self.phase == C_LINGER:
            return self._discard()
        if conn.ended and not self.fin_seen:
            self.fin_seen = 1
            # A script that pipes in its request half-closes at once and waits for the response; a later FIN means that
            # the client has closed. A FIN after a body that waited for a server is seen when the body has been read.
            if (self.phase == C_WAIT and t.state < T_RESPONDING
                    and conn.poller.now - self.whole > LEAVING_NS):
                return self._client_left()
        return self.read()

    cdef int read(self) except -1:
        """Read requests and process them while there is data and the server takes it.

        Ownership of the bytes: the scratch buffer or `held` until _consume returns. Output that refers to them is
        committed before either is changed; the unused rest of the scratch buffer is held.
        """
        cdef ClientConn conn = self.conn
        cdef Poller poller = conn.poller
        cdef Conn target
        cdef ssize_t got, used
        cdef int turn = 0
        self.reading = 1                # nested calls need not call this again
        while conn.fd >= 0:
            if self.phase == C_HEAD:
                if conn.out_len:
                    break               # the previous response goes first
            elif self.phase != C_BODY:
                break
            elif not self.transaction.takes_body():
                if conn.ended and self._body_lost():
                    self._client_left()
                    break
                self.transaction.on_body_blocked()
                break
            if self.held_len and not self.held_short:
                used = self._consume(self.held + self.held_at, self.held_len)
                poller.settle()
                self._unhold(used if self.phase <= C_WAIT else self.held_len)   # nothing more is read from this client
                continue
            if not conn.readable:
                break
            if turn == TURN:
                poller.turn_over(conn)
                break
            turn += 1
            if self.held_len:
                got = self._read_held()
            else:
                target = None
                if self.phase == C_BODY and self.r.left > WORTH and conn.ssl == NULL and self.transaction.replay_lost:
                    target = self.transaction.upstream.splice_target()
                if target is not None:
                    got = target.relay(conn, self.r.left)
                    if got > 0:
                        self.r.left -= got
                        self.transaction.on_body_spliced(got)
                else:
                    got = conn.recv(poller.scratch, HEAD if self.phase == C_HEAD else SCRATCH)
                    if got > 0:
                        used = self._consume(poller.scratch, got)
                        poller.settle()
                        if used < got and self.phase <= C_WAIT:
                            self._hold(poller.scratch + used, got - used)
            if got > 0 or got == RECV_FULL:
                continue
            if got == RECV_AGAIN:
                break
            if got != RECV_END:
                self.on_broken(conn)
            else:
                self._client_left()
            break
        self.reading = 0
        return 0

    cdef ssize_t _consume(self, const char *p, size_t n) except -1:
        """Process n bytes at p; return how many were used."""
        cdef size_t at = 0
        cdef ssize_t used
        while at < n and self.conn.fd >= 0:
            if self.phase == C_HEAD:
                if self.conn.out_len:
                    break
                used = self._head(p + at, n - at)
                if used == 0:
                    self.held_short = self.phase == C_HEAD
                    break
            elif self.phase == C_BODY:
                if not self.transaction.takes_body():
                    break
                used = self._body(p + at, n - at)
            else:
                break
            at += used
        return at

    cdef ssize_t _head(self, const char *p, size_t n) except -1:
        """Parse a request head at p and start its transaction; the bytes used, or 0: incomplete, or refused."""
        cdef uint32_t end = 0
        cdef int why
        cdef Transaction t
        self.frontend = self.conn.listener.frontend
        if p[0] == c'\r' and not self.progress.skipped_line:
            # One empty line before a request is ignored (RFC 9112 section 2.2).
            if n == 1:
                return 0
            if p[1] == c'\n':
                self.progress.skipped_line = 1
                return 2
        if not self.progress.begun:
            self.progress.begun = 1
            self.conn.deadline(self.frontend.header_ms)
        why = find_end(p, <uint32_t>n, &self.progress.seen, &end)
        if why == R_MORE:
            why = check_start(p, <uint32_t>n, &self.frontend.bounds)
            if why == R_OK and n >= self.frontend.bounds.head:
                why = R_TOO_LARGE if self.progress.seen else R_TARGET_TOO_LONG
            if why != R_OK:
                self._refuse(why)
            return 0
        if why == R_OK:
            why = scan_request(p, end, &_scan, &self.frontend.bounds)
        if why == R_OK and _scan.content_length > self.frontend.body_bytes:
            why = R_BODY_TOO_LARGE
        if why != R_OK:
            self._refuse(why)
            return 0
        memset(&self.progress, 0, sizeof(self.progress))
        memset(&self.r, 0, sizeof(self.r))
        self.conn.deadline(FOREVER)
        if self.provenance is None:
            self._make_provenance()
        self.r.keep = _scan.keep_alive
        self.r.minor = _scan.minor
        self.r.is_head = _scan.method == M_HEAD
        self.r.chunked = _scan.chunked
        self.r.left = _scan.content_length
        if _scan.chunked:
            chunk_start(&self.r.decoder, False)
        t = new_transaction(self.context)
        self.transaction = t
        t.begin(self, self.frontend, p, &_scan)
        self._enter(C_BODY if t.has_body else C_WAIT)
        t.start(p, &_scan)
        return end

    cdef ssize_t _body(self, const char *p, size_t n) except -1:
        cdef Transaction t = self.transaction
        cdef const char *at = p
        cdef const char *data = NULL
        cdef size_t run = n
        cdef int event
        if not self.r.chunked:
            if <int64_t>run > self.r.left:
                run = self.r.left
            self.r.left -= run
            t.on_body(p, run)
            if self.r.left == 0 and self.transaction is t:
                self._body_end()
            return run
        while self.transaction is t:
            event = chunk_next(&self.r.decoder, &at, p + n, &data, &run)
            if event == CHUNK_DATA:
                t.on_body(data, run)
            elif event == CHUNK_TRAILER:
                t.on_trailers(data, run)
            elif event == CHUNK_MORE:
                return n
            elif event == CHUNK_END:
                self._body_end()
                return at - p
            else:
                t.refuse(R_CHUNK)
        return n

    cdef int _body_end(self) except -1:
        self._enter(C_WAIT)
        return self.transaction.on_request_end()

    cdef int _refuse(self, int reason) except -1:
        """The input is not a valid request, or exceeds a limit."""
        cdef Transaction t = new_transaction(self.context)
        memset(&self.progress, 0, sizeof(self.progress))
        memset(&self.r, 0, sizeof(self.r))
        self.r.minor = 1
        self._enter(C_WAIT)
        self.transaction = t
        t.begin_nameless(self, self.frontend, self.conn.tls is not None)
        return t.refuse(reason)

    cdef int _make_provenance(self) except -1:
        """The provenance of this connection's requests; made for the first one."""
        cdef bytes via = self.context.via
        cdef bint verified = False
        if self.conn.tls is not None and (<ServerContext>self.conn.tls).asks:
            via = client_lines(self.conn.ssl) + via
            verified = has_valid_certificate(self.conn.ssl)
        trusts = (<object>self.frontend).trusts if self.frontend.trusts(self.address.decode()) else None
        self.provenance = Provenance(self.address, self.conn.tls is not None, self.conn.listener.name.encode(),
                                     via, trusts, self.frontend.client_from)
        self.provenance.fd = self.conn.fd
        describe(self.provenance, self.port, self.conn.ssl if self.conn.tls is not None else NULL)
        self.provenance.verified = verified
        self.provenance.guarded = self.frontend.guards
        return 0

    # ----------------------------------------------------------------------------------------------- what is read ahead

    cdef int _hold(self, const char *p, size_t n) except -1:
        """Keep n bytes; nothing is held before."""
        cdef size_t room = (n + MARGIN + 1023) & ~<size_t>1023
        cdef void *grown
        if room > self.held_capacity:
            grown = realloc(self.held, room)
            if grown == NULL:
                raise MemoryError
            self.held = <char *>grown
            self.held_capacity = <uint32_t>room
        memcpy(self.held, p, n)
        self.held_at = 0
        self.held_len = <uint32_t>n
        return 0

    cdef int _unhold(self, size_t used) except -1:
        """Drop the first `used` bytes of the held data."""
        if used >= self.held_len:
            free(self.held)
            self.held = NULL
            self.held_at = self.held_len = self.held_capacity = 0
        else:
            self.held_at += <uint32_t>used
            self.held_len -= <uint32_t>used
        return 0

    cdef ssize_t _read_held(self) except? -9:
        """Read more of a head after the part of it that is held; as recv."""
        cdef ssize_t got
        cdef uint32_t room = self.frontend.bounds.head + MARGIN
        cdef void *grown
        if self.held_at:
            memmove(self.held, self.held + self.held_at, self.held_len)
            self.held_at = 0
        if self.held_len + MARGIN >= room:
            room = self.held_len + 4096
        if self.held_capacity < room:
            grown = realloc(self.held, room)
            if grown == NULL:
                raise MemoryError
            self.held = <char *>grown
            self.held_capacity = room
        got = self.conn.recv(self.held + self.held_len, self.held_capacity - MARGIN // 2 - self.held_len)
        if got > 0:
            self.held_len += <uint32_t>got
            self.held_short = 0
        return got

    # ---------------------------------------------------------------------------------------------------------- answers

    cdef int interim(self, const char *p, Head *h) except -1:
        if self.r.minor == 0:
            return 0                    # RFC 9110 section 15.2: never to an HTTP/1.0 client
        edit_interim(&_out, p, h)
        self.conn.put_soon(_out.p, _out.n)
        self.conn.commit()
        return 0

    cdef int head(self, const char *p, Head *h, int framing, bytes extra) except -1:
        cdef int connection = 0
        self.r.framing = framing
        if framing == FRAME_CHUNKED or framing == FRAME_CLOSE:
            self.r.framing = FRAME_CHUNKED if self.r.minor else FRAME_CLOSE
        if not self.r.keep or self.context.draining or self.phase == C_BODY or self.r.framing == FRAME_CLOSE:
            self.r.close = 1
            connection = -1
        elif self.r.minor == 0:
            connection = 1
        edit_response(&_out, p, h, self.r.framing, connection, PyBytes_AS_STRING(extra),
                      <uint32_t>PyBytes_GET_SIZE(extra), self.transaction.id, self.transaction.id_n)
        return self.conn.put_soon(_out.p, _out.n)

    cdef int body(self, const char *p, size_t n) except -1:
        return put_chunk(self.conn, p, n) if self.r.framing == FRAME_CHUNKED else self.conn.put(p, n)

    cdef int end(self, Out *trailers) except -1:
        return put_last_chunk(self.conn, trailers) if self.r.framing == FRAME_CHUNKED else 0

    cdef int answer(self, int status, bytes lines, bytes body, bint close) except -1:
        cdef bytes head
        if close or not self.r.keep or self.context.draining or self.phase == C_BODY:
            self.r.close = 1
        head = b"HTTP/1.1 %d %s\r\n%s%s" % (status, phrase(status).encode(), self.context.date(), lines)
        if status != 204 and status != 304:
            head += b"Content-Length: %d\r\n" % len(body)
        if self.r.close:
            head += b"Connection: close\r\n\r\n"
        elif self.r.minor == 0:
            head += b"Connection: keep-alive\r\n\r\n"
        else:
            head += b"\r\n"
        if not self.r.is_head:
            head += body
        return self.conn.put_soon(PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))

    cdef bint takes(self) noexcept:
        return not self.conn.out_len

    cdef Conn splice_target(self):
        return None if self.r.framing == FRAME_CHUNKED or self.conn.ssl != NULL else self.conn

    cdef int resume(self) except -1:
        if not self.reading and (self.held_len or self.conn.readable):
            self.conn.poller.turn_over(self.conn)
        return 0

    cdef int abort(self, bint at_once) except -1:
        """An answer whose length is known, or that comes in chunks, is seen to be cut when the connection is closed;
        one that ends with the connection only if that is reset (RFC 9112 section 8), and a client of HTTP/1.0 may take
        any close for the end. The reset waits until the client has acknowledged what it was sent: it would destroy
        answers before this one, too."""
        self.r.close = 1
        if at_once:
            return self.conn.reset()
        self.torn = self._cut_shows_by_reset()
        return 0

    cdef bint _cut_shows_by_reset(self) noexcept:
        return self.r.framing == FRAME_CLOSE or self.r.minor == 0

    cdef SSL *tls_state(self) noexcept:
        return self.conn.ssl

    cdef int descriptor(self) noexcept:
        return self.conn.fd

    cdef ServerConn own(self):
        cdef ServerConn own = self.conn.own
        return own if own is not None and own.fd >= 0 else None

    cdef int keep(self, ServerConn conn, int64_t ms) except -1:
        if self.conn.fd < 0:
            return conn.close()
        if self.conn.own is not None and self.conn.own is not conn:
            self.conn.own.close()       # one per client: that of the last backend
        self.conn.own = conn
        return conn.rest_apart(ms)

    cdef Tunnel upgrade(self, const char *p, Head *h, bytes extra):
        cdef Tunnel tunnel = Tunnel()
        tunnel.first = self.conn
        edit_upgrade(&_out, p, h, PyBytes_AS_STRING(extra), <uint32_t>PyBytes_GET_SIZE(extra), self.transaction.id,
                     self.transaction.id_n)
        self.conn.put_soon(_out.p, _out.n)
        self.conn.commit()
        self._enter(C_TUNNEL)
        return tunnel

    cdef int give_ahead(self, Tunnel tunnel) except -1:
        if self.held_len:
            tunnel.give_second(self.held + self.held_at, self.held_len)
            self._unhold(self.held_len)
        return 0

    # ---------------------------------------------------------------------------------------------------------- the end

    cdef int over(self) except -1:
        """The response has been written: continue with the next request, or close."""
        cdef ClientConn conn = self.conn
        self.transaction = None
        if self.phase == C_TUNNEL or conn.fd < 0 or self.leaving:
            return 0
        if self.r.close or self.phase == C_BODY:
            return self._say_goodbye()
        self._enter(C_HEAD)
        conn.deadline(self.frontend.idle_ms)
        return self.resume()

    cdef int _say_goodbye(self) except -1:
        """Close after everything has been sent, without a reset that could overtake the response."""
        cdef ClientConn conn = self.conn
        cdef int pause = LINGER_PAUSE_MS
        self.held_short = 0
        conn.commit_last()
        if conn.out_len:
            self._enter(C_FLUSH)
            conn.deadline(self.frontend.idle_ms)
            return 0
        if self.torn:
            if not conn.unacknowledged():
                return conn.reset()
            pause = TORN_PAUSE_MS
        else:
            conn.shutdown()
            if conn.ended and not conn.readable:
                return conn.close()
        self._enter(C_LINGER)
        linger_begin(&self.linger, conn, pause, LINGER_PAUSE_MS, self.held_len)
        if not self.reading:
            self._unhold(self.held_len)
        # The buffer in use must not change: a server's, too, whose answer this ends while more of what was read with it
        # is still being parsed (HTTP/2).
        return conn.poller.turn_over(conn)

    cdef int _discard(self) except -1:
        """Discard further input of the client so that it can read the response (RFC 9112 section 9.6): most clients
        write all their data before they read. A body slower than the minimum rate is not awaited."""
        cdef ClientConn conn = self.conn
        cdef ssize_t got
        cdef int turn = 0
        while conn.fd >= 0 and conn.readable:
            if turn == TURN:
                return conn.poller.turn_over(conn)
            turn += 1
            got = conn.recv(conn.poller.scratch, SCRATCH)
            if got == RECV_AGAIN:
                return 0
            if got == RECV_END and self.torn:
                return 0                # its FIN does not tell how much it has read: the deadline stays
            if got <= 0:
                return conn.close()
            if self.torn:
                continue
            if not linger_goes_on(&self.linger, conn, got, self.frontend.body_rate):
                return conn.close()
        return 0

    cdef bint _body_lost(self) noexcept:
        """Whether the client has sent a FIN before the end of a body of known length: it cannot become complete."""
        cdef int waiting = 0
        if self.r.chunked or ioctl(self.conn.fd, FIONREAD, &waiting) < 0:
            return False
        if self.conn.ssl != NULL and SSL_has_pending(self.conn.ssl):
            waiting += AHEAD            # read from the kernel, but not decrypted; OpenSSL does not report how much
        return <int64_t>waiting + self.held_len < self.r.left

    cdef int _client_left(self) except -1:
        """The client has sent its FIN: end its request, if that waits for more or has waited for long. Answers before
        it may still be on their way, and a socket that is closed with unread input destroys them."""
        cdef Transaction t = self.transaction
        if t is not None:
            self.torn = t.answer_begun() and self._cut_shows_by_reset()
            self.leaving = 1
            t.on_client_left()
        return self._say_goodbye()

    cdef int on_drained(self, Conn conn) except -1:
        if self.phase == C_FLUSH:
            return self._say_goodbye()
        if self.transaction is not None:
            return self.transaction.on_reader_ready()
        if self.phase == C_HEAD:
            conn.deadline(self.frontend.idle_ms)
            return self.resume()
        return 0

    cdef int on_broken(self, Conn conn) except -1:
        if self.transaction is not None:
            self.leaving = 1
            self.transaction.on_client_left()
        return conn.close()

    cdef int on_bug(self, Conn conn) except -1:
        if self.transaction is not None:
            self.leaving = 1
            self.transaction.on_given_up(O_BUG)
        return conn.reset()

    cdef int on_stopped(self, Conn conn) except -1:
        if self.transaction is not None:
            self.leaving = 1
            self.transaction.on_given_up(O_STOPPED)
        return conn.reset() if self.torn else conn.close()

    cdef int on_deadline(self, Conn conn) except -1:
        """Between requests and at the end of the connection; within a request, deadlines belong to the transaction."""
        if self.phase == C_HEAD and not conn.out_len and self.progress.begun:
            return self._refuse(R_TIMEOUT)
        if conn.out_len:
            return conn.reset()
        if self.phase == C_LINGER and linger_waits(&self.linger, conn):
            return 0
        return conn.reset() if self.torn else conn.close()

    cdef int retire(self, Conn conn) except -1:
        """The worker drains: close now if nothing is in progress, else after the response."""
        if self.phase == C_HEAD and not self.held_len and not conn.out_len and not conn.readable:
            return self._say_goodbye()
        return 0
