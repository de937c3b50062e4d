from libc.stdint cimport int64_t, uint64_t
from gateway.proxy.qos_class cimport QosClass
from gateway.rules.rate_limit cimport RateLimit
from gateway.rules.view cimport View
from qos.rates cimport RateTable

cdef class Admission:
    """Whether a request may proceed now, by the rate limits of its class and its routes."""
    cdef readonly RateTable rates       # shared by all workers
    # Results for the last request:
    cdef RateLimit limit                # the limit that refuses or delays it
    cdef int64_t wait                   # if refused: ns until it might proceed
    cdef bint over                      # over a limit with dry_run

    cdef int64_t charge(self, View view, QosClass klass, int64_t now, bint patient) except -2
    cdef int64_t _take(self, RateLimit limit, uint64_t key, int64_t now, bint patient) except -2
    cdef int _give_back(self, list charges, int count) except -1
