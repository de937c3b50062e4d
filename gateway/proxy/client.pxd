from libc.stdint cimport int64_t, uint8_t, uint32_t
from gateway.proxy.conn cimport Conn, Poller
from gateway.proxy.exchange cimport Exchange
from gateway.proxy.hub cimport Frontend, Gauge, Hub
from gateway.proxy.upstream cimport Backend, Receiver, Server, Upstream
from gateway.rules.view cimport View
from gateway.wire.chunked cimport Chunked
from gateway.wire.edit cimport Out
from gateway.wire.head cimport Head
from gateway.wire.origin cimport Provenance

cdef class Listener(Conn):
    """A listening socket of this worker."""
    cdef Hub hub
    cdef public Frontend frontend
    cdef readonly object socket
    cdef readonly str name

    cdef int _accept_one(self) except -1

cdef class Client(Receiver):
    """A client's connection: one exchange at a time, in order."""
    cdef Hub hub
    cdef Listener listener
    cdef Frontend frontend              # of the request under way
    cdef Gauge gauge                    # counts this connection
    cdef uint32_t cells[2]              # of the Board, for its source
    cdef bint source_counted
    cdef uint8_t proxied                # a PROXY header is due
    cdef Exchange ex
    cdef Upstream upstream
    cdef bytes address                  # of the client, as text
    cdef Provenance provenance          # None before the first request
    cdef uint8_t phase
    cdef uint8_t feeding
    cdef uint8_t corked                 # something has been put to the upstream and not committed
    cdef uint8_t keep                   # the client wants the connection kept
    cdef uint8_t must_close
    cdef uint8_t head_sent              # of the response
    cdef uint8_t out_framing
    cdef uint8_t chunked_request
    cdef uint8_t stash_waits            # the stash is no complete head yet
    cdef uint8_t skipped_line
    cdef uint8_t head_begun             # the first byte of a request has come
    cdef uint8_t attempts
    cdef uint8_t waiting                # for a server to have room: W_*
    cdef uint8_t client_done            # within a tunnel: the client has sent its last byte
    cdef uint8_t server_done
    cdef int64_t body_left
    cdef int64_t body_clock             # when the body would have begun if the server had never kept it waiting, in ns
    cdef int64_t blocked                # since when the server does, in ns; 0: it does not
    cdef int64_t patience_ends          # while waiting for room: monotonic, in ns
    cdef Chunked chunked
    cdef char *stash                    # read, but not used up yet
    cdef uint32_t stash_at
    cdef uint32_t stash_len
    cdef uint32_t stash_capacity
    cdef uint32_t seen

    cdef int _count_source(self) except -1
    cdef int _uncount_source(self) except -1
    cdef int _proxy_header(self) except -1
    cdef int _body_patience(self) except -1
    cdef int feed(self) except -1
    cdef ssize_t _consume(self, const char *p, size_t n) except -1
    cdef ssize_t _head(self, const char *p, size_t n) except -1
    cdef ssize_t _body(self, const char *p, size_t n) except -1
    cdef int _body_done(self) except -1
    cdef int _relayed(self, size_t n) except -1
    cdef int _tunnel_end_from_client(self) except -1
    cdef int _tunnel_over(self) except -1
    cdef int _put_trailers(self, Conn to, Out *trailers) except -1
    cdef int _uncork(self) except -1
    cdef int _stash(self, const char *p, size_t n) except -1
    cdef int _unstash(self, size_t used) except -1
    cdef int _route(self, const char *p, Head *h, int64_t body) except -1
    cdef int _forward(self, Backend backend, const char *p, Head *h, View view) except -1
    cdef int _choose(self) except -1
    cdef bint head_taken(self) except -1
    cdef bint _has_left(self) except -1
    cdef int _drop_upstream(self) except -1
    cdef int _try(self, bint fresh) except -1
    cdef int _go(self, int i, bint fresh) except -1
    cdef int _wait(self, Backend backend) except -1
    cdef int _queue(self, Backend backend, bint first) except -1
    cdef int _give_up_on(self) except -1
    cdef int _put_body(self, Upstream u, const char *p, size_t n) except -1
    cdef int _send_head(self, Upstream u) except -1
    cdef int _make_origin(self) except -1
    cdef int _count(self, Server server) except -1
    cdef int _answered(self, bint failed) except -1
    cdef int _uncount(self) except -1
    cdef int _finish(self, bint failed) except -1
    cdef void _passed(self, int64_t now) noexcept
    cdef int _after(self) except -1
    cdef int _answer(self, int status, bytes lines, bytes body, bint close) except -1
    cdef int _answer_page(self, int status, bint close) except -1
    cdef int _refuse(self, int reason) except -1
    cdef int _cancel(self) except -1
    cdef int _close_softly(self) except -1
    cdef int _discard(self) except -1
    cdef int retire(self) except -1
