from libc.stdint cimport int64_t, uint8_t, uint64_t
from gateway.rules.actions cimport Step
from gateway.rules.request_key cimport RequestKey
from gateway.rules.view cimport View
from qos.rates cimport Rate

cdef class RateLimit:
    """One `rate:` of a site file."""
    cdef readonly str name              # for clients and logs
    cdef readonly str text              # human-readable
    cdef readonly bint dry_run
    cdef Rate rate
    cdef int64_t max_delay               # ns that a request may be delayed
    cdef readonly RequestKey by         # the key by which requests are counted; its secret belongs to this limit alone
    cdef bytes policy                   # a complete header line

    cdef bytes refusal(self, int64_t wait)

cdef class Charge:
    """A route requires that a limit counts the request."""
    cdef RateLimit limit
    cdef uint64_t key

cdef class CountRate(Step):
    cdef RateLimit limit
