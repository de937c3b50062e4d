from libc.stdint cimport int64_t, uint32_t

from gateway.outcome cimport Cause

cdef Cause cause_of(int outcome) noexcept nogil

cdef class Retries:
    """When work of a backend is retried; its budget."""
    cdef int attempts
    cdef bint on_connect
    cdef bint on_reset
    cdef frozenset statuses
    cdef frozenset methods
    cdef uint32_t known_methods         # bit by Method
    cdef double share
    cdef double tokens

    cdef void earn(self) noexcept nogil
    cdef bint repeatable(self, int method, const char *name, uint32_t n) except -1
    cdef bint after_failure(self, int outcome, int64_t detail, bint repeatable, bint whole, int tries) noexcept nogil
    cdef bint after_status(self, int status, bint repeatable, int tries) except -1
    cdef bint spend(self) noexcept nogil
    cdef void refund(self) noexcept nogil
