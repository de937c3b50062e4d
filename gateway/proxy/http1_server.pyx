"""HTTP/1.1 to servers: writes a request, parses one response strictly, keeps the connection only if it is in sync.

    U_NOTHING ── begin ──► U_HEAD ── final head ──► U_BODY ── its end ──► U_NOTHING (the connection rests, or is closed)
                            │  ▲                     │
                            └──┘ 1xx                 │ broken off, timed out, not wanted any more
                            │ 101: a tunnel's        ▼
                            ▼                      closed
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset

from gateway.proxy.chunks cimport put_chunk, put_last_chunk
from gateway.proxy.conn cimport (
    HEAD, RECV_AGAIN, RECV_BROKEN, RECV_FULL, WORTH, Conn,
)
from gateway.outcome cimport (
    O_BUG, O_RESPONSE_CUT, O_RESPONSE_INVALID, O_RESPONSE_TOO_LARGE, O_SERVER_CLOSED, O_SERVER_RESET, O_STALE,
    O_TLS_BROKEN,
)
from gateway.proxy.server cimport P_AUTHENTICATED
from gateway.proxy.transaction cimport Downstream, Transaction
from gateway.wire.authentication cimport binds_answer
from gateway.wire.chunked cimport CHUNK_DATA, CHUNK_END, CHUNK_MORE, CHUNK_TRAILER, chunk_next, chunk_start
from gateway.wire.edit cimport FRAME_CHUNKED, FRAME_CLOSE, FRAME_LENGTH, FRAME_NONE, Out
from gateway.wire.head cimport (
    F_PROXY, F_WWW_AUTHENTICATE, M_HEAD, MAX_FIELDS, R_CHUNK, R_EARLY_SWITCH, R_HEAD_CUT, R_INTERIMS, R_MORE,
    R_NOT_ASKED, R_OK, R_STATUS_LINE, Bounds, Head, find_end, scan_response,
)

cdef enum:
    MAX_HEAD = 64 * 1024    # of a response
    MAX_INTERIMS = 16       # 1xx responses to one request
    TURN = 4                # consecutive reads before others get their turn
    MARGIN = 32             # the scanners read a few bytes beyond the end
    CHALLENGE = 1 << F_WWW_AUTHENTICATE | 1 << F_PROXY

READING = ("no request", "waiting for a head", "within a body")

# A process works on one head at a time: these need no owner.
cdef Head _scan
cdef Bounds _bounds
_bounds.head = MAX_HEAD
_bounds.fields = MAX_FIELDS


cdef class Http1ServerProtocol(ServerProtocol):
    cdef object open(self, object conn):
        cdef Http1Upstream u = Http1Upstream.__new__(Http1Upstream)
        u.conn = <ServerConn>conn
        u.conn.handler = u
        return u


cdef class Http1Upstream(Upstream):
    def __dealloc__(self):
        free(self.partial)

    def __repr__(self):
        return f"<Http1Upstream {READING[self.r.reading]} {self.conn!r}>"

    # ------------------------------------------------------------------------------------------------------ the request

    cdef int begin(self, Transaction t) except -1:
        memset(&self.r, 0, sizeof(self.r))
        self.transaction = t
        self.idle_ms = t.attempt.backend.idle_ms
        self.r.reading = U_HEAD
        self.r.method = t.method_code
        self.r.has_body = t.has_body
        self.r.chunked = t.has_body and t.content_length < 0
        if t.binds:
            self.conn.private = P_AUTHENTICATED
        return self.conn.put(t.upstream_head.p, t.upstream_head.n)

    cdef int body(self, const char *p, size_t n) except -1:
        if self.r.send_failed:
            return 0
        return put_chunk(self.conn, p, n) if self.r.chunked else self.conn.put(p, n)

    cdef int end(self, Out *trailers) except -1:
        self.r.done = 1
        return put_last_chunk(self.conn, trailers) if self.r.chunked and not self.r.send_failed else 0

    cdef bint takes(self) noexcept:
        return not self.conn.out_len and not self.r.send_failed

    cdef Conn splice_target(self):
        return None if self.r.chunked or self.conn.ssl != NULL or self.r.send_failed else self.conn

    cdef int on_drained(self, Conn conn) except -1:
        if self.transaction is None:
            return 0
        return self.transaction.on_server_ready()

    cdef int on_send_failed(self, Conn conn) except -1:
        """The server takes no more data. It may have sent a response before: read that."""
        if self.transaction is not None:
            self.r.send_failed = 1
            self.r.torn = not self.conn.fin
            conn.out_len = 0
            conn.readable = conn.wire_readable = 1
            conn.poller.turn_over(conn)
        return 0

    # ------------------------------------------------------------------------------------------------------- the answer

    cdef int on_input(self, Conn conn) except -1:
        if self.transaction is None:
            return 0                    # the connection is idle
        return self.read()

    cdef int resume(self) except -1:
        if self.conn.readable:
            self.conn.poller.turn_over(self.conn)
        return 0

    cdef int read(self) except -1:
        """Read and report while there is data and the client takes it.

        Ownership of the bytes: the scratch buffer or `partial` until _input returns; output that refers to them is
        committed before either is read into again.
        """
        cdef ServerConn conn = self.conn
        cdef Transaction t = self.transaction
        cdef Conn target
        cdef ssize_t got
        cdef int turn = 0
        while conn.fd >= 0 and conn.readable and self.transaction is t:
            if not t.takes_answer():
                return 0
            if turn == TURN:
                return conn.poller.turn_over(conn)
            turn += 1
            if self.partial_len:
                got = conn.recv(self.partial + self.partial_len, MAX_HEAD + MARGIN // 2 - self.partial_len)
                if got > 0:
                    self.partial_len += <uint32_t>got
                    t.on_server_progress()
                    self._input(self.partial, self.partial_len)
                    continue
            else:
                target = None
                if (self.r.reading == U_BODY and self.r.framing == FRAME_LENGTH and self.r.left > WORTH
                        and conn.ssl == NULL and t.bandwidth == 0):
                    target = t.downstream.splice_target()
                if target is not None:
                    got = target.relay(conn, self.r.left)
                    if got > 0:
                        self.r.left -= got
                        t.on_server_progress()
                        t.on_answer_spliced(got)
                        continue
                    if got == RECV_FULL:
                        continue        # earlier output has not been taken: t.takes_answer returns False
                else:
                    got = conn.recv(conn.poller.scratch,
                                    t.answer_room(HEAD if self.r.reading == U_HEAD else t.downstream.room))
                    if got > 0:
                        t.on_server_progress()
                        self._input(conn.poller.scratch, got)
                        continue
            if got == RECV_AGAIN:
                return 0
            if self.r.reading == U_BODY:
                if self.r.framing == FRAME_CLOSE and got != RECV_BROKEN and not self.r.torn and not conn.truncated:
                    return self._end(0)
                return self._fail(O_RESPONSE_CUT, self.r.left if self.r.framing == FRAME_LENGTH else -1)
            if got == RECV_BROKEN and conn.tls_error:
                return self._fail(O_TLS_BROKEN, conn.tls_error)
            if self.partial_len:
                return self._fail(O_RESPONSE_INVALID, R_HEAD_CUT)
            if conn.served:
                return self._fail(O_STALE, 0)
            return self._fail(O_SERVER_RESET if got == RECV_BROKEN else O_SERVER_CLOSED, 0)
        return 0

    cdef int _input(self, const char *p, size_t n) except -1:
        cdef Transaction t = self.transaction
        cdef size_t used, at = 0
        while at < n:
            used = 0
            if self.r.reading == U_HEAD:
                self._head(p + at, n - at, &used)
                if self.transaction is not t:
                    return 0
                if used == 0:
                    return self._keep_partial(p + at, n - at)
            else:
                self._body(p + at, n - at, &used)
                if self.transaction is not t:
                    return 0
            at += used
        return self._free_partial()

    cdef int _keep_partial(self, const char *p, size_t n) except -1:
        """Keep an incomplete head of n bytes at p, which may lie in the same buffer."""
        if n >= MAX_HEAD:
            return self._fail(O_RESPONSE_TOO_LARGE, 0)
        self.conn.poller.settle()       # an interim response in that buffer may be part of the composed write
        if self.partial == NULL:
            self.partial = <char *>malloc(MAX_HEAD + MARGIN)
            if self.partial == NULL:
                raise MemoryError
            memcpy(self.partial, p, n)
        elif p != self.partial:
            memmove(self.partial, p, n)
        self.partial_len = <uint32_t>n
        return 0

    cdef int _free_partial(self) except -1:
        if self.partial != NULL:
            self.conn.poller.settle()   # output that refers to it
            free(self.partial)
            self.partial = NULL
            self.partial_len = 0
        return 0

    cdef int _head(self, const char *p, size_t n, size_t *used) except -1:
        cdef Transaction t = self.transaction
        cdef ServerConn conn = self.conn
        cdef uint32_t end = 0
        cdef int framing, why = find_end(p, <uint32_t>n, &self.r.seen, &end)
        if why == R_MORE:
            if memcmp(p, b"HTTP/1.", min(n, <size_t>7)) != 0:
                return self._fail(O_RESPONSE_INVALID, R_STATUS_LINE)    # whatever follows
            return 0
        if why == R_OK and end > MAX_HEAD:
            return self._fail(O_RESPONSE_TOO_LARGE, 0)
        if why == R_OK:
            why = scan_response(p, end, &_scan, &_bounds)
        if why != R_OK:
            return self._fail(O_RESPONSE_INVALID, why)
        self.r.seen = 0
        if _scan.status < 200:
            if _scan.status == 101:
                used[0] = n
                if not self.r.done:
                    return self._fail(O_RESPONSE_INVALID, R_EARLY_SWITCH)
                why = R_NOT_ASKED
                if _scan.upgrade and not _scan.chunked and _scan.content_length <= 0:
                    why = t.on_upgrade(p, &_scan, p + end, n - end)
                return self._fail(O_RESPONSE_INVALID, why) if why != R_OK else 0
            self.r.interims += 1
            if self.r.interims > MAX_INTERIMS:
                return self._fail(O_RESPONSE_INVALID, R_INTERIMS)
            used[0] = end
            return t.on_interim(p, &_scan)
        if self.r.method == M_HEAD or _scan.status == 204 or _scan.status == 304:
            framing = FRAME_NONE
        elif _scan.chunked:
            framing = FRAME_CHUNKED
            chunk_start(&self.r.decoder, True)
        elif _scan.content_length >= 0:
            framing = FRAME_LENGTH
            self.r.left = _scan.content_length
        else:
            framing = FRAME_CLOSE
        if _scan.kinds & CHALLENGE and binds_answer(p, &_scan):
            conn.private = P_AUTHENTICATED
        used[0] = end
        self.r.framing = framing
        self.r.keep = _scan.keep_alive and framing != FRAME_CLOSE
        self.r.reading = U_BODY
        t.on_answer(p, &_scan, framing)
        if self.transaction is t and (framing == FRAME_NONE or (framing == FRAME_LENGTH and self.r.left == 0)):
            self._end(n - end)
        return 0

    cdef int _body(self, const char *p, size_t n, size_t *used) except -1:
        cdef Transaction t = self.transaction
        cdef const char *at = p
        cdef const char *data = NULL
        cdef size_t run = n
        cdef int event
        if self.r.framing == FRAME_LENGTH:
            if <int64_t>run > self.r.left:
                run = self.r.left
            self.r.left -= run
            used[0] = run
            t.on_answer_body(p, run)
            if self.r.left == 0 and self.transaction is t:
                self._end(n - run)
            return 0
        used[0] = n
        if self.r.framing == FRAME_CLOSE:
            return t.on_answer_body(p, n)
        while self.transaction is t:
            event = chunk_next(&self.r.decoder, &at, p + n, &data, &run)
            if event == CHUNK_DATA:
                t.on_answer_body(data, run)
            elif event == CHUNK_TRAILER:
                t.on_answer_trailers(data, run)
            elif event == CHUNK_MORE:
                return 0
            elif event == CHUNK_END:
                return self._end(p + n - at)
            else:
                # The data up to here is valid; the client gets it, and then sees that the rest is missing.
                self.conn.poller.settle()
                return self._fail(O_RESPONSE_INVALID, R_CHUNK)
        return 0

    # ---------------------------------------------------------------------------------------------------------- the end

    cdef int _end(self, size_t excess) except -1:
        """The response is complete; `excess` bytes followed it."""
        cdef ServerConn conn = self.conn
        cdef Transaction t = self.transaction
        cdef Downstream client = t.downstream
        # A server that has responded before it took the whole request may close instead of reading the rest.
        cdef bint good = (self.r.keep and self.r.done and not self.r.send_failed and excess == 0 and not conn.ended
                          and not conn.readable and conn.out_len == 0
                          and (not self.r.has_body or conn.unacknowledged() == 0))
        self.transaction = None
        self.r.reading = U_NOTHING
        t.on_answer_end()
        self._free_partial()
        if conn.served < 255:
            conn.served += 1
        if good:
            return client.keep(conn, self.idle_ms) if conn.private else conn.rest(self.idle_ms)
        if conn.ssl != NULL:
            conn.shutdown()             # with a close_notify
        return conn.close()

    cdef int _fail(self, int outcome, int64_t detail) except -1:
        cdef Transaction t = self.transaction
        self.transaction = None
        self._drop()
        return t.on_failure(outcome, detail)

    cdef int abort(self) except -1:
        self.transaction = None
        return self._drop()

    cdef int _drop(self) except -1:
        """Close. Data that the server has not taken must not wait in the kernel until it reads, which may be never:
        then close with a reset."""
        self.r.reading = U_NOTHING
        return self.conn.reset() if self.conn.unacknowledged() else self.conn.close()

    cdef int on_broken(self, Conn conn) except -1:
        return self.on_bug(conn)        # reading would report the reset

    cdef int on_bug(self, Conn conn) except -1:
        if self.transaction is not None:
            return self._fail(O_BUG, 0)
        return conn.close()

    cdef Conn hand_over(self):
        self.transaction = None
        self.r.reading = U_NOTHING
        return self.conn
