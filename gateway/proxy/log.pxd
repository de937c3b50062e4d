from libc.stdint cimport int64_t, uint8_t, uint32_t
from gateway.proxy.transaction cimport Transaction

# Text that is the same in each line, and the field that follows.
cdef struct Piece:
    const char *literal
    uint32_t n
    int code

cdef class AccessLog:
    cdef readonly int fd
    cdef readonly object loop
    cdef tuple literals                 # what the pieces point into
    cdef Piece *piece
    cdef int count
    cdef char escape                    # how quoted text is protected: 'j' JSON, 'c' combined
    cdef char *buffer
    cdef uint32_t n
    cdef int64_t clock                  # wall clock minus monotonic clock, in ns
    cdef int64_t second                 # the second `stamp` is for
    cdef char stamp[40]
    cdef uint32_t stamp_len
    cdef bint combined_time
    cdef object timer
    cdef bint failing

    cdef int add(self, Transaction t, int64_t now) except -1
    cdef int _field(self, int code, Transaction t, int64_t now) except -1
    cdef uint32_t _escaped(self, char *to, uint8_t c) noexcept
    cdef int _text(self, const char *p, uint32_t n) noexcept
    cdef int _known(self, const char *p, uint32_t n) noexcept
    cdef int _number(self, int64_t value) noexcept
    cdef int _millis(self, int64_t ns) noexcept
    cdef int _bytes(self, bytes text) except -1
    cdef int _spill(self, uint32_t start) except -1
    cpdef flush(self)
    cdef int _time(self, int64_t now) except -1
