from libc.stdint cimport int64_t
from gateway.balance.policy cimport PickArgs
from gateway.proxy.backend cimport Backend
from gateway.proxy.conn cimport Poller, Work
from gateway.proxy.server cimport Server, ServerConn

cdef class Attempt:
    """The tries of one piece of work at the servers of a backend. Independent of the protocol."""
    cdef Backend backend                # or None
    cdef Server server                  # of the current try, or None
    cdef int chosen                     # its index in the backend
    cdef int belongs                    # index of the server that affinity requires; -1: none
    cdef int bound                      # index of the server to which the client has a private connection; -1: none
    cdef PickArgs args                  # for the balancing policy
    cdef int tries
    cdef bint turned                    # this try uses the server's other address
    cdef int64_t picked                 # monotonic, in ns
    cdef int64_t asked                  # when the server had the whole request, as far as known; in the same unit
    cdef int ahead                      # requests that were in flight at the server before this one
    cdef bint counted                   # in flight at the server
    cdef bint timed                     # the response time is being measured
    cdef int cause                      # of the next try, as Cause of retry.pxd; -1: it is the first
    cdef ServerConn connecting          # being opened, or None

    cdef void reset(self) noexcept
    cdef int begin(self, Backend backend) except -1
    cdef int move(self, Backend backend) except -1
    cdef int pick(self, int64_t now) except -2
    cdef ServerConn go(self, int i, bint fresh, ServerConn own, Poller poller, Work work)
    cdef bint turn(self, int error, int64_t now) except -1
    cdef int answered(self, bint failed, int64_t now) except -1
    cdef int count_failure(self) except -1
    cdef int give_up(self, int64_t now) except -1
    cdef int release(self, int64_t now) except -1
    cdef int stay(self) except -1
    cdef int _count(self) except -1
