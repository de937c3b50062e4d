from libc.stdint cimport uint64_t
from gateway.rules.template cimport Template
from gateway.rules.view cimport View

cdef class RequestKey:
    """A way to make a key of a request."""
    cdef readonly str text              # for people; empty: all requests have one
    cdef int per                        # what it is made of
    cdef bytes field                    # of a header, cookie or parameter
    cdef Template template
    cdef bytes secret

    cdef uint64_t key(self, View v) except? 0
