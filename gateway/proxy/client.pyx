"""The clients' side: listeners, and connections that read requests, hand them on and give back the answers.

A connection works on one exchange at a time; what a pipelining client sends ahead stays in the kernel, or in the
stash if it was read already. Bodies are never collected: a piece is read only when the other side has taken the one
before.
"""

import ipaddress
import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, errno
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from gateway.balance.estimate cimport answer, begin, give_up
from gateway.balance.policy cimport MAX_TRIED
from gateway.board cimport MAX_WORKERS, SOURCE_ROWS, CountRow, record
from gateway.proxy.conn cimport FOREVER, HEAD, RECV_AGAIN, RECV_END, SCRATCH, SENT_BROKEN, SENT_PART, WORTH
from gateway.proxy.exchange cimport new_exchange, recycle
from gateway.proxy.retry cimport Retries
from gateway.proxy.upstream cimport FAIL_BAD, FAIL_CONNECT, FAIL_RESET_REUSED, FAIL_TIMEOUT
from gateway.rules.actions cimport Respond
from gateway.rules.view cimport Edits, View
from gateway.wire.chunked cimport CHUNK_DATA, CHUNK_END, CHUNK_MORE, CHUNK_TRAILER, chunk_head, chunk_next, chunk_start
from gateway.wire.edit cimport (
    FRAME_CHUNKED, FRAME_CLOSE, Out, edit_interim, edit_request, edit_response, edit_trailers, edit_upgrade, out_put,
    out_reserve,
)
from gateway.wire.head cimport (
    Field, M_HEAD, R_BODY_TOO_LARGE, R_CHUNK, R_MORE, R_OK, R_PATH, R_TARGET_TOO_LONG, R_TIMEOUT, R_TOO_LARGE,
    check_start, find_end, same_any, scan_request, sentence_of, status_of,
)
from gateway.wire.mark cimport without_marks
from gateway.wire.origin cimport Provenance
from gateway.wire.target cimport normalise

from gateway.wire.pages import page, phrase
from gateway.wire.proxy_protocol import MAX_V2 as _MAX_V2, BadHeader, parse as parse_proxy

cdef extern from "<sys/socket.h>" nogil:
    enum:
        SOCK_NONBLOCK, SOCK_CLOEXEC, AF_INET, AF_INET6, MSG_PEEK
    ssize_t c_recv "recv"(int fd, void *buf, size_t n, int flags)
    cdef struct sockaddr:
        unsigned short sa_family
    cdef struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int fd, sockaddr *address, unsigned int *n, int flags)

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *address, char *to, unsigned int n)

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLET

cdef enum Phase:
    C_READY = 0             # waiting for a request head, or reading one
    C_BODY = 1              # within a request body
    C_WAIT = 2              # the request is read; the answer is due or under way
    C_FLUSH = 3             # the last answer is written, but not yet sent
    C_LINGER = 4            # said goodbye; reading away what the client still sends, lest a reset destroys the answer
    C_CLOSED = 5
    C_TUNNEL = 6            # after a 101: bytes both ways

cdef enum Waiting:
    W_NOT = 0
    W_QUEUED = 1            # in backend.waiting
    W_CALLED = 2            # it is our turn
    W_RETURNED = 3          # looking for room, after having waited

cdef enum:
    TURN = 4                # reads in a row before others get their turn
    ACCEPTS = 64            # connections accepted in a row
    PAUSE_MS = 1000         # without accepting, when descriptors have run out
    LINGER_MS = 2000
    LINGER_BYTES = 4 * 1024 * 1024
    MARGIN = 32             # the scans read a few bytes beyond the end

log = logging.getLogger(__name__)

# One head is worked on at a time in a process: these need no owner.
cdef size_t MAX_V2 = _MAX_V2
cdef int64_t LEAVING_NS = 1_000_000_000         # see _has_left
cdef int64_t QUIET_NS = 10_000_000_000          # between two log lines about clients turned away
cdef int64_t BODY_GRACE_NS = 10_000_000_000     # until body_rate counts

cdef Head _scan
cdef Out _out
cdef Out _uri
cdef Out _trailing


cdef class Listener(Conn):
    """Accept clients on a listening, non-blocking socket until `stop`."""

    def __init__(self, Hub hub, Frontend frontend, sock):
        self.hub = hub
        self.frontend = frontend
        self.socket = sock
        self.name = "%s:%s" % sock.getsockname()[:2]
        # Level-triggered: what is not accepted in one go is reported again.
        self.attach(hub.poller, sock.fileno(), EPOLLIN)

    cdef int on_input(self) except -1:
        cdef int _
        for _ in range(ACCEPTS):
            if self.fd < 0 or not self._accept_one():
                break
        return 0

    cdef int _accept_one(self) except -1:
        """Whether there may be another one to accept."""
        cdef sockaddr_storage peer
        cdef unsigned int n = sizeof(peer)
        cdef char text[64]
        cdef Client client
        cdef int fd = accept4(self.fd, <sockaddr *>&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EMFILE or errno == ENFILE:
                log.error("out of file descriptors: new clients wait for %d ms; raise the limit (ulimit -n)", PAUSE_MS)
                self.poller.watch(self, 0)
                self.deadline(PAUSE_MS)
                return False
            return errno == EINTR or errno == ECONNABORTED
        client = Client.__new__(Client)
        client.hub = self.hub
        client.listener = self
        client.frontend = self.frontend
        text[0] = 0
        if peer.ss_family == AF_INET:
            inet_ntop(AF_INET, <char *>&peer + 4, text, 64)
        elif peer.ss_family == AF_INET6:
            inet_ntop(AF_INET6, <char *>&peer + 8, text, 64)
        client.address = text
        client.gauge = self.frontend.gauge
        client.gauge.row.connections += 1
        client.gauge.row.open += 1
        try:
            client.attach(self.poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
        except OSError as error:
            log.error("cannot watch a new client: %s", error)
            client.fd = fd              # closed with the object
            client._uncount_source()
            return False
        client.deadline(self.frontend.header_ms)
        if self.frontend.gauge.row.open > self.frontend.connections:
            self._turn_away(client, "the frontend has its %d connections" % self.frontend.connections)
        elif self.frontend.proxy_protocol and self.frontend.trusts(client.address.decode()):
            client.proxied = 1
        elif self.frontend.proxy_protocol:
            self._turn_away(client, "it is none of the trusted_proxies")
        elif not client._count_source():
            self._turn_away(client, "it has its %d connections" % self.frontend.connections_per_source)
        elif self.frontend.tls is not None:
            client.start_tls(self.frontend.tls)
        return True

    def _turn_away(self, Client client, str why):
        """Close a client's connection at once; say so, but not for each."""
        cdef Gauge gauge = self.frontend.gauge
        gauge.row.turned_away += 1
        if self.poller.now - gauge.said > QUIET_NS:
            gauge.said = self.poller.now
            log.warning("%s: %s is turned away: %s", self.frontend.name, client.address.decode(), why)
        client.reset()

    cdef int on_deadline(self) except -1:
        """The pause after running out of descriptors is over."""
        self.poller.watch(self, EPOLLIN)
        return 0

    def accept_waiting(self):
        """Accept what waits in the kernel's queue now; before the socket is given up."""
        cdef int _
        for _ in range(100000):
            if self.fd < 0 or not self._accept_one():
                return

    def stop(self):
        """Accept no more. The socket object stays with its owner."""
        if self.fd >= 0:
            self.poller.forget(self)
            self.fd = -1


cdef class Client(Receiver):
    def __cinit__(self):
        self.phase = C_READY

    def __dealloc__(self):
        free(self.stash)

    def __repr__(self):
        phase = ("ready", "body", "wait", "flush", "linger", "closed", "tunnel")[self.phase]
        return f"<Client {self.address.decode()} {phase}>"

    cdef int _count_source(self) except -1:
        """Count this connection for its source; False, and not counted, if the source has enough."""
        cdef bytes source = self.address
        cdef int row
        if b":" in source:
            # Of IPv6, whoever has one address has its /64.
            source = ipaddress.ip_address(source.decode()).packed[:8]
        for row in range(SOURCE_ROWS):
            self.cells[row] = self.hub.board.source_cell(row, PyBytes_AS_STRING(source),
                                                         <uint32_t>PyBytes_GET_SIZE(source))
        if self.hub.board.from_source(self.cells) >= self.frontend.connections_per_source:
            return False
        for row in range(SOURCE_ROWS):
            self.hub.board.source_cells[self.cells[row] * MAX_WORKERS + self.hub.worker] += 1
        self.source_counted = True
        return True

    cdef int _uncount_source(self) except -1:
        cdef int row
        if self.gauge is not None:
            self.gauge.row.open -= 1
            self.gauge = None
        if self.source_counted:
            self.source_counted = False
            for row in range(SOURCE_ROWS):
                self.hub.board.source_cells[self.cells[row] * MAX_WORKERS + self.hub.worker] -= 1
        return 0

    cdef int _proxy_header(self) except -1:
        """Read the PROXY header, and nothing behind it; it comes before TLS. True: go on."""
        cdef ssize_t got = c_recv(self.fd, self.poller.scratch, MAX_V2, MSG_PEEK)
        if got < 0 and (errno == EAGAIN or errno == EINTR):
            self.readable = 0
            return False
        try:
            header = parse_proxy(self.poller.scratch[:got]) if got > 0 else None
        except BadHeader as error:
            self.listener._turn_away(self, f"no PROXY header: {error}")
            return False
        if header is None:
            self.readable = 0
            if got <= 0 or self.ended:
                self.close()
            return False
        c_recv(self.fd, self.poller.scratch, header.length, 0)
        self.proxied = 0
        if header.source is not None:
            self.address = header.source.encode()
        if not self._count_source():
            self.listener._turn_away(self, "it has its %d connections" % self.frontend.connections_per_source)
            return False
        if self.frontend.tls is not None:
            self.start_tls(self.frontend.tls)
            self.wire_readable = 1
        return True

    # ------------------------------------------------------------------------------------------------- reading requests

    cdef int on_input(self) except -1:
        if self.proxied and not self._proxy_header():
            return 0
        if self.phase == C_LINGER:
            return self._discard()
        if self.waiting == W_CALLED:
            self.waiting = W_RETURNED
            (<Backend>self.ex.backend).called = False
            self.deadline(FOREVER)
            if self.phase == C_BODY:
                self._body_patience()
            self._choose()
            if self.waiting == W_RETURNED:
                self.waiting = W_NOT
        if self.ended and self.phase == C_WAIT and not self.head_sent and self._has_left():
            return self._cancel()
        return self.feed()

    cdef bint _has_left(self) except -1:
        """Whether a FIN while the answer is due means that nobody waits for it any more.

        A script that pipes its request in half-closes at once; a FIN later is a client that has closed.
        """
        return self.poller.now - self.ex.started > LEAVING_NS

    cdef int feed(self) except -1:
        """Read and work for as long as there is something to do and somebody to take it."""
        cdef ssize_t got, used
        cdef int turn = 0
        cdef uint32_t room
        cdef void *grown
        if self.feeding:
            return 0                    # called from within; the loop below goes on
        self.feeding = 1
        try:
            while self.fd >= 0:
                if self.phase == C_READY:
                    if self.out_len:
                        return 0        # first the answer before
                elif self.phase == C_BODY:
                    if self.upstream is None or self.upstream.out_len or not self.head_taken():
                        return 0
                elif self.phase == C_TUNNEL:
                    if self.upstream.out_len or self.client_done:
                        return 0
                else:
                    return 0
                if self.stash_len and not self.stash_waits:
                    used = self._consume(self.stash + self.stash_at, self.stash_len)
                    self._uncork()
                    self._unstash(used)
                    continue
                if not self.readable:
                    return 0
                if turn == TURN:
                    return self.poller.turn_over(self)
                turn += 1
                if self.stash_len:
                    if self.stash_at:
                        memmove(self.stash, self.stash + self.stash_at, self.stash_len)
                        self.stash_at = 0
                    room = self.frontend.bounds.head + MARGIN
                    if self.stash_len + MARGIN >= room:
                        room = self.stash_len + 4096
                    if self.stash_capacity < room:
                        grown = realloc(self.stash, room)
                        if grown == NULL:
                            raise MemoryError
                        self.stash = <char *>grown
                        self.stash_capacity = room
                    got = self.recv(self.stash + self.stash_len, self.stash_capacity - MARGIN // 2 - self.stash_len)
                    if got > 0:
                        self.stash_len += <uint32_t>got
                        self.stash_waits = 0
                        continue
                elif (self.phase == C_BODY and self.body_left > WORTH and not self.chunked_request and self.ssl == NULL
                        and self.ex.replay_lost):
                    got = self.upstream.relay(self, self.body_left)
                    if got > 0:
                        self._relayed(got)
                        continue
                else:
                    got = self.recv(self.poller.scratch, HEAD if self.phase == C_READY else SCRATCH)
                    if got > 0:
                        used = self._consume(self.poller.scratch, got)
                        # The scratch buffer is read into again by whatever happens next: keep what is left of it.
                        if used < got and (self.phase <= C_WAIT or self.phase == C_TUNNEL):
                            self._stash(self.poller.scratch + used, got - used)
                        self._uncork()
                        continue
                if got == RECV_AGAIN:
                    return 0
                if got == RECV_END and self.phase == C_READY and not self.stash_len:
                    return self._close_softly()
                if got == RECV_END and self.phase == C_TUNNEL:
                    return self._tunnel_end_from_client()
                return self._cancel()
        finally:
            self.feeding = 0

    cdef bint head_taken(self) except -1:
        """Whether the request's head has gone out, so that its body may follow."""
        return self.upstream.receiver is self and not self.upstream.is_connecting()

    cdef ssize_t _consume(self, const char *p, size_t n) except -1:
        """Work on n bytes at p; how many were used up. What is put to the upstream is not committed yet."""
        cdef size_t at = 0
        cdef ssize_t used
        while at < n and self.fd >= 0:
            if self.phase == C_READY:
                if self.out_len:
                    break
                used = self._head(p + at, n - at)
                if used == 0:
                    self.stash_waits = self.phase == C_READY
                    break
            elif self.phase == C_BODY:
                if self.upstream is None or not self.head_taken():
                    break
                used = self._body(p + at, n - at)
            elif self.phase == C_TUNNEL:
                used = n - at
                self.deadline((<Backend>self.ex.backend).tunnel_ms)
                self.ex.bytes_in += used
                self.upstream.put(p + at, used)
                self.corked = 1
            else:
                break
            at += used
        return at

    cdef int _uncork(self) except -1:
        """Commit what was put to the upstream. If that fails, a retry may have put its head: hence the loop."""
        cdef int sent
        while self.corked:
            self.corked = 0
            if self.upstream is None:
                break
            sent = self.upstream.commit()
            if sent == SENT_BROKEN:
                self.upstream.send_broken()
                continue
            if sent == SENT_PART and self.phase == C_BODY:
                self.deadline(FOREVER)      # the server's turn
                self.blocked = self.poller.now
            self.upstream.patience()
        return 0

    cdef int _stash(self, const char *p, size_t n) except -1:
        """Keep n bytes; the stash is empty."""
        cdef size_t room = (n + MARGIN + 1023) & ~<size_t>1023
        cdef void *grown
        if room > self.stash_capacity:
            grown = realloc(self.stash, room)
            if grown == NULL:
                raise MemoryError
            self.stash = <char *>grown
            self.stash_capacity = <uint32_t>room
        memcpy(self.stash, p, n)
        self.stash_len = <uint32_t>n
        return 0

    cdef int _unstash(self, size_t used) except -1:
        if used >= self.stash_len:
            free(self.stash)
            self.stash = NULL
            self.stash_at = self.stash_len = self.stash_capacity = 0
        else:
            self.stash_at += <uint32_t>used
            self.stash_len -= <uint32_t>used
        return 0

    cdef ssize_t _head(self, const char *p, size_t n) except -1:
        """Look for a request head at p and start on it; the bytes it took, or 0: incomplete, or refused."""
        cdef uint32_t end = 0
        cdef int64_t body
        cdef int why
        self.frontend = self.listener.frontend
        if p[0] == 13 and not self.skipped_line:
            # One empty line before a request is ignored (RFC 9112 section 2.2).
            if n == 1:
                return 0
            if p[1] == 10:
                self.skipped_line = 1
                return 2
        if not self.head_begun:
            self.head_begun = 1
            self.deadline(self.frontend.header_ms)
        why = find_end(p, <uint32_t>n, &self.seen, &end)
        if why == R_MORE:
            why = check_start(p, <uint32_t>n, &self.frontend.bounds)
            if why == R_OK and n >= self.frontend.bounds.head:
                why = R_TOO_LARGE if self.seen else R_TARGET_TOO_LONG
            if why != R_OK:
                self._refuse(why)
            return 0
        if why == R_OK:
            why = scan_request(p, end, &_scan, &self.frontend.bounds)
        body = _scan.content_length
        if why == R_OK and body > self.frontend.body_bytes:
            why = R_BODY_TOO_LARGE
        if why != R_OK:
            self._refuse(why)
            return 0
        self.seen = 0
        self.skipped_line = self.head_begun = 0
        self.ex = new_exchange()
        self.ex.begin(p, &_scan, self.poller.now)
        self.ex.https = self.tls is not None
        self.keep = _scan.keep_alive
        self.must_close = 0
        self.head_sent = 0
        self.attempts = 0
        self.chunked_request = _scan.chunked
        self.body_left = body
        if _scan.chunked:
            chunk_start(&self.chunked)
        self.phase = C_BODY if self.ex.has_body else C_WAIT
        self.deadline(FOREVER)
        if self.ex.has_body:
            self.body_clock = self.blocked = self.poller.now
            self._body_patience()
        if self.hub.learned:
            p = without_marks(p, &_scan, self.hub.learned, &self.frontend.bounds)
        self._route(p, &_scan, body)
        return end

    cdef ssize_t _body(self, const char *p, size_t n) except -1:
        cdef const char *at = p
        cdef const char *data = NULL
        cdef size_t run = 0
        cdef char line[24]
        cdef int event
        cdef Upstream u = self.upstream
        if self.blocked:
            self.body_clock += self.poller.now - self.blocked
            self.blocked = 0
        self.corked = 1
        if not self.chunked_request:
            run = n
            if <int64_t>run > self.body_left:
                run = self.body_left
            self.body_left -= run
            self.ex.bytes_in += run
            self._put_body(u, p, run)
            if self.body_left == 0:
                self._body_done()
            else:
                self._body_patience()
            return run
        while True:
            event = chunk_next(&self.chunked, &at, p + n, &data, &run)
            if event == CHUNK_DATA:
                self.ex.bytes_in += run
                if <int64_t>self.ex.bytes_in > self.frontend.body_bytes:
                    self._refuse(R_BODY_TOO_LARGE)
                    return n
                self._put_body(u, line, chunk_head(line, run))
                self._put_body(u, data, run)
                self._put_body(u, b"\r\n", 2)
            elif event == CHUNK_TRAILER:
                out_reserve(&self.ex.trailers, run)
                out_put(&self.ex.trailers, data, <uint32_t>run)
            elif event == CHUNK_MORE:
                self._body_patience()
                return n
            elif event == CHUNK_END:
                self._put_trailers(u, &self.ex.trailers)
                self.ex.keep_body(b"0\r\n\r\n", 5)     # a retry leaves the trailers out
                self._body_done()
                return at - p
            else:
                self._refuse(R_CHUNK)
                return n

    cdef int _relayed(self, size_t n) except -1:
        """So many bytes of the body have gone to the server without passing through here."""
        if self.blocked:
            self.body_clock += self.poller.now - self.blocked
            self.blocked = 0
        self.body_left -= n
        self.ex.bytes_in += n
        if self.upstream.out_len:
            self.deadline(FOREVER)          # the server's turn
            self.blocked = self.poller.now
        else:
            self._body_patience()
        return self.upstream.patience()

    cdef int _body_patience(self) except -1:
        """Wait for more of the body: not for longer than a pause may be, nor than the slowest rate allows in all."""
        cdef int64_t ms = self.frontend.idle_ms, due
        if self.frontend.body_rate > 0:
            due = BODY_GRACE_NS + <int64_t>(self.ex.bytes_in * 1e9 / self.frontend.body_rate)
            due = (self.body_clock + due - self.poller.now) // 1000000
            ms = max(0, min(ms, due))
        self.deadline(ms)
        return 0

    cdef int _put_body(self, Upstream u, const char *p, size_t n) except -1:
        u.put(p, n)
        return self.ex.keep_body(p, n)

    cdef int _put_trailers(self, Conn to, Out *trailers) except -1:
        """Put the end of a chunked body, with those trailers that may pass."""
        _trailing.n = 0
        if trailers.n:
            edit_trailers(&_trailing, trailers.p, trailers.n)
        to.put(b"0\r\n", 3)
        to.put(_trailing.p, _trailing.n)
        to.put(b"\r\n", 2)
        return 0

    cdef int _body_done(self) except -1:
        self.phase = C_WAIT
        self.upstream.request_done = 1
        self.deadline(FOREVER)
        return 0

    # ---------------------------------------------------------------------------------------------- routing and picking

    cdef int _route(self, const char *p, Head *h, int64_t body) except -1:
        cdef const char *path = p + h.target
        cdef const char *uri = path
        cdef uint32_t path_len = h.path_len, uri_len = h.target_len
        cdef int length
        cdef View view = self.hub.view
        cdef object action
        cdef bytes lines
        cdef Respond respond
        if not h.plain_target and path_len:
            _uri.n = 0
            out_reserve(&_uri, 3 * path_len + h.target_len + 16)
            length = normalise(path, path_len, _uri.p)
            if length < 0:
                return self._refuse(R_PATH)
            path_len = length
            _uri.n = path_len
            out_put(&_uri, p + h.target + h.path_len, h.target_len - h.path_len)
            path = uri = _uri.p
            uri_len = _uri.n
        if self.provenance is None:
            self._make_origin()
        view.begin(p, h, self.provenance.secure(p, h), self.provenance.client(p, h), uri, uri_len, path_len)
        action = self.hub.routes.decide(view)
        self.ex.klass = view.klass
        if action is None:
            return self._answer_page(404, False)
        if type(action) is Backend:
            self.ex.edits = view.response_edits
            return self._forward(<Backend>action, p, h, view)
        respond = <Respond>action
        if respond.body is None:
            return self._answer_page(respond.status, False)
        lines = respond.lines
        if view.response_edits is not None:
            lines = view.response_edits.merged(lines)
        return self._answer(respond.status, lines, respond.body, False)

    cdef int _forward(self, Backend backend, const char *p, Head *h, View view) except -1:
        cdef bytes extra
        self.ex.backend = backend
        if view.request_edits is None:
            edit_request(&self.ex.upstream_head, p, h, view.uri, view.uri_len, &self.provenance.origin, NULL, 0)
        else:
            view.request_edits.leave_out(p, h)
            extra = view.request_edits.added()
            edit_request(&self.ex.upstream_head, p, h, view.uri, view.uri_len, &self.provenance.origin,
                         PyBytes_AS_STRING(extra), <uint32_t>PyBytes_GET_SIZE(extra))
        (<Retries>backend.retries).earn()
        if not (<Retries>backend.retries).repeatable(self.ex):
            self.ex.replay_lost = 1         # never to be sent again, so not to be kept
        self.ex.args.now = self.poller.now
        backend.look_at(self.ex, p, h, view)
        if backend.queue_limit and (backend.waiting or backend.called or backend.first_elsewhere(self.poller.now)):
            return self._wait(backend)      # nobody overtakes those who wait already
        return self._choose()

    cdef int _choose(self) except -1:
        """Pick a server for the exchange and go to it."""
        cdef Backend backend = <Backend>self.ex.backend
        cdef int i
        self.ex.args.now = self.poller.now
        i = backend.pick(self.ex)
        if i < 0:
            if backend.queue_limit and backend.members.waiting_helps(&self.ex.args.tried):
                return self._wait(backend)
            return self._answer_page(502 if self.attempts else 503, False)
        self._go(i, False)
        return backend.wake()               # there may be room for more than one

    cdef int _go(self, int i, bint fresh) except -1:
        """Go to server i of the exchange's backend."""
        self.ex.server = (<Backend>self.ex.backend).servers[i]
        self.ex.chosen = i
        self.ex.picked = self.poller.now
        return self._try(fresh)

    cdef int _wait(self, Backend backend) except -1:
        """Wait until a server has room."""
        if self.waiting == W_RETURNED:
            return self._queue(backend, True)
        if len(backend.waiting) >= backend.queue_limit:
            return self._answer_page(503, False)
        self.patience_ends = self.poller.now + backend.queue_ms * 1000000
        return self._queue(backend, False)

    cdef int _queue(self, Backend backend, bint first) except -1:
        place = (self.ex.started, self)
        if first:
            backend.waiting.appendleft(place)
        else:
            backend.waiting.append(place)
        self.waiting = W_QUEUED
        backend.announce()
        backend.wait_for_room(self.poller.loop)
        self.deadline(max(0, (self.patience_ends - self.poller.now) // 1000000))
        return 0

    cdef int on_turn(self) except -1:
        # Not here and now: whoever made room is in the middle of something.
        self.waiting = W_CALLED
        return self.poller.turn_over(self)

    cdef int on_moved(self, Backend backend) except -1:
        """The snapshot has changed while we wait: go to a server of the new one."""
        self.ex.belongs = backend.counterpart(<Backend>self.ex.backend, self.ex.belongs)
        self.ex.backend = backend
        self.ex.args.tried.count = 0
        return 0

    cdef int _give_up_on(self) except -1:
        """The server chosen has failed the exchange: it is not asked again."""
        cdef Exchange ex = self.ex
        self._uncount()
        if ex.args.tried.count < MAX_TRIED:
            ex.args.tried.index[ex.args.tried.count] = ex.chosen
            ex.args.tried.count += 1
        return 0

    cdef int _try(self, bint fresh) except -1:
        """Go to the server chosen; `fresh`: not over a connection that has idled."""
        cdef Server server = <Server>self.ex.server
        cdef Upstream u = None
        self.attempts += 1
        self._count(server)
        if not fresh:
            u = server.borrow()
        if u is not None:
            self.upstream = u
            return self._send_head(u)
        u = server.connect(self.poller, self, (<Backend>self.ex.backend).connect_ms)
        if u is None:
            return self.on_failure(None, FAIL_CONNECT)
        self.upstream = u
        return 0

    cdef int _send_head(self, Upstream u) except -1:
        u.begin(self, self.ex, <Backend>self.ex.backend)
        u.put(self.ex.upstream_head.p, self.ex.upstream_head.n)
        self.corked = 1
        if self.phase == C_WAIT:
            u.request_done = 1
        if self.ex.replay.n:
            u.put(self.ex.replay.p, self.ex.replay.n)
            self._uncork()                  # before more of the body can move the buffer
        if not self.feeding:
            self._uncork()                  # the head is on its way before any of the body can be
            self.feed()
            self._uncork()
        return 0

    cdef int on_connected(self, Upstream u) except -1:
        return self._send_head(u)

    cdef int on_upstream_drained(self, Upstream u) except -1:
        if self.phase == C_BODY:
            self._body_patience()
        elif self.phase == C_TUNNEL and self.client_done:
            u.shutdown()
            return self._tunnel_over()
        return self.feed()

    cdef int _make_origin(self) except -1:
        """What this connection's requests say about where they came from; made for the first one."""
        trusts = (<object>self.frontend).trusts if self.frontend.trusts(self.address.decode()) else None
        self.provenance = Provenance(self.address, self.tls is not None, self.listener.name.encode(), self.hub.via,
                                     trusts)
        return 0

    # -------------------------------------------------------------------------------------------------------- responses

    cdef int on_interim(self, Upstream u, const char *p, Head *h) except -1:
        if self.ex.minor == 0:
            return 0                    # RFC 9110 section 15.2: never to an HTTP/1.0 client
        edit_interim(&_out, p, h)
        self.put(_out.p, _out.n)
        self.commit()
        return 0

    cdef int on_head(self, Upstream u, const char *p, Head *h, int framing) except -1:
        cdef Exchange ex = self.ex
        cdef Backend backend = <Backend>ex.backend
        cdef bytes extra = self.hub.via
        cdef int i, connection = 0
        self._answered(h.status >= 500)
        if (<Retries>backend.retries).after_status(ex, h.status, self.attempts):
            self._give_up_on()
            ex.args.now = self.poller.now
            i = backend.pick(ex)
            if i >= 0:
                self.hub.board.count((<Server>ex.server).slot, self.hub.worker).failures += 1
                self._drop_upstream()
                return self._go(i, False)
            self._count(<Server>ex.server)  # nobody else: this answer is better than none
            self._answered(False)
        ex.status = h.status
        ex.answered = self.poller.now
        self.out_framing = framing
        if framing == FRAME_CHUNKED or framing == FRAME_CLOSE:
            self.out_framing = FRAME_CHUNKED if ex.minor else FRAME_CLOSE
        if (not self.keep or self.hub.draining or self.phase == C_BODY or self.out_framing == FRAME_CLOSE):
            self.must_close = 1
            connection = -1
        elif ex.minor == 0:
            connection = 1
        if ex.edits is not None:
            (<Edits>ex.edits).leave_out(p, h)
            extra = extra + (<Edits>ex.edits).added()
        if backend.reads_answers or backend.moves(ex, h.status):
            extra += backend.read_answer(ex, p, h, self.poller.now)
        edit_response(&_out, p, h, self.out_framing, connection, PyBytes_AS_STRING(extra),
                      <uint32_t>PyBytes_GET_SIZE(extra))
        self.head_sent = 1
        return self.put(_out.p, _out.n)

    cdef int on_body(self, Upstream u, const char *p, size_t n) except -1:
        cdef char line[24]
        self.ex.bytes_out += n
        if self.phase == C_TUNNEL:
            self.deadline((<Backend>self.ex.backend).tunnel_ms)
        if self.out_framing == FRAME_CHUNKED:
            self.put(line, chunk_head(line, n))
            self.put(p, n)
            self.put(b"\r\n", 2)
        else:
            self.put(p, n)
        return 0

    cdef int on_relayed(self, Upstream u, size_t n) except -1:
        self.ex.bytes_out += n
        return 0

    cdef int on_read_end(self, Upstream u) except -1:
        if self.out_framing == FRAME_CHUNKED:
            self._put_trailers(self, &self.ex.response_trailers)
        self.commit_last() if self.must_close else self.commit()
        return 0

    cdef int on_trailers(self, Upstream u, const char *p, size_t n) except -1:
        if self.out_framing == FRAME_CHUNKED:
            out_reserve(&self.ex.response_trailers, n)
            out_put(&self.ex.response_trailers, p, <uint32_t>n)
        return 0

    # ---------------------------------------------------------------------------------------------------------- tunnels

    cdef int on_upgrade(self, Upstream u, const char *p, Head *h) except -1:
        """The server agrees to another protocol (RFC 9110 section 7.8): it must be the one the client asked for."""
        cdef Exchange ex = self.ex
        cdef Backend backend = <Backend>ex.backend
        cdef Field *protocol = &h.fields[h.upgrade_field]
        cdef bytes extra = self.hub.via
        if (protocol.value_len != ex.upgrade.n
                or not same_any(p + protocol.value, ex.head.p + ex.upgrade.at, ex.upgrade.n) or ex.upgrade.n == 0):
            return u.fail(FAIL_BAD)
        self._answered(False)
        ex.status = 101
        ex.answered = self.poller.now
        if backend.reads_answers or backend.moves(ex, 101):
            extra += backend.read_answer(ex, p, h, self.poller.now)
        edit_upgrade(&_out, p, h, PyBytes_AS_STRING(extra), <uint32_t>PyBytes_GET_SIZE(extra))
        self.head_sent = 1
        self.out_framing = FRAME_CLOSE
        self.client_done = self.server_done = 0
        self.phase = C_TUNNEL
        self.deadline(backend.tunnel_ms)
        self.put(_out.p, _out.n)
        self.commit()
        # What the client has sent ahead has been waiting for this; and still does, until the scratch buffer is free.
        return self.poller.turn_over(self)

    cdef int _tunnel_end_from_client(self) except -1:
        """The client has sent its last byte; the other direction goes on."""
        self.client_done = 1
        if not self.upstream.out_len:
            self.upstream.shutdown()
        return self._tunnel_over()

    cdef int on_tunnel_end(self, Upstream u) except -1:
        self.server_done = 1
        if not self.out_len:
            self.shutdown()
        return self._tunnel_over()

    cdef int _tunnel_over(self) except -1:
        if not (self.client_done and self.server_done) or self.out_len or self.upstream.out_len:
            return 0
        self._drop_upstream()
        self._finish(False)
        return self.close()

    cdef int on_end(self, Upstream u) except -1:
        self.upstream = None
        self._finish(self.ex.status >= 500)
        return self._after()

    cdef int on_blocked(self) except -1:
        """The client does not take its answer: it has a limited time to go on."""
        if self.phase != C_TUNNEL:
            self.deadline(self.frontend.idle_ms)
        return 0

    cdef int on_drained(self) except -1:
        if self.phase == C_FLUSH:
            return self._close_softly()
        if self.phase == C_TUNNEL:
            if self.server_done:
                self.shutdown()
                return self._tunnel_over()
            return self.upstream.drive()
        if self.upstream is not None:
            if not self.upstream.is_connecting():
                self.deadline(FOREVER)
                if self.phase == C_BODY:
                    self._body_patience()
                self.upstream.patience()
                self.upstream.drive()
            return 0
        if self.phase == C_READY:
            self.deadline(self.frontend.idle_ms)
            self.feed()
        return 0

    cdef int on_failure(self, Upstream u, int failure) except -1:
        """The server failed the exchange; whether it is tried again, Retries decides."""
        cdef Exchange ex = self.ex
        self.upstream = None
        self.corked = 0
        self.hub.board.count((<Server>ex.server).slot, self.hub.worker).failures += 1
        if failure != FAIL_RESET_REUSED:    # which says nothing about the server
            self._answered(True)
        if self.head_sent:
            # The client has part of an answer; only a broken connection tells it that the rest is missing.
            self._finish(False)
            return self.reset()
        if (<Retries>(<Backend>ex.backend).retries).after_failure(ex, failure, self.attempts):
            if failure == FAIL_RESET_REUSED:
                self._uncount()
                return self._try(True)      # the connection was too old
            self._give_up_on()
            return self._choose()
        self._uncount()
        return self._answer_page(504 if failure == FAIL_TIMEOUT else 502, False)

    cdef int _answer_page(self, int status, bint close) except -1:
        lines, body = self.hub.pages[status]
        return self._answer(status, lines, body, close)

    cdef int _answer(self, int status, bytes lines, bytes body, bint close) except -1:
        """Answer the exchange from here; `lines` are complete header lines."""
        cdef Exchange ex = self.ex
        cdef bytes head
        if close or not self.keep or self.hub.draining or self.phase == C_BODY:
            self.must_close = 1
        ex.status = status
        head = b"HTTP/1.1 %d %s\r\n%s%s" % (status, phrase(status).encode(), self.hub.date(), lines)
        if status != 204 and status != 304:
            head += b"Content-Length: %d\r\n" % len(body)
        if self.must_close:
            head += b"Connection: close\r\n\r\n"
        elif ex.minor == 0:
            head += b"Connection: keep-alive\r\n\r\n"
        else:
            head += b"\r\n"
        if ex.method_code != M_HEAD:
            head += body
            ex.bytes_out = len(body)
        self.put(PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        self.commit_last() if self.must_close else self.commit()
        self._finish(False)
        return self._after()

    cdef int _refuse(self, int reason) except -1:
        """The request is not one: say why, log it, hear nothing more from this client."""
        cdef int status = status_of(reason)
        cdef bytes body
        self._drop_upstream()
        if self.head_sent:
            self.ex.status = status
            self._finish(False)
            return self.reset()
        if self.ex is None:
            self.ex = new_exchange()
            self.ex.begin_nameless(self.poller.now)
            self.ex.https = self.tls is not None
        self.phase = C_WAIT
        self.stash_waits = 0
        self._unstash(self.stash_len)
        lines, body = self.hub.pages[status]
        if status not in self.hub.custom_pages:
            body = page(status, sentence_of(reason))
        return self._answer(status, lines, body, True)

    # --------------------------------------------------------------------------------------------------------- the end

    cdef int _count(self, Server server) except -1:
        self.ex.ahead = self.hub.board.total_in_flight(server.slot, (<Backend>self.ex.backend).members.workers)
        self.hub.board.in_flight_cells[server.slot * MAX_WORKERS + self.hub.worker] += 1
        begin(self.hub.board.timing(server.slot, self.hub.worker), self.ex.picked)
        self.ex.counted = self.ex.timed = True
        return 0

    cdef int _answered(self, bint failed) except -1:
        """The server has begun to answer, or has failed to: what it took tells how it is doing."""
        cdef Exchange ex = self.ex
        if ex.timed:
            ex.timed = False
            answer(self.hub.board.timing((<Server>ex.server).slot, self.hub.worker), self.poller.now, ex.picked,
                   ex.ahead, failed)
        return 0

    cdef int _uncount(self) except -1:
        if self.ex.counted:
            self.ex.counted = False
            if self.ex.timed:
                self.ex.timed = False
                give_up(self.hub.board.timing((<Server>self.ex.server).slot, self.hub.worker), self.poller.now,
                        self.ex.picked, self.ex.ahead)
            self.hub.board.in_flight_cells[(<Server>self.ex.server).slot * MAX_WORKERS + self.hub.worker] -= 1
            (<Backend>self.ex.backend).wake()
        return 0

    cdef int _finish(self, bint failed) except -1:
        """The exchange is over, however it ended. Runs exactly once for each."""
        cdef Exchange ex = self.ex
        cdef CountRow *row
        cdef int64_t now = self.poller.now
        self._uncount()
        self._passed(now)
        if ex.server is not None:
            row = self.hub.board.count((<Server>ex.server).slot, self.hub.worker)
            row.requests += 1
            row.failures += failed
            row.busy_seconds += (now - ex.picked) * 1e-9
            row.bytes_in += ex.bytes_in
            row.bytes_out += ex.bytes_out
        if self.hub.log is not None:
            self.hub.log.add(ex, PyBytes_AS_STRING(self.address), <uint32_t>PyBytes_GET_SIZE(self.address), now)
        self.ex = None
        self.head_sent = 0              # nothing of an exchange may be taken for the next one's
        recycle(ex)
        return 0

    cdef void _passed(self, int64_t now) noexcept:
        """Count the exchange for its frontend, by the whole time it took, and for its backend, until that answered."""
        cdef Exchange ex = self.ex
        cdef int64_t end = ex.answered if ex.status == 101 else now     # when a tunnel ends says nothing of speed
        record(self.frontend.gauge.row, ex.status, end - ex.started, ex.bytes_in, ex.bytes_out)
        if ex.backend is not None:
            record(self.hub.board.traffic((<Backend>ex.backend).traffic, self.hub.worker), ex.status,
                   (ex.answered or now) - ex.started, ex.bytes_in, ex.bytes_out)

    cdef int _after(self) except -1:
        """The answer has been written: go on with the next request, or say goodbye."""
        if self.fd < 0:
            return 0
        if self.must_close:
            if self.out_len:
                self.phase = C_FLUSH
                self.deadline(self.frontend.idle_ms)
                return 0
            return self._close_softly()
        self.phase = C_READY
        self.deadline(self.frontend.idle_ms)
        if self.stash_len or self.readable:
            self.feed()
        return 0

    cdef int _drop_upstream(self) except -1:
        cdef Upstream u = self.upstream
        if self.waiting:
            if self.waiting == W_QUEUED:
                (<Backend>self.ex.backend).waiting.remove((self.ex.started, self))
                (<Backend>self.ex.backend).announce()
            elif self.waiting == W_CALLED:
                (<Backend>self.ex.backend).called = False
                (<Backend>self.ex.backend).wake()
            self.waiting = W_NOT
        if self.corked:
            self.poller.forget_pieces()
            self.corked = 0
        self.upstream = None
        if u is not None:
            u.abandon()
        return 0

    cdef int _cancel(self) except -1:
        """The client is gone: so is its request."""
        self._drop_upstream()
        if self.ex is not None:
            if not self.head_sent:
                self.ex.status = 499
            self._finish(False)
        return self.close()

    cdef int _close_softly(self) except -1:
        """Close after everything has been sent, without a reset that could overtake the answer."""
        self.shutdown()
        if self.ended and not self.readable and not self.stash_len:
            return self.close()
        self._unstash(self.stash_len)
        self.phase = C_LINGER
        self.body_left = LINGER_BYTES
        self.deadline(LINGER_MS)
        return self._discard()

    cdef int _discard(self) except -1:
        cdef ssize_t got
        while self.fd >= 0 and self.readable:
            got = self.recv(self.poller.scratch, SCRATCH)
            if got == RECV_AGAIN:
                return 0
            self.body_left -= got
            if got <= 0 or self.body_left <= 0:
                return self.close()
        return 0

    cdef int on_broken(self) except -1:
        return self._cancel()

    cdef int on_deadline(self) except -1:
        if self.waiting == W_QUEUED or self.waiting == W_CALLED:
            self._drop_upstream()
            return self._answer_page(503, False)
        if self.phase == C_READY and not self.out_len and self.head_begun:
            return self._refuse(R_TIMEOUT)
        if self.phase == C_BODY and not self.head_sent:
            return self._refuse(R_TIMEOUT)
        if self.ex is not None or self.out_len:
            self._drop_upstream()
            if self.ex is not None:
                self._finish(False)
            return self.reset()
        return self.close()

    cdef int retire(self) except -1:
        """The worker drains: close now if nothing is under way, else after the answer."""
        if self.phase == C_READY and not self.stash_len and not self.out_len and not self.readable:
            self._close_softly()
        return 0

    cdef int close(self) except -1:
        self.phase = C_CLOSED
        self._uncount_source()
        return Conn.close(self)


def retire_clients(Poller poller):
    """Tell every client's connection that the worker drains; how many are still there."""
    cdef int fd, left = 0
    for fd in range(poller.highest + 1):
        if fd <= poller.highest and poller.table[fd] != NULL and isinstance(<object>poller.table[fd], Client):
            (<Client>poller.table[fd]).retire()
            if poller.table[fd] != NULL:
                left += 1
    return left
