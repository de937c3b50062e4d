from libc.stdint cimport uint64_t
from gateway.rules.template cimport Template
from gateway.rules.view cimport View

cdef enum:
    MOST_KEYS = 8           # of a request that has a header, cookie or parameter several times

cdef class RequestKey:
    """How the key of a request is computed."""
    cdef readonly str text              # human-readable; empty: all requests have the same key
    cdef int per                        # source of the key
    cdef bytes field                    # name of a header, cookie or parameter
    cdef Template template
    cdef bytes secret

    cdef int keys(self, View v, uint64_t *found) except -1
    cdef uint64_t _one(self, View v) except? 0
    cdef uint64_t key(self, View v) except? 0
