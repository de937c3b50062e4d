from libc.stdint cimport int64_t
from gateway.balance.policy cimport Members
from gateway.board cimport Board
from gateway.rules.request_key cimport RequestKey
from qos.concurrency cimport Limit

cdef class Overload:
    """`qos.overload` at one backend: the concurrency limit of its servers, and which waiting requests are shed."""
    cdef Board board
    cdef Members members
    cdef int traffic                    # the backend's row of the Board
    cdef int worker
    cdef int workers                    # number of workers whose cells of the Board are summed
    cdef readonly int64_t concurrency   # requests at once; 0: no limit, unless it is adaptive
    cdef readonly bint adaptive
    cdef readonly int64_t target        # longest acceptable wait in ns; 0: no limit
    cdef readonly bint newest_first     # under overload, in a lane
    cdef readonly RequestKey fair_by    # or None

    cdef bint full(self, int64_t now) noexcept
    cdef double places(self) noexcept
    cdef bint probing(self) noexcept
    cdef int64_t in_flight(self) noexcept
    cdef void enter(self) noexcept
    cdef void leave(self) noexcept
    cdef void answered(self, int64_t took, bint failed) noexcept
    cdef void _look(self, Limit *state, int64_t now) noexcept
