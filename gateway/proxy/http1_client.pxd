from libc.stdint cimport int64_t, uint8_t, uint32_t
from gateway.proxy.conn cimport Conn
from gateway.proxy.linger cimport Linger
from gateway.proxy.worker_context cimport ClientProtocol, Frontend, WorkerContext
from gateway.proxy.listener cimport ClientConn
from gateway.proxy.transaction cimport Downstream
from gateway.wire.chunked cimport Chunked

cdef enum Phase:
    C_HEAD = 0              # between requests, or within the head of one
    C_BODY                  # within a request's body
    C_WAIT                  # the request has been read; its response is due or in progress
    C_FLUSH                 # the last response has been written, but not yet sent
    C_LINGER                # nothing more is written; input is discarded: a reset would destroy what is not yet read
    C_TUNNEL                # the connection is part of a tunnel
    C_PHASES

# State of one request and its response: zeroed when its head has been read.
cdef struct ClientExchange:
    uint8_t keep            # the client wants the connection kept
    uint8_t close           # close it after the response
    uint8_t minor           # of the request's HTTP/1.minor
    uint8_t is_head         # the method is HEAD
    uint8_t chunked         # the request's body
    uint8_t framing         # of the response body
    int64_t left            # of a body of known length
    Chunked decoder

# Progress of reading a head: zeroed when the head is complete.
cdef struct HeadProgress:
    uint32_t seen
    uint8_t begun           # its first byte has arrived
    uint8_t skipped_line    # an empty line before it has been read

cdef class Http1Downstream(Downstream):
    """HTTP/1 on a client's connection: one request at a time, in order."""
    cdef ClientConn conn
    cdef WorkerContext context
    cdef Frontend frontend              # of the current request, or of the one before
    cdef uint8_t phase
    cdef uint8_t reading                # `read` is running
    cdef uint8_t held_short             # the held data is not a complete head yet
    cdef uint8_t fin_seen
    cdef int64_t whole                  # when the whole request had been read
    cdef uint8_t torn                   # the last response was truncated, which only a reset shows to the client
    cdef uint8_t leaving                # will be closed, whatever its transaction's result
    cdef HeadProgress progress
    cdef ClientExchange r
    cdef char *held                     # read, but not used yet
    cdef uint32_t held_at
    cdef uint32_t held_len
    cdef uint32_t held_capacity
    cdef Linger linger

    cdef int _enter(self, int phase) except -1
    cdef int read(self) except -1
    cdef ssize_t _consume(self, const char *p, size_t n) except -1
    cdef ssize_t _head(self, const char *p, size_t n) except -1
    cdef ssize_t _body(self, const char *p, size_t n) except -1
    cdef int _body_end(self) except -1
    cdef int _refuse(self, int reason) except -1
    cdef int _make_provenance(self) except -1
    cdef int _say_goodbye(self) except -1
    cdef int _discard(self) except -1
    cdef bint _body_lost(self) noexcept
    cdef bint _cut_shows_by_reset(self) noexcept
    cdef int _client_left(self) except -1
    cdef int _hold(self, const char *p, size_t n) except -1
    cdef int _unhold(self, size_t used) except -1
    cdef ssize_t _read_held(self) except? -9

cdef class Http1ClientProtocol(ClientProtocol):
    pass

cdef Http1Downstream open_http1(ClientConn conn, WorkerContext context)
