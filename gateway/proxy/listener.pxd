from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from gateway.proxy.conn cimport Conn, Handler
from gateway.proxy.worker_context cimport Frontend, Gauge, WorkerContext
from gateway.proxy.server cimport ServerConn

cdef class Listener(Conn):
    """A listening socket of this worker."""
    cdef WorkerContext context
    cdef public Frontend frontend
    cdef readonly object socket
    cdef readonly str name
    cdef int64_t said                   # when the limit on clients was last logged, in ns

    cdef int _accept_one(self) except -1
    cdef int _pause(self, str why) except -1
    cdef int turn_away(self, ClientConn client, str why) except -1

cdef class ClientConn(Conn):
    """A client's connection: counted for its frontend and its source until it is closed."""
    cdef WorkerContext context
    cdef Listener listener
    cdef Gauge gauge                    # counts this connection
    cdef uint32_t cells[2]              # of the Board, for its source
    cdef bint source_counted
    cdef bytes address                  # of the client, as text
    cdef uint16_t port                  # of the client
    cdef ServerConn own                 # private to this client, and closed with it; None: none

    cdef int admit(self) except -1
    cdef bytes _source(self)
    cdef bint _may_negotiate(self) except -1
    cdef int _count_source(self) except -1
    cdef int _uncount(self) except -1
    cdef int _note_failed_handshake(self) except -1

cdef class ProxyHeader(Handler):
    """Reads the PROXY header that a trusted proxy sends first, and nothing after it; it precedes TLS."""
