from libc.stdint cimport int64_t
from gateway.proxy.log cimport AccessLog
from gateway.proxy.transaction cimport Transaction

cdef class Packets:
    """Lines on their way to another process, as packets: whole lines, of requests that have ended or given as text."""
    cdef int fd
    cdef object loop
    cdef AccessLog lines                # its buffer has what was not sent yet
    cdef int64_t count                  # of those
    cdef int64_t lost                   # what the reader has not been told of yet
    cdef object timer
    cdef readonly bint ended            # nobody reads

    cdef bint full(self) noexcept
    cdef int add_record(self, Transaction t, int64_t now) except -1
    cdef bint add_line(self, bytes line) except -1
    cdef int send_later(self) except -1
    cdef int send(self) except -1
    cdef int _packet(self, const char *p, size_t n) except -2
