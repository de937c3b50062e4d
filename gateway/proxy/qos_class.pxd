from libc.stdint cimport int64_t, uint8_t, uint64_t
from gateway.board cimport Board
from gateway.rules.rate_limit cimport RateLimit
from qos.rates cimport Rate, RateTable

cdef enum Admits:
    ADMITS_BY_LIMITS = 0
    ADMITS_ALWAYS
    ADMITS_NEVER

cdef class QosClass:
    """A class of requests in one worker and snapshot."""
    cdef readonly str name
    cdef bytes log_name
    cdef Board board
    cdef int worker
    cdef int workers                    # number of workers whose cells of the Board are summed
    cdef int traffic                    # its row of the Board
    cdef uint8_t admits
    cdef readonly int priority          # 0 is first
    cdef int lane                       # in the queues of backends
    cdef RateLimit limit                # or None
    cdef readonly int64_t concurrency   # requests at servers; 0: no limit
    cdef readonly bint dry_run          # its limits only count
    cdef readonly int64_t bandwidth     # bytes per second of each answer; 0: any number
    cdef readonly int64_t total_bandwidth   # bytes per second of all its responses together; 0: no limit
    cdef RateTable rates                # shared by all workers; counts those bytes
    cdef uint64_t bytes_key             # their key there
    cdef readonly str text              # its limits, human-readable

    cdef int64_t in_flight(self) noexcept nogil
    cdef bint full(self) noexcept nogil
    cdef void enter(self) noexcept nogil
    cdef void leave(self) noexcept nogil
    cdef int64_t reserve(self, int64_t count, int64_t now) noexcept nogil
    cdef void give_back(self, int64_t count) noexcept nogil
    cdef Rate _of(self, int64_t count) noexcept nogil
