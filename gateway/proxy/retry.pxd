from libc.stdint cimport uint32_t
from gateway.proxy.exchange cimport Exchange

cdef class Retries:
    """When a request of a backend is tried again; its budget."""
    cdef int attempts
    cdef bint on_connect
    cdef bint on_reset
    cdef frozenset statuses
    cdef frozenset methods
    cdef uint32_t known_methods         # bit by Method
    cdef double share
    cdef double tokens

    cdef void earn(self) noexcept nogil
    cdef bint repeatable(self, Exchange ex) except -1
    cdef bint after_failure(self, Exchange ex, int failure, int attempts) except -1
    cdef bint after_status(self, Exchange ex, int status, int attempts) except -1
    cdef bint spend(self) noexcept nogil
