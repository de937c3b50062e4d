"""HTTP/2 from clients (RFC 9113): each stream is a request, and a Downstream of its own.

    H_OPEN ── draining ──► H_LEAVING ── a moment later ──► H_LAST ── its last stream ends ──► H_FLUSH ── sent ──┐
       │      GOAWAY that refuses nothing     GOAWAY with the last stream                       ▲               ▼
       └── a rule broken, a limit passed, idle, the client's GOAWAY ────────────────────────────┘  closed ◄─ H_LINGER

libnghttp2 does framing, header compression and flow control. It is given what was read, and calls back with the parsed
frames; its output is fetched when it is not running (`pump`). Small frames are collected and sent at the end of this
turn of the loop; a large piece of a body is sent without a copy.

Windows carry back-pressure from one side to the other. A client may send as much as a stream's window allows, and gets
credit back as the server takes it; meanwhile the data is held here. Of a response, only as much is read as its stream's
window has room for, so hardly any of it is buffered; a stream that is not read blocks its own server and no other.
"""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdlib cimport free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

from gateway.outcome cimport (
    ABUSE_FRAMES, ABUSE_HEADERS, ABUSE_PROTOCOL, ABUSE_RESETS, ABUSE_SLOW_HEADERS, ABUSE_WINDOWS, O_BUG, O_HTTP2_ERROR,
    O_STOPPED,
)
from gateway.proxy.conn cimport FOREVER, HEAD, RECV_AGAIN, SCRATCH, Conn, Handler, Poller
from gateway.proxy.http1_client cimport Http1Downstream, open_http1
from gateway.proxy.http2_fields cimport fields_of, submit_trailers
from gateway.proxy.linger cimport LINGER_PAUSE_MS, linger_begin, linger_goes_on, linger_waits
from gateway.proxy.nghttp2 cimport (
    NG_CAT_REQUEST, NG_DATA, NG_DATA_FLAG_EOF, NG_DATA_FLAG_NO_COPY, NG_DATA_FLAG_NO_END_STREAM,
    NG_ERR_DEFERRED, NG_ERR_TEMPORAL_CALLBACK_FAILURE, NG_ERR_WOULDBLOCK, NG_FLAG_END_STREAM,
    NG_HEADERS, NG_CANCEL, NG_ENHANCE_YOUR_CALM, NG_INTERNAL_ERROR, NG_NO_ERROR, NG_PROTOCOL_ERROR,
    NG_CONTINUATION, NG_ERR_FLOODED, NG_ERR_TOO_MANY_CONTINUATIONS, NG_GOAWAY, NG_PRIORITY,
    NG_RST_STREAM, NG_SETTINGS,
    NG_SETTINGS_ENABLE_CONNECT_PROTOCOL, NG_SETTINGS_MAX_CONCURRENT_STREAMS, NG_SETTINGS_MAX_HEADER_LIST_SIZE,
    NG_SETTINGS_NO_RFC7540_PRIORITIES, Callbacks, drop_pages, new_server_session, ng, ng_callbacks, ng_data_provider,
    ng_data_source, ng_frame, ng_frame_hd, ng_nv, ng_session, ng_settings_entry, raised, registered,
)
from gateway.proxy.openssl cimport SSL, SSL_get0_alpn_selected
from gateway.proxy.states cimport Machine, edges_of, step
from gateway.proxy.stream_tunnel cimport StreamTunnel
from gateway.proxy.tls cimport ServerContext, client_lines, describe, has_valid_certificate
from gateway.proxy.transaction cimport Transaction, new_transaction
from gateway.proxy.tunnel cimport Tunnel
from gateway.proxy.worker_context cimport Frontend
from gateway.wire.edit cimport (
    FRAME_LENGTH, FRAME_NONE, Out, edit_interim, edit_response, edit_trailers, edit_upgrade, out_append, out_free,
)
from gateway.wire.grpc cimport grpc_status
from gateway.wire.head cimport (
    Bounds, Head, M_HEAD, R_ACCEPT, R_BODY_LENGTH, R_BODY_TOO_LARGE, R_OK, R_TRAILERS, same_any, status_of,
)
from gateway.wire.http2_head cimport KEY, Block, block_clear, block_end, block_field, block_free
from gateway.wire.origin cimport Provenance

from gateway.outcome import ABUSES
from gateway.wire.websocket import accept_of

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_PEEK
    ssize_t c_recv "recv"(int fd, void *buf, size_t n, int flags)

cdef enum:
    TURN = 4                    # consecutive reads before others get their turn
    STREAMS = 100               # at a time: RFC 9113 section 6.5.2 recommends no fewer
    WINDOW = 1024 * 1024        # bytes of request bodies that a connection may have buffered here, over all its streams
    SMALL = 4096                # frames up to this size are collected
    COLLECTED = 16 * 1024       # bytes that are sent without waiting for more
    UNSENT = 256 * 1024         # bytes composed before checking whether the client takes them
    LEAST = 4096                # bytes of a response that are read whatever the window
    READER_PAUSE_MS = 10000     # longest pause of a client before it has read everything; see linger.pyx
    REST_MS = 1000              # without requests, until memory is given back

log = logging.getLogger(__name__)

cdef bytes PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

PHASES = ("open", "leaving", "last", "flush", "linger")

cdef Machine _machine
_machine.next[<int>H_OPEN] = 1 << H_LEAVING | 1 << H_LAST | 1 << H_FLUSH | 1 << H_LINGER
_machine.next[<int>H_LEAVING] = 1 << H_LAST | 1 << H_FLUSH | 1 << H_LINGER
_machine.next[<int>H_LAST] = 1 << H_FLUSH | 1 << H_LINGER
_machine.next[<int>H_FLUSH] = 1 << H_LINGER

# A process works on one head at a time: these need no owner.
cdef Head _scan
cdef Out _out


# The cost of frames, or of their consequences, to the client's budget: see _charge.
cdef enum:
    BUDGET = 2000               # largest budget
    PER_SECOND = 100            # refill
    EARNED = 2                  # refill for a frame with a part of a body
    COST_FRAME = 1              # PING, PRIORITY, WINDOW_UPDATE; DATA until it proves not to be empty
    COST_SETTINGS = 5
    COST_LATE = 5               # RST_STREAM of a stream that is over
    COST_REFUSED = 5            # a malformed request
    COST_SLIVER = 5             # a response sent in pieces below SLIVER
    COST_RESET = 10
    COST_CONTINUATION = 40
    SLIVER = 256                # bytes
    BOMB = 8                    # times the limits of a head, in fields or bytes, end the connection

cdef Block _spare_block                         # buffers for a header block, of which most come within one event

cdef int64_t LOG_PERIOD_NS = 10_000_000_000     # between two log lines about connections ended for the same reason
cdef dict _said = {}                            # (frontend, Abuse) -> (time of the last log line, number since)


def edges():
    """{(phase, next phase): number of transitions in this process} for every possible transition."""
    return edges_of(&_machine, PHASES)


# ------------------------------------------------------------------------------------- what the library calls back with
#
# An exception ends the library's work, because -1 is a failure to it, and is raised when it has returned: see `raised`.

cdef ssize_t _send(ng_session *session, const uint8_t *p, size_t n, int flags, void *owner) except -1:
    cdef Http2Connection c = <Http2Connection>owner
    if c._full():
        return NG_ERR_WOULDBLOCK
    c._emit(<const char *>p, n)
    if n > SMALL:
        c._flush()                  # it does not stay valid
    return <ssize_t>n


cdef int _send_data(ng_session *session, ng_frame *frame, const uint8_t *head, size_t n, ng_data_source *source,
                    void *owner) except -1:
    cdef Http2Connection c = <Http2Connection>owner
    cdef Http2Stream s = <Http2Stream>source.ptr
    if c._full():
        return NG_ERR_WOULDBLOCK
    c._emit(<const char *>head, 9)
    s.progress = c.conn.poller.now
    if s.kept.n:
        c._emit(s.kept.p + s.kept_at, n)
        s.kept_at += <uint32_t>n
        s.kept.n -= <uint32_t>n
    else:
        c._emit(s.given, n)
        s.given += n
        s.given_n -= n
    if n < SLIVER and (s.kept.n or s.given_n):
        c.charge(ABUSE_WINDOWS, COST_SLIVER)
    else:
        c.earn()
    return 0


cdef ssize_t _read_answer(ng_session *session, int32_t id, uint8_t *to, size_t n, uint32_t *flags,
                          ng_data_source *source, void *owner) except -1:
    """How much of the response goes into the next frame; _send_data puts its bytes."""
    cdef Http2Stream s = <Http2Stream>source.ptr
    cdef size_t ready = s.kept.n if s.kept.n else s.given_n
    cdef bint all_of_it
    if ready == 0:
        if s.cut:
            s.ours = 1
            return NG_ERR_TEMPORAL_CALLBACK_FAILURE
        if not s.ended:
            return NG_ERR_DEFERRED
        n = 0
        all_of_it = True
    else:
        n = min(n, ready)
        flags[0] = NG_DATA_FLAG_NO_COPY
        if s.left > 0:
            s.left -= n
        all_of_it = s.left == 0 or (s.ended and n == s.kept.n + s.given_n)
    if all_of_it:
        flags[0] |= NG_DATA_FLAG_EOF
        if s.trailers is not None:
            flags[0] |= NG_DATA_FLAG_NO_END_STREAM
            submit_trailers(session, id, s.trailers)
    return <ssize_t>n


cdef int _on_begin_headers(ng_session *session, const ng_frame *frame, void *owner) except -1:
    cdef Http2Connection c = <Http2Connection>owner
    return c.on_block_begun(frame.hd.stream_id, frame.headers.cat == NG_CAT_REQUEST)


cdef int _on_header(ng_session *session, const ng_frame *frame, const uint8_t *name, size_t n,
                    const uint8_t *value, size_t value_n, uint8_t flags, void *owner) except -1:
    cdef Http2Connection c = <Http2Connection>owner
    cdef Bounds *bounds = &c.conn.listener.frontend.bounds
    if c.ends:
        return NG_ERR_TEMPORAL_CALLBACK_FAILURE
    if c.block.count > BOMB * bounds.fields or c.block.size > BOMB * bounds.head:
        c.end_for(ABUSE_HEADERS, False)
        return NG_ERR_TEMPORAL_CALLBACK_FAILURE
    return block_field(&c.block, bounds, <const char *>name, n, <const char *>value, value_n)


cdef int _on_frame(ng_session *session, const ng_frame *frame, void *owner) except -1:
    cdef Http2Connection c = <Http2Connection>owner
    cdef bint ended = frame.hd.flags & NG_FLAG_END_STREAM
    if frame.hd.type == NG_HEADERS:
        c.on_block_ended(frame.hd.stream_id, frame.headers.cat == NG_CAT_REQUEST, ended)
    elif frame.hd.type == NG_DATA and ended:
        c.on_ended(frame.hd.stream_id)
    elif frame.hd.type == NG_RST_STREAM:
        c.on_reset(frame.hd.stream_id)
    return 0


cdef int _on_sent(ng_session *session, const ng_frame *frame, void *owner) except -1:
    cdef Http2Connection c = <Http2Connection>owner
    if frame.hd.flags & NG_FLAG_END_STREAM and (frame.hd.type == NG_DATA or frame.hd.type == NG_HEADERS):
        c.on_sent_end(frame.hd.stream_id)
    elif frame.hd.type == NG_GOAWAY and frame.goaway.error_code and not c.ends:
        c.end_for(ABUSE_PROTOCOL, True)         # the library sends the reason itself
    return 0


cdef int _on_begin_frame(ng_session *session, const ng_frame_hd *head, void *owner) except -1:
    cdef Http2Connection c = <Http2Connection>owner
    return c.on_begun(head)


cdef int _on_invalid(ng_session *session, const ng_frame *frame, int error, void *owner) except -1:
    """The library responds to a frame with a reset, or by ending the connection."""
    cdef Http2Connection c = <Http2Connection>owner
    return c.charge(ABUSE_RESETS, COST_RESET)


cdef int _on_chunk(ng_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *owner) except -1:
    cdef Http2Connection c = <Http2Connection>owner
    return c.on_chunk(id, <const char *>p, n)


cdef int _on_close(ng_session *session, int32_t id, uint32_t code, void *owner) except -1:
    cdef Http2Connection c = <Http2Connection>owner
    return c.on_closed(id, code)


cdef Callbacks _those
_those.send = _send
_those.send_data = _send_data
_those.begin_frame = _on_begin_frame
_those.frame = _on_frame
_those.sent = _on_sent
_those.invalid = _on_invalid
_those.begin_headers = _on_begin_headers
_those.header = _on_header
_those.chunk = _on_chunk
_those.close = _on_close
cdef ng_callbacks *_callbacks = registered(&_those)


# -------------------------------------------------------------------------------------------------- heads to the client

cdef ng_nv *_head_fields(Out *head, size_t *count) except NULL:
    """The fields of a whole head."""
    cdef ng_nv status
    cdef char *line = <char *>memchr(head.p, c'\n', head.n)
    status.name = <uint8_t *>b":status"
    status.namelen = 7
    status.value = <uint8_t *>head.p + 9
    status.valuelen = 3
    status.flags = 0
    return fields_of(line + 1, head.p + head.n - line - 1, &status, 1, count)


cdef void _borrow(Block *block) noexcept:
    """Take the spare buffers, if they are there."""
    block[0] = _spare_block
    memset(&_spare_block, 0, sizeof(Block))


cdef void _give_back(Block *block) noexcept:
    """An idle connection keeps none."""
    if _spare_block.text.p != NULL:
        block_free(block)
        return
    _spare_block.text = block.text
    _spare_block.cookies = block.cookies
    _spare_block.pseudo = block.pseudo
    memset(block, 0, sizeof(Block))


# ------------------------------------------------------------------------------------------------------------- a stream

cdef class Http2Stream(Downstream):
    def __dealloc__(self):
        free(self.held.p)
        free(self.kept.p)

    def __repr__(self):
        return f"<Http2Stream {self.id} {self.transaction!r}>"

    cdef int interim(self, const char *p, Head *h) except -1:
        cdef ng_nv *fields
        cdef size_t count = 0
        if self.closed:
            return 0
        edit_interim(&_out, p, h)
        fields = _head_fields(&_out, &count)
        ng.submit_headers(self.owner.session, 0, self.id, NULL, fields, count, NULL)
        return self.owner.pump()

    cdef int head(self, const char *p, Head *h, int framing, bytes extra) except -1:
        edit_response(&_out, p, h, framing, 0, PyBytes_AS_STRING(extra), <uint32_t>PyBytes_GET_SIZE(extra),
                      self.transaction.id, self.transaction.id_n)
        self.left = h.content_length if framing == FRAME_LENGTH else -1
        return self._respond(&_out, framing == FRAME_NONE or self.left == 0)

    cdef int _respond(self, Out *head, bint bare) except -1:
        """Send a final head; bare: the response has no body and no trailers."""
        cdef ng_data_provider body
        cdef ng_nv *fields
        cdef size_t count = 0
        if self.closed:
            return 0
        self.progress = self.owner.conn.poller.now
        body.source.ptr = <void *>self
        body.read_callback = _read_answer
        fields = _head_fields(head, &count)
        ng.submit_response(self.owner.session, self.id, fields, count, NULL if bare else &body)
        return self.owner.pump()

    cdef int body(self, const char *p, size_t n) except -1:
        if self.closed:
            return 0
        if self.kept.n:
            self._keep(p, n)
        else:
            self.given = p
            self.given_n = n
        ng.session_resume_data(self.owner.session, self.id)
        self.owner.pump()
        if self.given_n:
            p, n = self.given, self.given_n
            self.given_n = 0
            self._keep(p, n)
        return 0

    cdef int end(self, Out *trailers) except -1:
        if self.closed or self.ended:
            return 0
        self.ended = 1
        if trailers.n:
            _out.n = 0
            edit_trailers(&_out, trailers.p, trailers.n)
            if _out.n:
                self.trailers = _out.p[:_out.n]
        ng.session_resume_data(self.owner.session, self.id)
        return self.owner.pump()

    cdef int answer(self, int status, bytes lines, bytes body, bint close) except -1:
        cdef bytes head = b"HTTP/1.1 %d \r\n%s%s" % (status, self.owner.context.date(), lines)
        if status != 204 and status != 304:
            head += b"Content-Length: %d\r\n" % len(body)
        if self.is_head:
            body = b""
        self.page = body
        self.given = PyBytes_AS_STRING(body)
        self.given_n = PyBytes_GET_SIZE(body)
        self.left = self.given_n
        self.ended = 1
        _out.n = 0
        out_append(&_out, head, len(head))
        return self._respond(&_out, not body)

    cdef int check_upgrade(self, const char *p, Head *h) except -1:
        """RFC 6455 section 4.2.2: the server proves that it has understood the key."""
        cdef bytes value = None
        cdef int i
        for i in range(h.count):
            if h.fields[i].name_len == 20 and same_any(p + h.fields[i].name, b"sec-websocket-accept", 20):
                if value is not None:
                    return R_ACCEPT
                value = p[h.fields[i].value:h.fields[i].value + h.fields[i].value_len]
                h.fields[i].drop = True
        return R_OK if value == accept_of(self.key) else R_ACCEPT

    cdef Tunnel upgrade(self, const char *p, Head *h, bytes extra):
        """The response to an extended CONNECT is a 200 (RFC 8441 section 5)."""
        edit_upgrade(&_out, p, h, PyBytes_AS_STRING(extra), <uint32_t>PyBytes_GET_SIZE(extra), self.transaction.id,
                     self.transaction.id_n)
        memcpy(_out.p + 9, b"200", 3)
        self.tunnel = StreamTunnel()
        self.tunnel.client = self
        self._respond(&_out, False)
        return self.tunnel

    cdef bint takes(self) noexcept:
        cdef Http2Connection c = self.owner
        cdef int32_t window
        if self.closed:
            return True                     # further input is discarded
        if self.kept.n or c.conn.out_len:
            self.blocked = c.readers = 1
            return False
        window = min(ng.session_get_stream_remote_window_size(c.session, self.id),
                     ng.session_get_remote_window_size(c.session))
        self.room = max(LEAST, min(window, SCRATCH))
        return True

    cdef int resume(self) except -1:
        if not self.wanting and not self.request_given:
            self.wanting = 1
            self.owner.wanting.append(self)
            self.owner.conn.poller.turn_over(self.owner.conn)
        return 0

    cdef int abort(self, bint at_once) except -1:
        if self.closed:
            return 0
        if not at_once and self.transaction.grpc and self.transaction.overdue and (
                self.transaction.bytes_out or self.left >= 0):
            return self._reset(NG_CANCEL)   # clients take it at their deadline for its end, even within a message
        if not at_once and self.transaction.grpc and self.left < 0:
            self.ended = 1
            self.trailers = grpc_status(self.transaction.broken_off, self.transaction.overdue)
            ng.session_resume_data(self.owner.session, self.id)
            return self.owner.pump()
        if not at_once and (self.kept.n or self.given_n):
            self.cut = 1
            ng.session_resume_data(self.owner.session, self.id)
            return self.owner.pump()
        return self._reset(NG_INTERNAL_ERROR if self.tunnel is None else NG_CANCEL)

    cdef int _reset(self, uint32_t code) except -1:
        self.ours = 1
        ng.submit_rst_stream(self.owner.session, 0, self.id, code)
        return self.owner.pump()

    cdef SSL *tls_state(self) noexcept:
        return self.owner.conn.ssl

    cdef int descriptor(self) noexcept:
        return self.owner.conn.fd

    cdef int over(self) except -1:
        cdef Http2Connection c = self.owner
        self.transaction = None
        c.active -= 1
        if self.held.n:
            ng.session_consume_connection(c.session, self.held.n)
            self.held.n = 0
        if c.conn.fd >= 0 and not c.block_since:
            c._set_deadline()
        if c.phase != H_OPEN:
            c.conn.poller.turn_over(c.conn)
        return 0

    cdef int _hold(self, const char *p, size_t n) except -1:
        """Buffer a piece of the request's body until a server takes it. The window limits the amount."""
        return out_append(&self.held, p, n)

    cdef int _keep(self, const char *p, size_t n) except -1:
        """Buffer a piece of the response until the client takes it. No more is read meanwhile."""
        if self.kept_at and self.kept.n:
            memmove(self.kept.p, self.kept.p + self.kept_at, self.kept.n)
        self.kept_at = 0
        return out_append(&self.kept, p, n)


# --------------------------------------------------------------------------------------------------------- a connection

cdef class Http2Connection(Handler):
    def __dealloc__(self):
        if self.session != NULL:
            ng.session_del(self.session)
        free(self.out.p)
        block_free(&self.block)

    def __repr__(self):
        return f"<Http2Connection {PHASES[self.phase]} {self.active} requests>"

    cdef int start(self) except -1:
        """Send the server's preface; the client's preface has not been read yet."""
        cdef ng_settings_entry settings[4]
        self.streams = {}
        self.wanting = []
        self.abuse = -1
        self.budget = BUDGET
        self.budget_at = self.conn.poller.now
        self.session = new_server_session(_callbacks, <void *>self, &self.frame)
        settings[0].settings_id = NG_SETTINGS_MAX_CONCURRENT_STREAMS
        settings[0].value = STREAMS
        settings[1].settings_id = NG_SETTINGS_MAX_HEADER_LIST_SIZE
        settings[1].value = self.conn.listener.frontend.bounds.head
        settings[2].settings_id = NG_SETTINGS_NO_RFC7540_PRIORITIES
        settings[2].value = 1
        settings[3].settings_id = NG_SETTINGS_ENABLE_CONNECT_PROTOCOL
        settings[3].value = 1
        ng.submit_settings(self.session, 0, settings, 4)
        ng.session_set_local_window_size(self.session, 0, 0, WINDOW)
        self._set_deadline()
        return 0

    cdef int _enter(self, int phase) except -1:
        if not step(&_machine, self.phase, phase):
            raise RuntimeError(f"a connection that is {PHASES[self.phase]} can't go over to {PHASES[phase]}")
        self.phase = phase
        return 0

    # ---------------------------------------------------------------------------------------------------------- reading

    cdef int on_input(self, Conn conn) except -1:
        if self.phase == H_LINGER:
            return self._discard()
        if self.phase == H_FLUSH:
            return 0
        if self.out.n:
            self._flush()
        if self.wanting:
            self._feed_wanting()
        self._read()
        return self._after()

    cdef int _read(self) except -1:
        cdef ClientConn conn = self.conn
        cdef Poller poller = conn.poller
        cdef ssize_t got
        cdef int turn = 0
        while conn.fd >= 0 and conn.readable and self.phase <= H_LAST:
            if turn == TURN:
                return poller.turn_over(conn)
            turn += 1
            got = conn.recv(poller.scratch, SCRATCH)
            if got > 0:
                self.take(poller.scratch, got)
            elif got == RECV_AGAIN:
                return 0
            else:
                # A FIN ends the requests, too: a client that has sent its last request would send GOAWAY.
                self._end_all(-1)
                return conn.close()
        return 0

    cdef int take(self, const char *p, size_t n) except -1:
        """Process input."""
        cdef ssize_t used
        if self.ends:
            return 0
        self.busy = 1
        used = ng.session_mem_recv(self.session, <const uint8_t *>p, n)
        self.busy = 0
        raised()
        self.conn.poller.settle()           # output that refers to these bytes
        if used == NG_ERR_TOO_MANY_CONTINUATIONS:
            self.end_for(ABUSE_HEADERS, False)
        elif used == NG_ERR_FLOODED:
            self.end_for(ABUSE_FRAMES, False)
        elif used < 0:
            self.end_for(ABUSE_PROTOCOL, False)
        return self.pump()

    cdef int on_block_begun(self, int32_t id, bint request) except -1:
        cdef Http2Stream s
        if self.block.text.p == NULL:
            _borrow(&self.block)
        block_clear(&self.block)
        self.block.trailers = not request
        self.block_since = self.conn.poller.now
        self.conn.deadline(self.conn.listener.frontend.header_ms)
        if request:
            s = Http2Stream.__new__(Http2Stream)
            s.owner = self
            s.id = id
            s.address = self.conn.address
            s.port = self.conn.port
            s.left = s.length = -1
            s.room = SCRATCH
            self.streams[id] = s
        return 0

    cdef int on_block_ended(self, int32_t id, bint request, bint ended) except -1:
        cdef Http2Stream s = self.streams.get(id)
        self.block_since = 0
        if s is None or self.ends:
            return 0
        if request:
            self._request(s, ended)
        elif s.key is not None:
            self.charge(ABUSE_RESETS, COST_REFUSED)
            s._reset(NG_PROTOCOL_ERROR)     # RFC 9113 section 8.5: only data may come here
            if s.transaction is not None:
                s.transaction.on_given_up(O_HTTP2_ERROR)
            return self._set_deadline()
        elif s.transaction is not None:
            if not ended or block_end(&self.block, &self.conn.listener.frontend.bounds, &_scan, False) != R_OK:
                self._refuse(s, R_TRAILERS)
            elif self.block.text.n:
                s.request_trailers = self.block.text.p[:self.block.text.n]
        if ended:
            self.on_ended(id)
        _give_back(&self.block)
        return self._set_deadline()

    cdef int _request(self, Http2Stream s, bint ended) except -1:
        cdef Frontend frontend = self.conn.listener.frontend
        cdef Transaction t
        cdef int why = block_end(&self.block, &frontend.bounds, &_scan, not ended)
        if why == R_OK and _scan.content_length > frontend.body_bytes:
            why = R_BODY_TOO_LARGE
        if self.provenance is None:
            self._make_provenance()
        s.provenance = self.provenance
        s.request_ended = ended
        t = new_transaction(self.context)
        s.transaction = t
        self.active += 1
        if why != R_OK:
            t.begin_nameless(s, frontend, self.conn.tls is not None)
            t.http2 = 1
            return self._refuse(s, why)
        s.length = _scan.content_length
        s.is_head = _scan.method == M_HEAD
        if self.block.connects:
            s.key = self.block.key[:KEY]
        t.begin(s, frontend, self.block.text.p, &_scan)
        s.request_given = not t.has_body and s.key is None
        return t.start(self.block.text.p, &_scan)

    cdef int _refuse(self, Http2Stream s, int reason) except -1:
        """The request is malformed (RFC 9113 section 8.1.1), or exceeds a limit."""
        if status_of(reason) == 400:
            s.code = NG_PROTOCOL_ERROR
            self.charge(ABUSE_RESETS, COST_REFUSED)
        return s.transaction.refuse(reason)

    cdef int _make_provenance(self) except -1:
        cdef Frontend frontend = self.conn.listener.frontend
        cdef bytes via = b"Via: 2.0" + self.context.via[8:]
        cdef bint verified = False
        if self.conn.tls is not None and (<ServerContext>self.conn.tls).asks:
            via = client_lines(self.conn.ssl) + via
            verified = has_valid_certificate(self.conn.ssl)
        trusts = (<object>frontend).trusts if frontend.trusts(self.conn.address.decode()) else None
        self.provenance = Provenance(self.conn.address, self.conn.tls is not None, self.conn.listener.name.encode(),
                                     via, trusts, frontend.client_from)
        self.provenance.fd = self.conn.fd
        describe(self.provenance, self.conn.port, self.conn.ssl if self.conn.tls is not None else NULL)
        self.provenance.verified = verified
        self.provenance.guarded = frontend.guards
        return 0

    cdef int on_chunk(self, int32_t id, const char *p, size_t n) except -1:
        """A piece of a request's body: pass it to the server if that takes it."""
        cdef Http2Stream s = self.streams.get(id)
        self.budget = min(BUDGET, self.budget + COST_FRAME)     # the frame is not empty
        if n >= SLIVER:
            self.earn()
        cdef Transaction t = None if s is None else s.transaction
        if t is None:
            ng.session_consume_connection(self.session, n)
            return 0
        s.received += n
        if s.length >= 0 and s.received > s.length:
            ng.session_consume_connection(self.session, n)
            return self._refuse(s, R_BODY_LENGTH)
        if s.key is not None:
            if s.held.n or s.tunnel is None or not s.tunnel.takes():
                return s._hold(p, n)
            s.tunnel.give_second(p, n)
            ng.session_consume_connection(self.session, n)
            ng.session_consume_stream(self.session, id, n)
            return 0
        if s.held.n or not t.takes_body():
            s._hold(p, n)
            return t.on_body_blocked()
        t.on_body(p, n)
        ng.session_consume_connection(self.session, n)
        ng.session_consume_stream(self.session, id, n)
        return 0

    cdef int on_ended(self, int32_t id) except -1:
        """The client has sent the whole request."""
        cdef Http2Stream s = self.streams.get(id)
        if s is None:
            return 0
        s.request_ended = 1
        return self._feed(s)

    cdef int _feed(self, Http2Stream s) except -1:
        """Give the server as much of the body as it takes."""
        cdef Transaction t = s.transaction
        cdef size_t n = s.held.n
        if s.key is not None:
            return self._feed_tunnel(s)
        if t is None or s.request_given or s.closed:
            return 0
        if s.request_ended and s.length >= 0 and s.received != s.length:
            return self._refuse(s, R_BODY_LENGTH)
        if n:
            if not t.takes_body():
                return t.on_body_blocked()
            t.on_body(s.held.p, n)
            self.conn.poller.settle()       # before the bytes are freed
            if s.transaction is not t:
                return 0                    # and `over` has returned its window credit
            out_free(&s.held)
            ng.session_consume_connection(self.session, n)
            ng.session_consume_stream(self.session, s.id, n)
        if s.request_ended:
            if not t.takes_body():
                return t.on_body_blocked()
            s.request_given = 1
            if s.request_trailers is not None:
                t.on_trailers(PyBytes_AS_STRING(s.request_trailers), PyBytes_GET_SIZE(s.request_trailers))
            return t.on_request_end()
        return 0

    cdef int _feed_tunnel(self, Http2Stream s) except -1:
        """Give the tunnel what the client has sent; the last of it whether or not the server takes it now, because the
        stream may be closed then."""
        cdef StreamTunnel tunnel = s.tunnel
        cdef size_t n = s.held.n
        if tunnel is None or s.request_given or s.transaction is None:
            return 0
        if n and (s.request_ended or tunnel.takes()):
            tunnel.give_second(s.held.p, n)
            if s.transaction is None:
                return 0                    # and `over` has returned its window credit
            out_free(&s.held)
            ng.session_consume_connection(self.session, n)
            ng.session_consume_stream(self.session, s.id, n)
        if s.request_ended and not s.held.n:
            s.request_given = 1
            return tunnel.end_first()
        return 0

    cdef int _feed_wanting(self) except -1:
        cdef list wanting = self.wanting
        cdef Http2Stream s
        self.wanting = []
        for s in wanting:
            s.wanting = 0
            self._feed(s)
        return self.pump()

    # ---------------------------------------------------------------------------------------------------------- sending

    cdef int pump(self) except -1:
        """Send all possible output: responses as far as windows allow, and the library's frames."""
        cdef int failed
        if self.busy or self.conn.fd < 0:
            return 0
        self.busy = 1
        failed = ng.session_send(self.session)
        self.busy = 0
        raised()
        if self.pointing or self.out.n >= COLLECTED:
            self._flush()
        elif self.out.n:
            self.conn.poller.turn_over(self.conn)
        if failed:
            self.ends = 1
            self.conn.poller.turn_over(self.conn)
        if self.readers and not self.conn.out_len:
            self._wake_readers()
        return 0

    cdef bint _full(self) except -1:
        """Whether the client takes no more data for now."""
        if self.out.n > UNSENT:
            self._flush()
        return self.conn.out_len != 0 or self.deaf

    cdef int _emit(self, const char *p, size_t n) except -1:
        """Send n bytes; a large piece must stay valid until `pump` returns."""
        if self.pointing:
            self.out.n += <uint32_t>n       # only to measure how much is being composed
            return self.conn.put(p, n)
        if n > SMALL:
            self.conn.put(self.out.p, self.out.n)
            self.pointing = 1
            self.out.n += <uint32_t>n
            return self.conn.put(p, n)
        return out_append(&self.out, p, n)

    cdef int _flush(self) except -1:
        """Send the collected frames."""
        if not self.pointing:
            self.conn.put(self.out.p, self.out.n)
        self.pointing = 0
        self.out.n = 0
        self.conn.commit()
        if not self.active:
            out_free(&self.out)
        return 0

    cdef int _wake_readers(self) except -1:
        """Resume reading from servers whose clients take their responses again."""
        cdef Http2Stream s
        self.readers = 0
        for s in list(self.streams.values()):
            if s.blocked:
                if s.kept.n:
                    self.readers = 1
                else:
                    s.blocked = 0
                    if s.transaction is not None:
                        s.transaction.on_reader_ready()
        return 0

    cdef int on_sent_end(self, int32_t id) except -1:
        """The response has been sent. The rest of its request is not needed (RFC 9113 section 8.1)."""
        cdef Http2Stream s = self.streams.get(id)
        if s is not None:
            s.finished = 1
            if (not s.request_ended and (s.tunnel is None or s.transaction is None)) or s.code:
                s.ours = 1
                ng.submit_rst_stream(self.session, 0, id, s.code)
        return 0

    cdef int on_closed(self, int32_t id, uint32_t code) except -1:
        """A stream is closed: nothing more can be sent or received on it."""
        cdef Http2Stream s = self.streams.pop(id, None)
        if code and (s is None or not s.ours):
            self.charge(ABUSE_RESETS, COST_RESET)
        if s is None:
            return 0
        self.conn.poller.bury(s)            # the composed write may refer to it
        s.closed = 1
        if s.tunnel is not None and not code and not s.theirs:
            return self._feed(s)            # both sides have ended: the server gets the rest
        # One that resets it ends it as well.
        if s.transaction is not None and not s.ours and (not s.finished or s.tunnel is not None):
            if code and not s.theirs:
                s.transaction.on_given_up(O_HTTP2_ERROR)
            else:
                s.transaction.on_client_left()
        return 0

    cdef int on_reset(self, int32_t id) except -1:
        cdef Http2Stream s = self.streams.get(id)
        if s is not None:
            s.theirs = 1
        return 0

    # ------------------------------------------------------------------------------------------------------------ abuse

    cdef int on_begun(self, const ng_frame_hd *head) except -1:
        """A frame has begun: charge the client for frames that cost work and request nothing."""
        cdef int kind = head.type
        if kind == NG_DATA:
            return 0 if head.flags & NG_FLAG_END_STREAM else self.charge(ABUSE_FRAMES, COST_FRAME)
        if kind == NG_RST_STREAM:           # else its cost is known when the stream is closed
            return 0 if head.stream_id in self.streams else self.charge(ABUSE_FRAMES, COST_LATE)
        if kind == NG_HEADERS:
            if head.stream_id > ng.session_get_last_proc_stream_id(self.session) or head.stream_id in self.streams:
                return 0
            return self.charge(ABUSE_RESETS, COST_RESET)    # of a stream that is closed, or never existed
        if kind == NG_PRIORITY and head.stream_id == 0:
            return self.end_for(ABUSE_PROTOCOL, False)      # the library accepts this (section 6.3)
        if kind == NG_CONTINUATION:
            return self.charge(ABUSE_HEADERS, COST_CONTINUATION)
        return self.charge(ABUSE_FRAMES, COST_SETTINGS if kind == NG_SETTINGS else COST_FRAME)

    cdef int charge(self, int abuse, int cost) except -1:
        """Take `cost` from the client's budget, which refills with time and with bodies that the client sends or reads;
        the connection ends when the budget is used up."""
        cdef int64_t passed = self.conn.poller.now - self.budget_at
        cdef int64_t back = passed * PER_SECOND // 1000000000
        if back > 0:
            self.budget = <int>min(<int64_t>BUDGET, self.budget + back)
            self.budget_at = self.conn.poller.now
        self.budget -= cost
        return self.end_for(abuse, False) if self.budget < 0 else 0

    cdef void earn(self) noexcept:
        self.budget = min(BUDGET, self.budget + EARNED)

    cdef int end_for(self, int abuse, bint said) except -1:
        """End the connection, and report the reason: to the client (unless it was `said`), the log and the Board."""
        cdef Frontend frontend = self.conn.listener.frontend
        cdef int64_t now = self.conn.poller.now, last
        if self.ends:
            return 0
        self.ends = 1
        self.abuse = abuse
        if not said:
            ng.session_terminate_session(self.session, NG_PROTOCOL_ERROR if abuse == ABUSE_PROTOCOL else
                                         NG_ENHANCE_YOUR_CALM)
        self.conn.gauge.row.abuses[abuse] += 1
        self.conn.poller.turn_over(self.conn)
        last, more = _said.get((frontend.name, abuse), (0, 0))
        if last and now - last < LOG_PERIOD_NS:
            _said[frontend.name, abuse] = last, more + 1
            return 0
        _said[frontend.name, abuse] = now, 0
        log.warning("%s: HTTP/2 connection of %s ended: %s: %s%s", frontend.name, self.conn.address.decode(),
                    *ABUSES[abuse], f" ({more} similar ones since)" if more else "")
        return 0

    # ---------------------------------------------------------------------------------------------------------- the end

    cdef int _set_deadline(self) except -1:
        """For a connection without requests, and for responses that are complete but not taken."""
        cdef int64_t idle_ms = self.conn.listener.frontend.idle_ms
        if self.phase <= H_LAST:
            self.rests = 0
            if self.active == len(self.streams) and self.active:
                self.conn.deadline(FOREVER)
            else:
                self.conn.deadline(idle_ms if self.streams else min(idle_ms, REST_MS))
        return 0

    cdef bint _rest(self) except -1:
        """Give back memory that an idle connection does not need, and wait for the rest of its time; False: that has
        passed."""
        cdef int64_t idle_ms = self.conn.listener.frontend.idle_ms
        if self.rests or idle_ms <= REST_MS:
            return False
        self.rests = 1
        drop_pages(self.session, &self.frame)
        self.conn.deadline(idle_ms - REST_MS)
        return True

    cdef int on_deadline(self, Conn conn) except -1:
        if self.phase == H_LINGER:
            return 0 if linger_waits(&self.linger, conn) else conn.close()
        if conn.out_len or self.phase == H_FLUSH:
            self._end_all(-1)
            return conn.reset()
        if self.block_since:
            self.end_for(ABUSE_SLOW_HEADERS, False)
            self.pump()
        elif self.streams:
            self._end_slow_readers()
        elif self._rest():
            return 0
        else:
            self._terminate(NG_NO_ERROR)
        return self._after()

    cdef int _end_slow_readers(self) except -1:
        cdef int64_t since = self.conn.poller.now - self.conn.listener.frontend.idle_ms * 1000000
        cdef Http2Stream s
        for s in list(self.streams.values()):
            if s.transaction is None and s.progress <= since:
                s._reset(NG_CANCEL)
        return self._set_deadline()

    cdef int _terminate(self, uint32_t code) except -1:
        """Send the reason for the end of the connection; `_after` closes it."""
        self.ends = 1
        ng.session_terminate_session(self.session, code)
        return self.pump()

    cdef int _end_all(self, int outcome) except -1:
        """End all requests; outcome: the reason, or -1: the client has disconnected."""
        cdef Http2Stream s
        cdef list streams = list(self.streams.values())
        self.streams.clear()
        for s in streams:
            s.closed = 1
            self.conn.poller.bury(s)
            if s.transaction is not None:
                if outcome < 0:
                    s.transaction.on_client_left()
                else:
                    s.transaction.on_given_up(outcome)
        return 0

    cdef int _after(self) except -1:
        """End the connection if no work is left on it."""
        if self.conn.fd < 0 or self.phase > H_LAST:
            return 0
        if not self.ends and (self.phase == H_LAST and not self.streams):
            self._terminate(NG_NO_ERROR)
        if self.ends or not (ng.session_want_read(self.session) or ng.session_want_write(self.session)):
            if ng.session_want_write(self.session) and self.conn.out_len:
                return 0                    # on_drained continues
            self._end_all(-1 if self.abuse < 0 else O_HTTP2_ERROR)
            return self._say_goodbye()
        return 0

    cdef int _say_goodbye(self) except -1:
        """Close after everything has been sent, without a reset that could overtake it."""
        cdef ClientConn conn = self.conn
        if self.out.n:
            self._flush()
        if conn.out_len:
            if self.phase != H_FLUSH:
                self._enter(H_FLUSH)
                conn.deadline(conn.listener.frontend.idle_ms)
            return 0
        conn.shutdown()
        if conn.ended and not conn.readable:
            return conn.close()
        self._enter(H_LINGER)
        linger_begin(&self.linger, conn, LINGER_PAUSE_MS, READER_PAUSE_MS, 0)
        return self._discard()

    cdef int _discard(self) except -1:
        """Discard further input of the client so that it can read the last frames."""
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
            if got <= 0 or not linger_goes_on(&self.linger, conn, got, conn.listener.frontend.body_rate):
                return conn.close()
        return 0

    cdef int on_drained(self, Conn conn) except -1:
        if self.phase == H_FLUSH:
            return self._say_goodbye()
        if self.phase == H_LINGER:
            return 0
        self._set_deadline()
        self.pump()
        return self._after()

    cdef int on_send_failed(self, Conn conn) except -1:
        self.deaf = 1
        conn.out_len = 0
        return 0

    cdef int on_broken(self, Conn conn) except -1:
        self._end_all(-1)
        return conn.close()

    cdef int on_bug(self, Conn conn) except -1:
        self.busy = 0
        self._end_all(O_BUG)
        return conn.reset()

    cdef int on_stopped(self, Conn conn) except -1:
        self._end_all(O_STOPPED)
        return conn.close()

    cdef int on_draining(self, Conn conn) except -1:
        """Send the first of two GOAWAY frames: it refuses no request, so that none in transit is lost (section 6.8)."""
        if self.phase == H_OPEN:
            self._enter(H_LEAVING)
            ng.submit_shutdown_notice(self.session)
            self.pump()
        return 0

    cdef int retire(self, Conn conn) except -1:
        """Send the second GOAWAY, which names the last request to be served."""
        if self.phase < H_LAST and not conn.readable:
            self._enter(H_LAST)
            ng.submit_goaway(self.session, 0, ng.session_get_last_proc_stream_id(self.session), NG_NO_ERROR, NULL, 0)
            self.pump()
            return self._after()
        return 0


def withdraw(Poller poller, bint last):
    """Send GOAWAY to clients of frontends that do not offer HTTP/2 any more; return how many of them remain.

    The first one refuses no request; with `last`, the second one names the last request that is served.
    """
    cdef int fd, left = 0
    cdef Conn conn
    for fd in range(poller.highest + 1):
        if fd > poller.highest or poller.table[fd] == NULL or not isinstance(<object>poller.table[fd], ClientConn):
            continue
        conn = <Conn>poller.table[fd]
        if not isinstance(conn.handler, Http2Connection):
            continue
        if isinstance((<ClientConn>conn).listener.frontend.protocol, Http2ClientProtocol):
            continue
        if last:
            conn.handler.retire(conn)
        else:
            conn.handler.on_draining(conn)
        if conn.fd >= 0 and isinstance(conn.handler, Http2Connection):
            left += (<Http2Connection>conn.handler).phase < H_LAST
    poller.settle()
    return left


# --------------------------------------------------------------------------------------- which protocol a client speaks

cdef class Http2ClientProtocol(ClientProtocol):
    """HTTP/2, and HTTP/1 for clients that do not support it."""

    cdef Handler open(self, Conn conn, WorkerContext context):
        cdef Negotiation made = Negotiation.__new__(Negotiation)
        made.context = context
        return made


cdef class Negotiation(Handler):
    cdef int on_input(self, Conn conn) except -1:
        """With TLS, the handshake has negotiated the protocol (RFC 7301); otherwise HTTP/2 begins with a preface (RFC
        9113 section 3.4)."""
        cdef char *scratch = conn.poller.scratch
        cdef const unsigned char *name = NULL
        cdef unsigned int n = 0
        cdef ssize_t got
        cdef size_t length = PyBytes_GET_SIZE(PREFACE)
        if conn.ssl != NULL:
            got = conn.recv(scratch, HEAD)
            if got == RECV_AGAIN:
                return 0
            if got <= 0:
                return conn.close()
            SSL_get0_alpn_selected(conn.ssl, &name, &n)
            return self._begin(<ClientConn>conn, n == 2 and memcmp(name, b"h2", 2) == 0, scratch, got)
        got = c_recv(conn.fd, scratch, length, MSG_PEEK)
        if got < 0 and (errno == EAGAIN or errno == EINTR):
            conn.readable = 0
            return 0
        if got <= 0:
            return conn.close()
        if memcmp(scratch, PyBytes_AS_STRING(PREFACE), got) != 0:
            return self._begin(<ClientConn>conn, False, NULL, 0)
        if <size_t>got == length:
            return self._begin(<ClientConn>conn, True, NULL, 0)
        conn.readable = 0
        return conn.close() if conn.ended else 0

    cdef int _begin(self, ClientConn conn, bint http2, const char *p, size_t n) except -1:
        """Hand the connection and the bytes read so far to the protocol."""
        cdef Http2Connection c
        cdef Http1Downstream h1
        if not http2:
            h1 = open_http1(conn, self.context)
            conn.hand_to(h1)
            if n:
                h1._hold(p, n)
            return h1.on_input(conn)
        c = Http2Connection.__new__(Http2Connection)
        c.conn = conn
        c.context = self.context
        c.start()
        conn.hand_to(c)
        if n:
            c.take(p, n)
        return c.on_input(conn)

    cdef int on_broken(self, Conn conn) except -1:
        return conn.close()

    cdef int retire(self, Conn conn) except -1:
        return 0 if conn.readable else conn.close()
