from libc.stdint cimport uint64_t
from gateway.proxy.backend cimport Backend
from qos.headroom cimport Busy

cdef class ServerRoom:
    """How busy the servers of a backend are, over all workers; for `max: auto` of sessions."""
    cdef Backend backend
    cdef double seconds                 # that a request takes, smoothed; 0: unknown
    cdef uint64_t requests              # sums at the last measurement
    cdef double busy_seconds

    cdef int measure(self, Busy *busy) except -1
    cdef int _learn_seconds(self) except -1
