from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from gateway.proxy.backend cimport ServerProtocol
from gateway.proxy.server cimport ServerConn
from gateway.proxy.transaction cimport Upstream
from gateway.wire.chunked cimport Chunked

cdef enum Reading:
    U_NOTHING = 0           # no request is in progress
    U_HEAD                  # the head of the response has not arrived yet
    U_BODY                  # within its body

# State of one request and its response: zeroed when the next one begins.
cdef struct ServerExchange:
    uint8_t reading         # Reading
    uint8_t method
    uint8_t framing         # of the response body
    uint8_t keep            # the connection may be reused after it
    uint8_t interims
    uint8_t chunked         # the request body is sent in chunks
    uint8_t has_body
    uint8_t done            # the whole request has been put
    uint8_t send_failed
    uint8_t torn            # perhaps by a reset, whose error the failed send has consumed
    int64_t left            # of a body of known length
    Chunked decoder
    uint32_t seen

cdef class Http1Upstream(Upstream):
    """HTTP/1.1 on a connection to a server."""
    cdef ServerConn conn
    cdef ServerExchange r
    cdef int64_t idle_ms
    cdef char *partial                  # an incomplete response head
    cdef uint32_t partial_len

    cdef int read(self) except -1
    cdef int _input(self, const char *p, size_t n) except -1
    cdef int _head(self, const char *p, size_t n, size_t *used) except -1
    cdef int _body(self, const char *p, size_t n, size_t *used) except -1
    cdef int _end(self, size_t excess) except -1
    cdef int _fail(self, int outcome, int64_t detail) except -1
    cdef int _drop(self) except -1
    cdef int _keep_partial(self, const char *p, size_t n) except -1
    cdef int _free_partial(self) except -1

cdef class Http1ServerProtocol(ServerProtocol):
    pass
