from libc.stdint cimport int64_t, uint8_t, uint64_t
from gateway.board cimport Board
from gateway.proxy.conn cimport Conn, Poller, Work

cdef class Server:
    """One server of a backend: its address, its idle connections, its row on the Board."""
    cdef readonly str backend
    cdef readonly str name
    cdef readonly object address        # (host, port), or a path
    cdef bytes log_name
    cdef readonly bytes token           # stands for the server in affinity cookies
    cdef readonly int slot
    cdef readonly uint64_t opened
    cdef readonly uint64_t reused
    cdef int idle                       # connections without a request
    cdef ServerConn last                # the one used last; the others follow
    cdef Board board
    cdef int worker
    cdef bytes sockaddr
    cdef bytes other                    # the same of localhost in its other family; None: it has none
    cdef bint gone                      # not in the site file any more: pool nothing
    cdef int error                      # errno of a `connect` that returned None
    cdef dict said                      # when a failure was last told, by its outcome: (ns, how many since)

    cdef void rest(self, ServerConn conn) noexcept
    cdef void leave(self, ServerConn conn) noexcept
    cdef ServerConn borrow(self)
    cdef bint turn(self, int error) noexcept
    cdef ServerConn connect(self, Poller poller, Work work)

# What a connection to a server is doing.
cdef enum ServerConnState:
    S_CONNECTING = 0
    S_BUSY = 1              # its handler has it
    S_IDLE = 2              # in the pool
    S_CLOSED = 3

cdef class ServerConn(Conn):
    """A connection to a server, on its way from connect to close, in the pool in between.

    The caller that gets it busy (borrow, on_connected) sets its handler before the event is over, and gives it back by
    `rest`, or closes it.
    """
    cdef readonly Server server
    cdef ServerConn older, newer        # idle connections to the same server
    cdef bint resting                   # among them
    cdef Work work                      # who waits for it while it connects
    cdef uint8_t state
    cdef uint8_t served                 # how many requests it has carried, up to 255
    cdef uint8_t fin                    # its FIN has come, or (Unix) recv tells a reset from an end whatever was before
    cdef uint8_t private                # authenticated as a whole: one client's alone from now on

    cdef int become(self, int state) except -1
    cdef int rest(self, int64_t ms) except -1
    cdef int rest_apart(self, int64_t ms) except -1
    cdef bint take(self) except -1
    cdef int _connect_failed(self, int error) except -1
