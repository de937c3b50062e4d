"""HTTP/2 to servers (RFC 9113): requests of all clients of a worker share a few connections.

    Q_OPENING ── SETTINGS ──► Q_OPEN ── GOAWAY, retired ──► Q_LEAVING ── its last stream ends ──► Q_CLOSED
        └── no HTTP/2, given up ──────┴── a rule broken, a PING unanswered, idle ─────────────────────▲

A Pool has the connections to one server. A request gets a Seat: a place on a connection with room for one more stream,
or on a Dial, a connection that is being opened; a connection counts as connected when the server's SETTINGS are there,
so that nothing has been sent to a server that does not speak HTTP/2. To Attempt and Transaction a Seat is a connection
like any other, and the Http2ServerStream that it opens an Upstream.

libnghttp2 does framing, header compression and flow control, as with clients (http2_client.pyx). Windows carry the
back-pressure: what a client does not take is held here, at most WINDOW bytes for a stream, and the server gets credit
back as the client takes it. The connection's window is opened at once, so a slow client stops its own stream alone.

A WebSocket is a stream by extended CONNECT (RFC 8441) if the server takes that, and a StreamEnd is its end of the
tunnel; otherwise it gets a connection of HTTP/1.1 (Aside), which only TLS can agree on.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport ECONNREFUSED, EPROTO, EPROTONOSUPPORT
from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memchr, memcmp, memcpy, memmove


from gateway.outcome cimport (
    O_BUG, O_HEAD_TOO_LARGE, O_PING_TIMEOUT, O_RESPONSE_CUT, O_RESPONSE_INVALID, O_RESPONSE_TOO_LARGE, O_SERVER_CLOSED,
    O_SERVER_RESET, O_STALE, O_STOPPED, O_STREAM_REFUSED, O_STREAM_RESET, O_TLS_BROKEN, TLS_REASON,
)
from gateway.proxy.conn cimport RECV_AGAIN, RECV_BROKEN, RECV_END, SCRATCH, SENT_ALL, SENT_PART, Conn
from gateway.proxy.http1_server cimport Http1ServerProtocol
from gateway.proxy.http2_fields cimport fields_of, submit_trailers
from gateway.proxy.nghttp2 cimport (
    NG_CANCEL, NG_CONTINUATION, NG_DATA, NG_DATA_FLAG_EOF, NG_DATA_FLAG_NO_END_STREAM, NG_ENHANCE_YOUR_CALM,
    NG_ERR_DEFERRED, NG_ERR_FLOODED, NG_ERR_TEMPORAL_CALLBACK_FAILURE,
    NG_ERR_TOO_MANY_CONTINUATIONS, NG_ERR_WOULDBLOCK, NG_FLAG_ACK, NG_FLAG_END_STREAM, NG_GOAWAY, NG_HEADERS,
    NG_NO_ERROR, NG_PRIORITY, NG_PROTOCOL_ERROR, NG_PUSH_PROMISE, NG_REFUSED_STREAM, NG_RST_STREAM, NG_SETTINGS,
    NG_SETTINGS_ENABLE_CONNECT_PROTOCOL, NG_SETTINGS_ENABLE_PUSH, NG_SETTINGS_INITIAL_WINDOW_SIZE,
    NG_SETTINGS_MAX_CONCURRENT_STREAMS, NG_SETTINGS_MAX_HEADER_LIST_SIZE, Callbacks, ng, ng_callbacks, ng_data_provider,
    ng_data_source, ng_frame, ng_nv, ng_settings_entry, option, raised, registered,
)
from gateway.proxy.openssl cimport SSL_get0_alpn_selected, SSL_set_alpn_protos
from gateway.proxy.server cimport S_BUSY, S_CLOSED, S_CONNECTING
from gateway.proxy.states cimport Machine, edges_of, step
from gateway.proxy.tunnel cimport NO_SOCKET
from gateway.wire.edit cimport (
    FRAME_CHUNKED, FRAME_LENGTH, FRAME_NONE, edit_trailers, out_append, out_free, out_reserve,
)
from gateway.wire.head cimport (
    M_GET, M_HEAD, MAX_FIELDS, R_BODY_LENGTH, R_EARLY_SWITCH, R_FLOOD, R_FRAMES, R_INTERIMS, R_OK, R_STATUS_FIELD,
    R_TOO_LARGE, R_TOO_MANY_FIELDS, R_TRAILERS, Bounds, Head, same_any, scan_response,
)
from gateway.wire.http2_answer cimport answer_clear, answer_end, answer_field, answer_free

from gateway.wire.websocket import accept_of

cdef extern from "<openssl/sslerr.h>" nogil:
    enum:
        SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL

cdef enum:
    TURN = 4                    # consecutive reads before others get their turn
    STREAMS = 100               # at a time on a connection, at most; the server may allow fewer
    WINDOW = 128 * 1024         # bytes of a response that are held for a client that does not take them
    SHARED_WINDOW = 1024 * 1024     # bytes on their way on a connection
    MAX_HEAD = 64 * 1024        # of a response
    MAX_INTERIMS = 16           # 1xx responses to one request
    COLLECTED = 16 * 1024       # bytes that are sent without waiting for more
    UNSENT = 256 * 1024         # bytes composed before checking whether the server takes them
    LAST = 1 << 29              # requests on one connection, whose stream ids are half as many as there are
    BOMB = 8                    # times the limits of a head, in fields or bytes, end the connection
    LARGE = 16 * 1024           # a buffer that has grown beyond this is freed
    MARGIN = 64                 # readable bytes behind a head, which the scan looks at

# The cost of frames to the server's budget: see charge.
cdef enum:
    BUDGET = 10000
    PER_SECOND = 1000           # refill
    EARNED = 2                  # refill for a frame with a part of a body, in either direction
    COST_FRAME = 1              # PING, WINDOW_UPDATE, empty DATA
    COST_SETTINGS = 10
    COST_INVALID = 100          # a frame that the library answers with a reset
    COST_CONTINUATION = 100

cdef int64_t JOIN_NS = 1_000_000_000            # how long others may wait for a connection that is being opened
cdef int64_t ALONE_MS = 10_000                  # how long it may take to open when no request waits for it any more
cdef int64_t BLOCK_NS = 10_000_000_000          # for a whole header block
# gRPC servers end connections with more than two PINGs within 5 minutes between parts of responses
# (GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, GRPC_ARG_HTTP2_MAX_PING_STRIKES of grpc/grpc_types.h).
cdef int64_t PING_MS = 10_000                   # of silence before the first PING
cdef int64_t PING_AGAIN_MS = 310_000            # of silence before further ones

cdef bytes HTTP1 = b"\x08http/1.1"             # alone in ALPN
# In a 101 of ours; the last one has no meaning over HTTP/2 (RFC 8441 section 5).
cdef bytes AGREEMENT = b"HTTP/1.1 101 \r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s"
cdef frozenset NOT_IN_AGREEMENT = frozenset((b"sec-websocket-accept", b"content-length"))

PHASES = ("opening", "open", "leaving", "closed")

cdef Machine _machine
_machine.next[<int>Q_OPENING] = 1 << Q_OPEN | 1 << Q_CLOSED
_machine.next[<int>Q_OPEN] = 1 << Q_LEAVING | 1 << Q_CLOSED
_machine.next[<int>Q_LEAVING] = 1 << Q_CLOSED

# A process works on one head at a time: these need no owner.
cdef Head _scan
cdef Bounds _bounds
_bounds.head = MAX_HEAD
_bounds.fields = MAX_FIELDS
cdef Out _out


def edges():
    """{(phase, next phase): number of transitions in this process} for every possible transition."""
    return edges_of(&_machine, PHASES)


# ------------------------------------------------------------------------------------- what the library calls back with
#
# An exception ends the library's work, because -1 is a failure to it, and is raised when it has returned: see `raised`.

cdef ssize_t _send(ng_session *session, const uint8_t *p, size_t n, int flags, void *owner) except -1:
    cdef Http2Session c = <Http2Session>owner
    if c._full():
        return NG_ERR_WOULDBLOCK
    out_append(&c.out, <const char *>p, n)
    return <ssize_t>n


cdef ssize_t _read_request(ng_session *session, int32_t id, uint8_t *to, size_t n, uint32_t *flags,
                           ng_data_source *source, void *owner) except -1:
    cdef Http2Session c = <Http2Session>owner
    cdef Http2ServerStream s = <Http2ServerStream>source.ptr
    if s.kept.n == 0 and not s.request_ended:
        return NG_ERR_DEFERRED
    n = min(n, <size_t>s.kept.n)
    if n:
        memcpy(to, s.kept.p + s.kept_at, n)
        s.kept_at += <uint32_t>n
        s.kept.n -= <uint32_t>n
        c.budget = min(BUDGET, c.budget + EARNED)
    if s.kept.n == 0:
        if s.request_ended:
            flags[0] = NG_DATA_FLAG_EOF
            if s.trailers is not None:
                flags[0] |= NG_DATA_FLAG_NO_END_STREAM
                submit_trailers(session, id, s.trailers)
        out_free(&s.kept)
    return <ssize_t>n


cdef int _on_begin_frame(ng_session *session, const ng_frame_hd *head, void *owner) except -1:
    cdef Http2Session c = <Http2Session>owner
    return c.on_begun(head)


cdef int _on_begin_headers(ng_session *session, const ng_frame *frame, void *owner) except -1:
    cdef Http2Session c = <Http2Session>owner
    cdef Http2ServerStream s
    c.conn.poller.settle()          # output that refers to the previous block
    answer_clear(&c.block)
    c.block_since = c.conn.poller.now
    s = c.streams.get(frame.hd.stream_id)
    c.block.trailers = s is not None and s.answered
    return 0


cdef int _on_header(ng_session *session, const ng_frame *frame, const uint8_t *name, size_t n,
                    const uint8_t *value, size_t value_n, uint8_t flags, void *owner) except -1:
    cdef Http2Session c = <Http2Session>owner
    if c.ends:
        return NG_ERR_TEMPORAL_CALLBACK_FAILURE
    if c.block.count > BOMB * _bounds.fields or c.block.size > BOMB * _bounds.head:
        c.end_for(R_FLOOD, False)
        return NG_ERR_TEMPORAL_CALLBACK_FAILURE
    return answer_field(&c.block, &_bounds, <const char *>name, n, <const char *>value, value_n)


cdef int _on_frame(ng_session *session, const ng_frame *frame, void *owner) except -1:
    cdef Http2Session c = <Http2Session>owner
    cdef Http2ServerStream s
    cdef bint ended = frame.hd.flags & NG_FLAG_END_STREAM
    if frame.hd.type == NG_HEADERS:
        c.block_since = 0
        s = c.streams.get(frame.hd.stream_id)
        if s is not None and not c.ends:
            c.pinged = 0
            s.on_head(&c.block, ended)
        if c.block.text.capacity > LARGE:
            c.conn.poller.settle()
            answer_free(&c.block)
    elif frame.hd.type == NG_DATA and ended:
        s = c.streams.get(frame.hd.stream_id)
        if s is not None:
            s.on_end()
    elif frame.hd.type == NG_SETTINGS and not frame.hd.flags & NG_FLAG_ACK:
        c.on_settings()
    elif frame.hd.type == NG_GOAWAY:
        c.on_goaway()
    return 0


cdef int _on_sent(ng_session *session, const ng_frame *frame, void *owner) except -1:
    cdef Http2Session c = <Http2Session>owner
    cdef Http2ServerStream s
    if frame.hd.type == NG_HEADERS or frame.hd.type == NG_DATA:
        s = c.streams.get(frame.hd.stream_id)
        if s is not None:
            s.sent = 1
            if frame.hd.flags & NG_FLAG_END_STREAM:
                s.request_sent = 1
    elif frame.hd.type == NG_GOAWAY and frame.goaway.error_code:
        c.end_for(R_FRAMES, True)       # the library sends the reason itself
    return 0


cdef int _on_invalid(ng_session *session, const ng_frame *frame, int error, void *owner) except -1:
    """The library responds to a frame with a reset, or by ending the connection."""
    cdef Http2Session c = <Http2Session>owner
    cdef Http2ServerStream s
    s = c.streams.get(frame.hd.stream_id)
    if s is not None:
        s.invalid = 1
    return c.charge(COST_INVALID)


cdef int _on_chunk(ng_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *owner) except -1:
    cdef Http2Session c = <Http2Session>owner
    cdef Http2ServerStream s
    ng.session_consume_connection(session, n)
    c.budget = min(BUDGET, c.budget + COST_FRAME + EARNED)      # the frame is not empty
    s = c.streams.get(id)
    if s is not None and not c.ends:
        c.pinged = 0
        s.on_data(<const char *>p, n)
    return 0


cdef int _on_close(ng_session *session, int32_t id, uint32_t code, void *owner) except -1:
    """A stream is closed. What follows from that may call the library: it waits until that has returned."""
    cdef Http2Session c = <Http2Session>owner
    cdef Http2ServerStream s
    s = c.streams.pop(id, None)
    if s is not None:
        s.closed = 1
        s.code = code
        c.gone.append(s)
    return 0


cdef Callbacks _those
_those.send = _send
_those.begin_frame = _on_begin_frame
_those.frame = _on_frame
_those.sent = _on_sent
_those.invalid = _on_invalid
_those.begin_headers = _on_begin_headers
_those.header = _on_header
_those.chunk = _on_chunk
_those.close = _on_close
cdef ng_callbacks *_callbacks = registered(&_those)


# ------------------------------------------------------------------------------------------------- heads to the servers

cdef void _field(ng_nv *field, const char *name, size_t n, const char *value, size_t value_n) noexcept:
    field.name = <uint8_t *>name
    field.namelen = n
    field.value = <uint8_t *>value
    field.valuelen = value_n
    field.flags = 0


cdef int _append_behind(Out *out, uint32_t *at, const char *p, size_t n) except -1:
    """Append to a buffer whose content begins `at` a place in it, which becomes its first."""
    if at[0] and out.n:
        memmove(out.p, out.p + at[0], out.n)
    at[0] = 0
    return out_append(out, p, n)


cdef bytes _websocket_key(Work work):
    """The Sec-WebSocket-Key of a request that opens a WebSocket; None: it does not."""
    cdef Transaction t
    if not isinstance(work, Transaction):
        return None
    t = <Transaction>work
    if (t.upgrade.n != 9 or t.method_code != M_GET or t.has_body
            or not same_any(t.head.p + t.upgrade.at, b"websocket", 9)):
        return None
    for line in t.head.p[:t.head.n].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-key":
            return value.strip(b" \t")
    return None


cdef void _leave_out_key(ng_nv *fields, size_t first, size_t *count) noexcept:
    cdef size_t i = first
    while i < count[0]:
        if fields[i].namelen == 17 and memcmp(fields[i].name, b"sec-websocket-key", 17) == 0:
            count[0] -= 1
            memmove(fields + i, fields + i + 1, (count[0] - i) * sizeof(ng_nv))
        else:
            i += 1


cdef ng_nv *_request_fields(Out *head, bint secure, bint connects, size_t *count) except NULL:
    """The fields of a request, from its head as HTTP/1 has it (RFC 9113 section 8.3.1); names become lower case.

    connects: the GET that opens a WebSocket becomes an extended CONNECT (RFC 8441 section 5).
    """
    cdef ng_nv[5] pseudo
    cdef int n = 4
    cdef ng_nv *fields
    cdef char *line = <char *>memchr(head.p, c'\n', head.n) + 1
    cdef char *target = <char *>memchr(head.p, c' ', head.n) + 1
    cdef size_t i
    _field(&pseudo[0], b":method", 7, head.p, target - head.p - 1)
    _field(&pseudo[1], b":scheme", 7, b"https", 5 if secure else 4)
    _field(&pseudo[2], b":path", 5, target, line - 11 - target)     # " HTTP/1.1\r\n" follows
    _field(&pseudo[3], b":authority", 10, b"", 0)
    if connects:
        _field(&pseudo[0], b":method", 7, b"CONNECT", 7)
        _field(&pseudo[4], b":protocol", 9, b"websocket", 9)
        n = 5
    fields = fields_of(line, head.p + head.n - line, pseudo, n, count)
    if connects:
        _leave_out_key(fields, n, count)
    for i in range(n, count[0]):
        if fields[i].namelen == 4 and memcmp(fields[i].name, b"host", 4) == 0:
            fields[3].value = fields[i].value
            fields[3].valuelen = fields[i].valuelen
            count[0] -= 1
            memmove(fields + i, fields + i + 1, (count[0] - i) * sizeof(ng_nv))
            break
    if fields[3].valuelen == 0:
        count[0] -= 1
        memmove(fields + 3, fields + 4, (count[0] - 3) * sizeof(ng_nv))
    return fields


cdef uint64_t _head_size(const ng_nv *fields, size_t count) noexcept nogil:
    """The size of a head as SETTINGS_MAX_HEADER_LIST_SIZE has it (RFC 9113 section 6.5.2), in bytes."""
    cdef uint64_t size = 32 * count
    cdef size_t i
    for i in range(count):
        size += fields[i].namelen + fields[i].valuelen
    return size


# ------------------------------------------------------------------------------------------------------------- a stream

cdef class Http2ServerStream(Upstream):
    def __dealloc__(self):
        free(self.kept.p)
        free(self.held.p)

    def __repr__(self):
        return f"<Http2ServerStream {self.id} of {self.owner!r}>"

    # ------------------------------------------------------------------------------------------------------ the request

    cdef int begin(self, Transaction t) except -1:
        cdef ng_data_provider body
        cdef ng_nv *fields
        cdef size_t count = 0
        cdef Http2Session c = self.owner
        self.transaction = t
        c.idle_ms = t.attempt.backend.idle_ms
        c.response_ms = t.attempt.backend.response_ms
        body.source.ptr = <void *>self
        body.read_callback = _read_request
        if c.websockets:
            self.key = _websocket_key(t)
        fields = _request_fields(&t.upstream_head, c.conn.ssl != NULL, self.key is not None, &count)
        if _head_size(fields, count) > ng.session_get_remote_settings(c.session, NG_SETTINGS_MAX_HEADER_LIST_SIZE):
            # Servers end the whole connection for such a head.
            self.too_large = self.closed = 1
            c.gone.append(self)
            return c.pump()
        self.id = ng.submit_request(c.session, NULL, fields, count,
                                    &body if t.has_body or self.key is not None else NULL, NULL)
        if self.id < 0:
            raise MemoryError
        return c.begun(self)

    cdef int body(self, const char *p, size_t n) except -1:
        if self.closed:
            return 0
        self.keep(p, n)
        ng.session_resume_data(self.owner.session, self.id)
        return self.owner.pump()

    cdef int keep(self, const char *p, size_t n) except -1:
        """Buffer a piece of the request's body until it is framed."""
        return _append_behind(&self.kept, &self.kept_at, p, n)

    cdef int end(self, Out *trailers) except -1:
        if self.closed or self.request_ended or self.key is not None:
            return 0                        # of a WebSocket, the tunnel ends it
        self.request_ended = 1
        if trailers.n:
            _out.n = 0
            edit_trailers(&_out, trailers.p, trailers.n)
            if _out.n:
                self.trailers = _out.p[:_out.n]
        ng.session_resume_data(self.owner.session, self.id)
        return self.owner.pump()

    cdef bint takes(self) noexcept:
        if self.closed or not (self.kept.n or self.owner.conn.out_len):
            return True
        if not self.blocked:
            self.blocked = 1
            self.owner.blocked.append(self)
        return False

    # ------------------------------------------------------------------------------------------------------- the answer

    cdef int on_head(self, AnswerBlock *b, bint ended) except -1:
        """A header block is complete."""
        cdef Transaction t = self.transaction
        cdef int framing, why
        if self.end_of_tunnel is not None:
            return self._reset(NG_PROTOCOL_ERROR)       # RFC 9113 section 8.5: only data may come here
        if t is None:
            return 0
        t.on_server_progress()
        if self.answered:
            if b.reason != R_OK or not ended:
                return self.reject(O_RESPONSE_INVALID, b.reason or R_TRAILERS)
            if b.text.n:
                self.response_trailers = b.text.p[:b.text.n]
            return self.on_end()
        why = answer_end(b, &_bounds, &_scan)
        if why == R_TOO_LARGE or why == R_TOO_MANY_FIELDS:
            return self.reject(O_RESPONSE_TOO_LARGE, 0)
        if why != R_OK:
            return self.reject(O_RESPONSE_INVALID, why)
        if _scan.status < 200:
            self.interims += 1
            if _scan.status == 101 or ended:
                return self.reject(O_RESPONSE_INVALID, R_EARLY_SWITCH if _scan.status == 101 else R_STATUS_FIELD)
            if self.interims > MAX_INTERIMS:
                return self.reject(O_RESPONSE_INVALID, R_INTERIMS)
            return t.on_interim(b.text.p, &_scan)
        if self.key is not None and _scan.status < 300:
            return self._agree(b, ended)
        self.left = _scan.content_length
        if t.method_code == M_HEAD or _scan.status == 204 or _scan.status == 304:
            self.left = -1
            self.bodiless = 1
            framing = FRAME_NONE
        elif ended:
            if self.left > 0:
                return self.reject(O_RESPONSE_INVALID, R_BODY_LENGTH)
            # To a client of HTTP/2 the end comes with the head, as it came here: gRPC's Trailers-Only.
            framing = FRAME_NONE if t.http2 else FRAME_LENGTH
            if not t.http2:
                _scan.content_length = 0
        else:
            framing = FRAME_LENGTH if self.left >= 0 else FRAME_CHUNKED
        # As HTTP/1 has it: what is sent in chunks may end with trailers.
        _scan.chunked = framing == FRAME_CHUNKED
        self.answered = 1
        t.on_answer(b.text.p, &_scan, framing)
        return self.on_end() if ended else 0

    cdef int _agree(self, AnswerBlock *b, bint ended) except -1:
        """The server takes the WebSocket (RFC 8441 section 5): to the transaction it is a 101, as HTTP/1 has it."""
        cdef Transaction t = self.transaction
        cdef bytes head = AGREEMENT % accept_of(self.key)
        cdef int why
        for line in b.text.p[:b.text.n].split(b"\r\n")[1:]:
            if line.partition(b":")[0] not in NOT_IN_AGREEMENT:
                head += b"\r\n" + line        # the last two are empty
        _out.n = 0
        out_append(&_out, head, len(head))
        out_reserve(&_out, MARGIN)
        why = scan_response(_out.p, _out.n, &_scan, &_bounds)
        if why == R_OK:
            why = t.on_upgrade(PyBytes_AS_STRING(head), &_scan, NULL, 0)
        if why != R_OK:
            return self.reject(O_RESPONSE_INVALID, why)
        self.answered = 1
        return self.on_end() if ended else 0

    cdef Conn hand_over(self):
        cdef StreamEnd end = StreamEnd.__new__(StreamEnd)
        end.stream = self
        end.take_slot(self.owner.conn.poller)
        end.fd = NO_SOCKET
        end.readable = 1
        self.end_of_tunnel = end
        self.transaction = None
        return end

    cdef int _wake_tunnel(self) except -1:
        """Let the tunnel see what has come, or that nothing will, after this event."""
        self.end_of_tunnel.readable = 1
        return self.owner.conn.poller.turn_over(self.end_of_tunnel)

    cdef int on_data(self, const char *p, size_t n) except -1:
        """A part of the body has come."""
        cdef Transaction t = self.transaction
        if self.end_of_tunnel is not None:
            self.hold(p, n)
            return self._wake_tunnel()
        if t is None:
            return 0
        t.on_server_progress()
        if not self.answered or self.bodiless:
            return self.reject(O_RESPONSE_INVALID, R_BODY_LENGTH if self.answered else R_FRAMES)
        if self.left >= 0:
            if <int64_t>n > self.left:
                return self.reject(O_RESPONSE_INVALID, R_BODY_LENGTH)
            self.left -= n
        if self.held.n or not t.takes_answer():
            return self.hold(p, n)
        t.on_answer_body(p, n)
        ng.session_consume_stream(self.owner.session, self.id, n)
        return 0

    cdef int hold(self, const char *p, size_t n) except -1:
        """Buffer a piece of the response until the client takes it. The window limits the amount."""
        return _append_behind(&self.held, &self.held_at, p, n)

    cdef int on_end(self) except -1:
        """The server has sent the whole response."""
        if self.end_of_tunnel is not None:
            self.response_ended = 1
            return self._wake_tunnel()
        if self.transaction is None:
            return 0
        if not self.answered:
            return self.reject(O_RESPONSE_INVALID, R_FRAMES)
        if self.left > 0:
            return self.reject(O_RESPONSE_INVALID, R_BODY_LENGTH)
        self.response_ended = 1
        return 0 if self.held.n else self._finish()

    cdef int feed(self, bint all_of_it) except -1:
        """Pass on what is held, as far as the client takes it, or without asking."""
        cdef Transaction t = self.transaction
        cdef size_t n
        while self.held.n and t is not None and self.transaction is t:
            n = self.held.n
            if not all_of_it:
                if not t.takes_answer():
                    return 0
                n = min(n, t.answer_room(t.downstream.room))
            t.on_answer_body(self.held.p + self.held_at, n)
            self.owner.conn.poller.settle()     # before the bytes are moved or freed
            self.held_at += <uint32_t>n
            self.held.n -= <uint32_t>n
            if not self.closed:
                ng.session_consume_stream(self.owner.session, self.id, n)
        if self.held.n == 0 and self.held.p != NULL:
            out_free(&self.held)
        if t is not None and self.transaction is t and self.response_ended:
            return self._finish()
        return 0

    cdef int resume(self) except -1:
        if self.held.n and not self.wanting:
            self.wanting = 1
            self.owner.wanting.append(self)
            self.owner.conn.poller.turn_over(self.owner.conn)
        return 0

    # ---------------------------------------------------------------------------------------------------------- the end

    cdef int _finish(self) except -1:
        cdef Transaction t = self.transaction
        self.transaction = None
        self.owner.unread.discard(self)
        if self.response_trailers is not None:
            t.on_answer_trailers(PyBytes_AS_STRING(self.response_trailers), PyBytes_GET_SIZE(self.response_trailers))
        t.on_answer_end()
        # A server may answer before it has the whole request (RFC 9113 section 8.1).
        return 0 if self.request_sent else self._reset(NG_CANCEL)

    cdef int on_close(self) except -1:
        """The stream has been closed, by the server or by libnghttp2, or because both sides have ended it."""
        cdef Transaction t
        if self.end_of_tunnel is not None:
            return self._wake_tunnel()
        if self.transaction is None:
            return 0
        if self.too_large:
            t = self.transaction
            self.transaction = None
            return t.on_failure(O_HEAD_TOO_LARGE, 0)
        if self.response_ended:
            self.owner.unread.add(self)
            return 0
        if self.invalid:
            return self.lost(O_RESPONSE_INVALID, R_FRAMES)
        if self.code == NG_REFUSED_STREAM and not self.answered:
            return self.lost(O_STREAM_REFUSED, 0 if self.owner.phase != Q_OPEN else NG_REFUSED_STREAM)
        return self.lost(O_STREAM_RESET, self.code)

    cdef int lost(self, int outcome, int64_t detail) except -1:
        """Nothing more will come."""
        cdef Transaction t = self.transaction
        if self.end_of_tunnel is not None:
            return self._wake_tunnel()
        if t is None:
            return 0
        if self.answered:
            self.feed(True)
            if self.transaction is not t:
                return 0
            if outcome != O_RESPONSE_INVALID and outcome != O_STOPPED:
                outcome, detail = O_RESPONSE_CUT, self.left
        elif not self.sent and not self.invalid:
            outcome, detail = O_STREAM_REFUSED, 0
        elif (outcome == O_SERVER_CLOSED or outcome == O_SERVER_RESET) and (
                self.owner.served > 1 and self.heard == self.owner.pieces):
            outcome = O_STALE
        self.transaction = None
        return t.on_failure(outcome, detail)

    cdef int reject(self, int outcome, int64_t detail) except -1:
        """The response is malformed (RFC 9113 section 8.1.1), or too large."""
        cdef Transaction t = self.transaction
        self._reset(NG_PROTOCOL_ERROR)
        if self.answered:
            self.feed(True)                 # what came before is valid
            if self.transaction is not t:
                return 0
        self.transaction = None
        return t.on_failure(outcome, detail)

    cdef int _reset(self, uint32_t code) except -1:
        if self.closed:
            return 0
        ng.submit_rst_stream(self.owner.session, 0, self.id, code)
        return self.owner.pump()

    cdef int abort(self) except -1:
        self.transaction = None
        self.owner.unread.discard(self)
        return self._reset(NG_CANCEL)


# --------------------------------------------------------------------------------------------------------- a connection

cdef class Http2Session(Handler):
    def __dealloc__(self):
        if self.session != NULL:
            ng.session_del(self.session)
        free(self.out.p)
        answer_free(&self.block)

    def __repr__(self):
        return f"<Http2Session {PHASES[self.phase]} {len(self.streams)} requests {self.conn!r}>"

    cdef int start(self) except -1:
        """Send the client's preface."""
        cdef ng_settings_entry settings[3]
        self.streams = {}
        self.gone = []
        self.unread = set()
        self.wanting = []
        self.blocked = []
        self.limit = STREAMS
        self.budget = BUDGET
        self.budget_at = self.heard = self.conn.poller.now
        if ng.session_client_new2(&self.session, _callbacks, <void *>self, option):
            raise MemoryError
        settings[0].settings_id = NG_SETTINGS_ENABLE_PUSH
        settings[0].value = 0
        settings[1].settings_id = NG_SETTINGS_INITIAL_WINDOW_SIZE
        settings[1].value = WINDOW
        settings[2].settings_id = NG_SETTINGS_MAX_HEADER_LIST_SIZE
        settings[2].value = MAX_HEAD
        ng.submit_settings(self.session, 0, settings, 3)
        ng.session_set_local_window_size(self.session, 0, 0, SHARED_WINDOW)
        return self.pump()

    cdef int _enter(self, int phase) except -1:
        if not step(&_machine, self.phase, phase):
            raise RuntimeError(f"a connection that is {PHASES[self.phase]} can't become {PHASES[phase]}")
        self.phase = phase
        return 0

    cdef bint has_room(self) noexcept:
        """Whether it takes one more request."""
        return (self.phase == Q_OPEN and not self.ends and self.served < LAST
                and <uint32_t>len(self.streams) < self.limit)

    cdef Http2ServerStream stream(self):
        """A new one, which begins with its request."""
        cdef Http2ServerStream s = Http2ServerStream.__new__(Http2ServerStream)
        s.owner = self
        s.left = -1
        s.heard = self.pieces
        return s

    cdef int begun(self, Http2ServerStream s) except -1:
        """A request has been submitted."""
        self.streams[s.id] = s
        self.served += 1
        if len(self.streams) == 1:
            self.heard = self.conn.poller.now
            self.pinged = 0
            self._set_deadline()
        return self.pump()

    # ---------------------------------------------------------------------------------------------------------- reading

    cdef int on_input(self, Conn conn) except -1:
        if self.out.n:
            self._flush()
        wanting, self.wanting = self.wanting, []
        for s in wanting:
            (<Http2ServerStream>s).wanting = 0
            (<Http2ServerStream>s).feed(False)
        if wanting:
            self.pump()
        self._read()
        return self._after()

    cdef int _read(self) except -1:
        cdef ServerConn conn = self.conn
        cdef ssize_t got
        cdef int turn = 0
        while conn.fd >= 0 and conn.readable and not self.ends:
            if turn == TURN:
                return conn.poller.turn_over(conn)
            turn += 1
            got = conn.recv(conn.poller.scratch, SCRATCH)
            if got == RECV_AGAIN:
                return 0
            if got > 0:
                self.take(conn.poller.scratch, got)
            elif got == RECV_BROKEN and conn.tls_error:
                return self.end(O_TLS_BROKEN, conn.tls_error, conn.tls_error)
            else:
                return self.end(O_SERVER_RESET if got == RECV_BROKEN else O_SERVER_CLOSED, 0, EPROTO)
        return 0

    cdef int take(self, const char *p, size_t n) except -1:
        """Process input."""
        cdef ssize_t used
        self.pieces += 1
        self.heard = self.conn.poller.now
        self.busy = 1
        used = ng.session_mem_recv(self.session, <const uint8_t *>p, n)
        self.busy = 0
        raised()
        self.conn.poller.settle()           # output that refers to these bytes
        if used == NG_ERR_TOO_MANY_CONTINUATIONS or used == NG_ERR_FLOODED:
            self.end_for(R_FLOOD, False)
        elif used < 0:
            self.end_for(R_FRAMES, False)
        return self.pump()

    cdef int on_settings(self) except -1:
        cdef uint32_t most = ng.session_get_remote_settings(self.session, NG_SETTINGS_MAX_CONCURRENT_STREAMS)
        self.limit = min(<uint32_t>STREAMS, most)
        self.websockets = ng.session_get_remote_settings(self.session, NG_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1
        if self.limit:
            self.greeted = 1
        return 0

    cdef int _open(self) except -1:
        """The server speaks HTTP/2: requests may go."""
        cdef Dial dial = self.dial
        self._enter(Q_OPEN)
        self.dial = None
        self.pool.http1 = False
        self.pool.limit = self.limit
        self.pool.sessions.append(self)
        self._set_deadline()
        # Those that have waited get their places first: another connection to a server that has left the site file, or
        # that says GOAWAY with its SETTINGS, would be no better. What it does not take is tried elsewhere.
        dial.hand_out()
        return self.retire_soon() if (self.pool.gone or self.farewell) and self.phase == Q_OPEN else 0

    cdef int on_goaway(self) except -1:
        """The server takes no more requests on this connection (RFC 9113 section 6.8). libnghttp2 closes those that it
        has not processed."""
        self.farewell = 1
        return self.retire_soon()

    cdef int retire_soon(self) except -1:
        """Take no more requests, and close when those that are running have ended."""
        if self.phase == Q_OPEN:
            self._enter(Q_LEAVING)
            self.pool.sessions.remove(self)
        self.conn.poller.turn_over(self.conn)
        return 0

    # ------------------------------------------------------------------------------------------------------------ abuse

    cdef int on_begun(self, const ng_frame_hd *head) except -1:
        """A frame has begun: charge the server for frames that cost work and answer nothing."""
        cdef int kind = head.type
        if (kind == NG_HEADERS or kind == NG_RST_STREAM) and head.stream_id in self.streams:
            return 0                        # at most a few for each request; of streams that are over there is no end
        # The library accepts PRIORITY on stream 0 (section 6.3), and PUSH_PROMISE before its SETTINGS are acknowledged.
        if kind == NG_PUSH_PROMISE or (kind == NG_PRIORITY and head.stream_id == 0):
            return self.end_for(R_FRAMES, False)
        if kind == NG_CONTINUATION:
            return self.charge(COST_CONTINUATION)
        return self.charge(COST_SETTINGS if kind == NG_SETTINGS else COST_FRAME)

    cdef int charge(self, int cost) except -1:
        """Take `cost` from the server's budget, which refills with time and with bodies in both directions; the
        connection ends when it is used up."""
        cdef int64_t back = (self.conn.poller.now - self.budget_at) * PER_SECOND // 1000000000
        if back > 0:
            self.budget = <int>min(<int64_t>BUDGET, self.budget + back)
            self.budget_at = self.conn.poller.now
        self.budget -= cost
        return self.end_for(R_FLOOD, False) if self.budget < 0 else 0

    cdef int end_for(self, int why, bint said) except -1:
        """The server has broken a rule: end the connection, and say so unless that was `said`."""
        if self.ends:
            return 0
        self.ends = 1
        self.why = why
        if not said:
            ng.session_terminate_session(
                self.session, NG_ENHANCE_YOUR_CALM if why == R_FLOOD else NG_PROTOCOL_ERROR)
        return self.conn.poller.turn_over(self.conn)

    # ---------------------------------------------------------------------------------------------------------- sending

    cdef int pump(self) except -1:
        """Send all possible output: requests as far as windows allow, and the library's frames."""
        cdef int failed
        if self.busy or self.conn.fd < 0:
            return 0
        self.busy = 1
        failed = ng.session_send(self.session)
        self.busy = 0
        raised()
        if failed:
            self.end_for(R_FRAMES, True)
        if self.out.n >= COLLECTED:
            self._flush()
        if self.out.n or self.gone:
            self.conn.poller.turn_over(self.conn)
        if self.blocked and not self.conn.out_len:
            self._wake_blocked()
        return 0

    cdef bint _full(self) except -1:
        """Whether the server takes no more data for now."""
        if self.out.n > UNSENT:
            self._flush()
        return self.conn.out_len != 0 or self.deaf

    cdef int _flush(self) except -1:
        """Send the collected frames."""
        self.conn.put(self.out.p, self.out.n)
        self.conn.commit()
        self.out.n = 0
        if self.out.capacity > LARGE:
            out_free(&self.out)
        return 0

    cdef int _wake_blocked(self) except -1:
        """Let transactions go on whose servers take data again."""
        cdef Http2ServerStream s
        blocked, self.blocked = self.blocked, []
        for s in blocked:
            if s.kept.n and not s.closed:
                self.blocked.append(s)
                continue
            s.blocked = 0
            if s.transaction is not None:
                s.transaction.on_server_ready()
            elif s.end_of_tunnel is not None:
                s.end_of_tunnel.out_len = 0
                s.end_of_tunnel.handler.on_drained(s.end_of_tunnel)
        return 0

    cdef int on_drained(self, Conn conn) except -1:
        self.pump()
        return self._after()

    cdef int on_send_failed(self, Conn conn) except -1:
        """The server takes no more data. It may have sent responses before: read them."""
        self.deaf = 1
        conn.out_len = 0
        conn.readable = conn.wire_readable = 1
        return conn.poller.turn_over(conn)

    # ---------------------------------------------------------------------------------------------------------- the end

    cdef int _set_deadline(self) except -1:
        """For a connection without requests, or for the next look at whether the server is alive."""
        cdef int64_t silent = (self.conn.poller.now - self.heard) // 1000000
        if not self.streams:
            self.conn.deadline(self.idle_ms or 60_000)
        elif self.pinged > self.heard:
            self.conn.deadline(self._patience())
        else:
            self.conn.deadline(max(0, (PING_AGAIN_MS if self.pinged else self._patience()) - silent))
        return 0

    cdef int64_t _patience(self) noexcept:
        """How long the server may be silent: less than the request that has waited the longest would wait for it."""
        return min(PING_MS, max(1, self.response_ms // 3))

    cdef int on_deadline(self, Conn conn) except -1:
        cdef int64_t now = conn.poller.now
        if self.phase == Q_OPENING:
            return 0                        # the requests that wait for it have deadlines of their own
        if not self.streams:
            return self._goodbye()
        if self.block_since and now - self.block_since > BLOCK_NS:
            self.end_for(R_FRAMES, False)
            self.pump()
            return self._after()
        if self.pinged > self.heard:
            if now - self.pinged >= self._patience() * 1000000:
                return self.end(O_PING_TIMEOUT, 0, EPROTO)
        elif now - self.heard >= (PING_AGAIN_MS if self.pinged else self._patience()) * 1000000:
            self.pinged = now
            ng.submit_ping(self.session, 0, NULL)
            self.pump()
        return self._set_deadline()

    cdef int _after(self) except -1:
        """What can only be done when the library is not running."""
        cdef Http2ServerStream s
        while self.gone:
            gone, self.gone = self.gone, []
            for s in gone:
                s.on_close()
            if not self.streams and self.phase == Q_OPEN:
                self._set_deadline()
        if self.phase == Q_CLOSED:
            return 0
        if self.ends:
            return self.end(O_RESPONSE_INVALID, self.why, EPROTO)
        if self.phase == Q_OPENING and self.greeted:
            self._open()
        if self.phase == Q_OPENING and self.farewell:
            return self.end(O_SERVER_CLOSED, 0, ECONNREFUSED)       # it has not allowed one request
        if self.phase == Q_LEAVING and not self.streams:
            return self._goodbye()
        return 0

    cdef int _goodbye(self) except -1:
        """Nothing is in progress: close, with a GOAWAY."""
        ng.session_terminate_session(self.session, NG_NO_ERROR)
        self.pump()
        return self.end(O_SERVER_CLOSED, 0, EPROTO)

    cdef int end(self, int outcome, int64_t detail, int error) except -1:
        """Close the connection: the requests on it end with `outcome`; `error`: if it has not been open yet."""
        cdef ServerConn conn = self.conn
        cdef Http2ServerStream s
        cdef Dial dial = self.dial
        cdef list streams
        if self.phase == Q_CLOSED:
            return 0
        if self.phase == Q_OPEN:
            self.pool.sessions.remove(self)
        self._enter(Q_CLOSED)
        if self.out.n and not self.deaf:
            self._flush()
        if conn.ssl != NULL:
            conn.shutdown()                 # with a close_notify
        if conn.unacknowledged() and outcome == O_PING_TIMEOUT:
            conn.reset()
        else:
            conn.close()
        self.dial = None
        # What clients have not taken of complete responses goes to them now: nothing wakes their streams later.
        streams = self.gone + list(self.streams.values()) + list(self.unread)
        self.gone = []
        self.streams.clear()
        for s in streams:
            if s.closed:
                s.on_close()
            s.closed = 1
            if s.response_ended:
                s.feed(True)
            s.lost(outcome, detail)
        if dial is not None:
            dial.fail(error)
        return 0

    cdef int on_broken(self, Conn conn) except -1:
        return self.end(O_SERVER_RESET, 0, EPROTO)

    cdef int on_bug(self, Conn conn) except -1:
        self.busy = 0
        return self.end(O_BUG, 0, EPROTO)

    cdef int on_stopped(self, Conn conn) except -1:
        """The worker ends; the clients' connections end the requests."""
        if self.phase != Q_CLOSED and not self.ends:
            ng.session_terminate_session(self.session, NG_NO_ERROR)
            self.pump()
            if self.out.n:
                self._flush()
        return 0


# ------------------------------------------------------------------------------------------------------- WebSockets

cdef class StreamEnd(Conn):
    def __dealloc__(self):
        self.fd = -1                    # before Conn would close it

    def __repr__(self):
        return f"<StreamEnd of {self.stream!r}>"

    cdef ssize_t recv(self, char *to, size_t n) except? -9:
        cdef Http2ServerStream s = self.stream
        if self.poller.composer != NULL:
            self.poller.settle()
        if self.fd < 0:
            return RECV_BROKEN
        n = min(n, <size_t>s.held.n)
        if n == 0:
            self.readable = 0
            if s.response_ended:
                self.ended = 1
                return RECV_END
            return RECV_BROKEN if s.closed else RECV_AGAIN
        memcpy(to, s.held.p + s.held_at, n)
        s.held_at += <uint32_t>n
        s.held.n -= <uint32_t>n
        if s.held.n == 0:
            out_free(&s.held)
        if not s.closed:
            ng.session_consume_stream(s.owner.session, s.id, n)
            s.owner.pump()
        return n

    cdef int put(self, const char *p, size_t n) except -1:
        """Copy the bytes: they are framed as windows allow."""
        if n == 0 or self.fd < 0 or self.stream.closed:
            return 0
        return self.stream.keep(p, n)

    cdef int commit(self) except -1:
        cdef Http2ServerStream s = self.stream
        if self.fd < 0 or s.closed:
            return SENT_ALL             # a server that has ended both directions reads nothing more
        ng.session_resume_data(s.owner.session, s.id)
        s.owner.pump()
        self.out_len = s.kept.n + (s.owner.conn.out_len != 0)
        if self.out_len == 0:
            return SENT_ALL
        if not s.blocked:
            s.blocked = 1
            s.owner.blocked.append(s)
        return SENT_PART

    cdef int shutdown(self) except -1:
        """The client has sent its last byte: so it is on the stream."""
        cdef Http2ServerStream s = self.stream
        if self.fd < 0 or self.finished:
            return 0
        self.finished = 1
        if s.closed:
            return 0
        s.request_ended = 1
        ng.session_resume_data(s.owner.session, s.id)
        return s.owner.pump()

    cdef int close(self) except -1:
        """End the stream, with a reset unless both sides have ended it (RFC 8441 section 5)."""
        cdef Http2ServerStream s = self.stream
        if self.fd < 0:
            return 0
        self.fd = -1
        self.drop_slot()
        self.poller.bury(self)
        self.out_len = 0
        self.stream = None
        s.end_of_tunnel = None
        out_free(&s.held)
        return 0 if s.request_ended and s.response_ended else s._reset(NG_CANCEL)

    cdef int reset(self) except -1:
        return self.close()

    cdef int64_t unacknowledged(self) noexcept:
        return self.out_len


# --------------------------------------------------------------------------------- connections shared, and being opened

cdef bint _agreed(ServerConn conn) noexcept:
    """Whether HTTP/2 was agreed on (ALPN); without TLS it is known before."""
    return conn.ssl == NULL or _chosen(conn, b"h2", 2)


cdef bint _chosen(ServerConn conn, const char *protocol, unsigned int length) noexcept:
    """Whether the server has chosen this protocol (RFC 7301)."""
    cdef const unsigned char *name = NULL
    cdef unsigned int n = 0
    SSL_get0_alpn_selected(conn.ssl, &name, &n)
    return n == length and memcmp(name, protocol, n) == 0


cdef Http2Session _session_on(ServerConn conn, Pool pool):
    cdef Http2Session session = Http2Session.__new__(Http2Session)
    session.conn = conn
    session.pool = pool
    conn.handler = session
    session.start()
    return session


cdef class Seat(ServerConn):
    def __repr__(self):
        return f"<Seat at {self.server.backend}/{self.server.name}>"

    cdef int take_place(self, Http2Session session) except -1:
        """Tell the request that it may go, on `session`."""
        cdef Work work = self.work
        self.work = None
        self.dial = None
        self.session = session
        self.state = S_BUSY
        return work.on_connected(self)

    cdef int close(self) except -1:
        """The request does not wait any more."""
        cdef Dial dial = self.dial
        cdef ServerConn own = self.own
        self.dial = None
        self.own = None
        self.work = None
        self.state = S_CLOSED
        if dial is not None:
            dial.leave(self)
        return own.close() if own is not None else 0


cdef class Aside(Work):
    cdef bytes server_name(self):
        return self.seat.work.server_name()

    cdef int on_connected(self, Conn conn) except -1:
        cdef Seat seat = self.seat
        cdef Work work = seat.work
        # One that has agreed on HTTP/2 by ALPN does not speak what it does not choose there.
        if not (<Http2TlsServer>seat.server).pool.http1 and not _chosen(<ServerConn>conn, b"http/1.1", 8):
            conn.close()
            return self.on_connect_failed(conn, EPROTONOSUPPORT)
        seat.own = None
        seat.close()
        return work.on_connected(conn)

    cdef int on_connect_failed(self, Conn conn, int error) except -1:
        cdef Seat seat = self.seat
        cdef Work work = seat.work
        seat.own = None
        seat.close()
        if error == -(TLS_REASON + SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL):
            error = EPROTONOSUPPORT     # HTTP/2 is all that it speaks
        return work.on_connect_failed(seat, error)


cdef class Dial(Work):
    cdef bint start(self, Poller poller) except -1:
        """False: it has failed at once; see the server's error."""
        self.began = poller.now
        self.conn = self.pool.plain(poller, self)
        if self.conn is None and not self.turned and Server.turn(self.pool.server, self.pool.server.error):
            self.turned = True
            self.conn = self.pool.plain(poller, self)
        return self.conn is not None

    cdef bytes server_name(self):
        return self.name

    cdef int on_connected(self, Conn conn) except -1:
        if not _agreed(self.conn):
            return self.pool.fall_back(self, self.conn)
        self.session = _session_on(self.conn, self.pool)
        self.session.dial = self
        return 0

    cdef int on_connect_failed(self, Conn conn, int error) except -1:
        if not self.turned and Server.turn(self.pool.server, error):
            self.turned = True
            if self.start(conn.poller):
                return 0
            error = self.pool.server.error
        return self.fail(error)

    cdef int hand_out(self) except -1:
        """The connection is open: give its places to those who wait; for others, open more."""
        cdef Http2Session session = self.session
        cdef Seat seat
        cdef list left = []
        seats, self.seats = self.seats, []
        self.session = None
        self.pool.dials.remove(self)
        for seat in seats:
            if seat.work is None:
                continue
            if not session.websockets and _websocket_key(seat.work) is not None:
                self.pool.step_aside(seat, session.conn.poller)
            elif session.has_room():
                seat.take_place(session)
            else:
                left.append(seat)
        return self.pool.dial_for(left, self.peer, self.name, session.conn.poller) if left else 0

    cdef int fail(self, int error) except -1:
        cdef Work work
        cdef Seat seat
        seats, self.seats = self.seats, []
        self.session = None
        if self in self.pool.dials:
            self.pool.dials.remove(self)
        for seat in seats:
            work = seat.work
            if work is not None:
                seat.dial = None
                seat.close()
                work.on_connect_failed(seat, error)
        return 0

    cdef int leave(self, Seat seat) except -1:
        """A request does not wait any more. If none does, the connection is for the next ones: many requests that are
        cancelled one after the other must not open a connection each."""
        if seat in self.seats:
            self.seats.remove(seat)
            if not self.seats and self.conn is not None:
                if self.slot < 0:
                    self.take_slot(self.conn.poller)
                self.deadline(ALONE_MS)
        return 0

    cdef int on_deadline(self) except -1:
        """It is still not open: without requests it is not needed."""
        if self.seats or self not in self.pool.dials:
            return 0
        self.pool.dials.remove(self)
        if self.session is not None:
            self.session.dial = None
            return self.session.end(O_SERVER_CLOSED, 0, EPROTO)
        return self.conn.close()


cdef class Pool:
    def __init__(self, Server server):
        self.server = server
        self.sessions = []
        self.dials = []
        self.limit = STREAMS

    cdef object peer_of(self, Work work):
        """What tells connections apart: the name that the server is called by, if clients choose it."""
        return (<TlsServer>self.server).peer_of(work) if isinstance(self.server, TlsServer) else None

    cdef ServerConn plain(self, Poller poller, Work work):
        """A connection, for `work`, as without HTTP/2."""
        if isinstance(self.server, TlsServer):
            return TlsServer.connect(<TlsServer>self.server, poller, work)
        return Server.connect(self.server, poller, work)

    cdef Seat borrow(self, Work work):
        """A place on an open connection, or None."""
        cdef Http2Session session
        cdef Seat seat
        cdef object peer
        cdef bint websocket
        if not self.sessions:
            return None
        peer = self.peer_of(work)
        websocket = _websocket_key(work) is not None
        for session in self.sessions:
            if (session.has_room() and (peer is None or session.conn.tls is peer)
                    and (session.websockets or not websocket)):
                seat = Seat.__new__(Seat)
                seat.server = self.server
                seat.session = session
                seat.state = S_BUSY
                self.server.linked.reused += 1
                return seat
        return None

    cdef ServerConn connect(self, Poller poller, Work work):
        """A place on a connection that is being opened; None: it could not even be begun."""
        cdef Dial dial
        cdef Seat seat
        cdef object peer
        cdef bint websocket = _websocket_key(work) is not None
        if self.http1 and not websocket:
            return self.plain(poller, work)
        peer = self.peer_of(work)
        if websocket and (self.http1 or self._takes_no_websockets(peer)):
            seat = Seat.__new__(Seat)
            seat.server = self.server
            seat.work = work
            seat.state = S_CONNECTING
            return seat if self._go_aside(seat, poller) else None
        for dial in self.dials:
            if (dial.peer is peer and <uint32_t>len(dial.seats) < self.limit and poller.now - dial.began < JOIN_NS):
                break
        else:
            dial = Dial()
            dial.pool = self
            dial.peer = peer
            dial.name = work.server_name()
            dial.seats = []
            if not dial.start(poller):
                return None
            self.dials.append(dial)
        seat = Seat.__new__(Seat)
        seat.server = self.server
        seat.work = work
        seat.state = S_CONNECTING
        seat.dial = dial
        dial.seats.append(seat)
        return seat

    cdef bint _takes_no_websockets(self, object peer) noexcept:
        """Whether the server has said so, on all connections that there are."""
        cdef Http2Session session
        cdef bint found = False
        for session in self.sessions:
            if peer is None or session.conn.tls is peer:
                if session.websockets:
                    return False
                found = True
        return found

    cdef bint _go_aside(self, Seat seat, Poller poller) except -1:
        """Begin a connection of HTTP/1.1 for it; False: there can be none, see the server's error."""
        cdef Aside aside
        if not isinstance(self.server, TlsServer):
            self.server.error = EPROTONOSUPPORT
            return False
        aside = Aside.__new__(Aside)
        aside.seat = seat
        seat.own = self.plain(poller, aside)
        if seat.own is None:
            return False
        SSL_set_alpn_protos(seat.own.ssl, <const unsigned char *>PyBytes_AS_STRING(HTTP1),
                            <unsigned int>PyBytes_GET_SIZE(HTTP1))
        return True

    cdef int step_aside(self, Seat seat, Poller poller) except -1:
        """It has waited for a connection that turns out to take no WebSockets."""
        cdef Work work = seat.work
        seat.dial = None
        if self._go_aside(seat, poller):
            return 0
        seat.close()
        return work.on_connect_failed(seat, self.server.error)

    cdef int dial_for(self, list seats, object peer, bytes name, Poller poller) except -1:
        """Open as many connections as these need, by what the server allows on each."""
        cdef Dial dial
        cdef Seat seat
        cdef uint32_t most = max(1, self.limit)
        while seats:
            dial = Dial()
            dial.pool = self
            dial.peer = peer
            dial.name = name
            dial.seats = seats[:most]
            seats = seats[most:]
            for seat in dial.seats:
                seat.dial = dial
            self.dials.append(dial)
            if not dial.start(poller):
                dial.fail(self.server.error)
        return 0

    cdef int fall_back(self, Dial dial, ServerConn conn) except -1:
        """The server has agreed on HTTP/1.1: each request needs a connection of its own."""
        cdef Poller poller = conn.poller
        cdef Work work
        cdef Seat seat
        self.http1 = True
        self.dials.remove(dial)
        seats, dial.seats = dial.seats, []
        for seat in seats:
            work = seat.work
            if work is None:
                continue
            seat.dial = None
            if conn is not None:
                seat.close()
                work.on_connected(conn)
                conn = None
                continue
            if _websocket_key(work) is not None:
                self.step_aside(seat, poller)
                continue
            seat.own = self.plain(poller, work)
            if seat.own is None:
                seat.close()
                work.on_connect_failed(seat, self.server.error)
        return conn.close() if conn is not None else 0

    cdef int retire(self) except -1:
        """The server is no longer in the site file, or the worker drains."""
        cdef Http2Session session
        self.gone = True
        for session in list(self.sessions):
            session.retire_soon()
        return 0


cdef class Http2Server(Server):
    def __init__(self, *args, bint localhost=False, int proxy_version=0):
        Server.__init__(self, *args, localhost=localhost, proxy_version=proxy_version)
        self.pool = Pool(self)

    def retire(self):
        Server.retire(self)
        self.pool.retire()

    cdef bint turn(self, int error) noexcept:
        return False                    # Dial does, once for all that wait

    cdef ServerConn borrow(self, Work work):
        return self.pool.borrow(work)

    cdef ServerConn connect(self, Poller poller, Work work):
        return self.pool.connect(poller, work)


cdef class Http2TlsServer(TlsServer):
    def __init__(self, *args, bint localhost=False, int proxy_version=0):
        TlsServer.__init__(self, *args, localhost=localhost, proxy_version=proxy_version)
        self.pool = Pool(self)

    def retire(self):
        TlsServer.retire(self)
        self.pool.retire()

    cdef bint turn(self, int error) noexcept:
        return not self.pool.dials and self.pool.http1 and Server.turn(self, error)

    cdef ServerConn borrow(self, Work work):
        cdef ServerConn conn = self.pool.borrow(work)
        return conn if conn is not None else TlsServer.borrow(self, work)

    cdef ServerConn connect(self, Poller poller, Work work):
        return self.pool.connect(poller, work)


cdef class Http2ServerProtocol(ServerProtocol):
    def __init__(self):
        self.http1 = Http1ServerProtocol()
        self.may_refuse = True

    cdef object open(self, object conn):
        cdef ServerConn server_conn = <ServerConn>conn
        cdef Http2Session session
        if isinstance(conn, Seat):
            return (<Seat>conn).session.stream()
        if not _agreed(server_conn):
            return self.http1.open(conn)
        # The server spoke HTTP/1 before, and has changed its mind.
        session = _session_on(server_conn, (<Http2TlsServer>server_conn.server).pool)
        session._enter(Q_OPEN)
        session.pool.http1 = False
        session.pool.sessions.append(session)
        return session.stream()
