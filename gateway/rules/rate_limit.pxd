from libc.stdint cimport int64_t, uint8_t, uint64_t
from gateway.rules.actions cimport Step
from gateway.rules.request_key cimport RequestKey
from gateway.rules.view cimport View
from qos.rates cimport Rate

cdef class RateLimit:
    """One `rate:` of a site file."""
    cdef readonly str name              # for clients and people
    cdef readonly str text              # for people
    cdef readonly bint dry_run
    cdef Rate rate
    cdef int64_t max_delay               # ns that a request may be delayed
    cdef readonly RequestKey by         # what requests are counted by; its secret is of this limit alone
    cdef bytes policy                   # a complete header line

    cdef bytes refusal(self, int64_t wait)

cdef class Charge:
    """A request is to be counted by a limit, as a route says."""
    cdef RateLimit limit
    cdef uint64_t key

cdef class CountRate(Step):
    cdef RateLimit limit
