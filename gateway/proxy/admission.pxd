from libc.stdint cimport int64_t, uint64_t
from gateway.proxy.qos_class cimport QosClass
from gateway.rules.rate_limit cimport RateLimit
from gateway.rules.view cimport View
from qos.rates cimport RateTable

cdef class Admission:
    """Whether a request may go on now, by the rates of its class and of its routes."""
    cdef readonly RateTable rates       # of all workers
    # of the request that was asked about last:
    cdef RateLimit limit                # that refuses or delays it
    cdef int64_t wait                   # if it is refused: ns until it might go
    cdef bint over                      # over a limit that only counts

    cdef int64_t charge(self, View view, QosClass klass, int64_t now, bint patient) except -2
    cdef int64_t _take(self, RateLimit limit, uint64_t key, int64_t now, bint patient) except -2
    cdef int _give_back(self, list charges, int count) except -1
