from libc.stdint cimport int64_t, uint8_t, uint64_t
from gateway.proxy.conn cimport Conn, Handler, Work

# How a tunnel ended.
cdef enum End:
    END_DONE = 0            # both sides have sent their FIN, and have received all data of the other
    END_IDLE                # no data for too long
    END_CUT_BY_FIRST        # one side has reset its connection
    END_CUT_BY_SECOND
    END_STOPPED             # the worker ends

cdef enum:
    NO_SOCKET = 0x7FFFFFFF  # in place of a descriptor: that side is a stream of a connection that others share

cdef class Tunnel(Handler):
    """Copies bytes between two connections, both ways, without interpreting them."""
    cdef Conn first
    cdef Conn second
    cdef Work work
    cdef int64_t idle_ms
    cdef readonly uint64_t from_first
    cdef readonly uint64_t from_second
    cdef uint8_t first_done             # it has sent its last byte
    cdef uint8_t second_done
    cdef uint8_t first_deaf             # it takes no more data: its earlier data is passed on, then the tunnel ends
    cdef uint8_t second_deaf
    cdef uint8_t bulk                   # the last read filled the buffer: splice the next bytes
    cdef uint8_t copies                 # a side is a stream: nothing can be spliced
    cdef uint8_t over

    cdef int begin(self) except -1
    cdef int give_first(self, const char *p, size_t n) except -1
    cdef int give_second(self, const char *p, size_t n) except -1
    cdef int on_reader_ready(self) except -1
    cdef int end(self, int how) except -1
    cdef int abandon(self) except -1
    cdef int _pump(self, Conn source, Conn to) except -1
    cdef int _done(self, Conn source, Conn to) except -1
    cdef int _look_over(self) except -1
