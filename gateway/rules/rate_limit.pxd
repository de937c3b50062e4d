from libc.stdint cimport int64_t, uint8_t, uint64_t
from gateway.rules.actions cimport Step
from gateway.rules.template cimport Template
from gateway.rules.view cimport View
from qos.rates cimport Rate

cdef class RateLimit:
    """One `rate:` of a site file."""
    cdef readonly str name              # for clients and people
    cdef readonly str text              # for people
    cdef readonly bint dry_run
    cdef Rate rate
    cdef int64_t max_delay               # ns that a request may be delayed
    cdef int per                        # what requests are counted by
    cdef bytes field                    # of a header, cookie or parameter
    cdef Template template
    cdef bytes secret                   # of this limit alone: the same value has another key in another limit
    cdef bytes policy                   # a complete header line

    cdef uint64_t key(self, View v) except? 0
    cdef bytes refusal(self, int64_t wait)

cdef class Charge:
    """A request is to be counted by a limit, as a route says."""
    cdef RateLimit limit
    cdef uint64_t key

cdef class CountRate(Step):
    cdef RateLimit limit
