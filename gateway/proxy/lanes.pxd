from libc.stdint cimport int64_t
from gateway.balance.policy cimport Members
from gateway.board cimport Board
from gateway.proxy.overload cimport Overload
from gateway.proxy.qos_class cimport QosClass

cdef enum:
    MOST_LANES = 64         # of a queue: one for each class, and the last for work without one
    NO_CLASS = MOST_LANES - 1

cdef class Lanes:
    """The classes of a snapshot at one backend: which of them goes first, and which may not go now."""
    cdef Board board
    cdef Members members
    cdef Overload overload              # or None
    cdef int worker
    cdef int workers
    cdef list classes                   # QosClass by lane
    cdef dict lane_by_name
    cdef int[MOST_LANES] rows           # of the Board, for those that have a share; -1: none
    cdef double[MOST_LANES] shares

    cdef int rank(self, int lane) noexcept
    cdef int lane_of(self, str name) except -1
    cdef QosClass klass(self, int lane)
    cdef void count(self, int lane, int change) noexcept
    cdef double _places(self, int lane) noexcept
