cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from gateway.proxy.openssl cimport SSL
from gateway.proxy.transaction cimport Transaction

# Constant text of each line, and the field that follows.
cdef struct Piece:
    const char *literal
    int64_t last                        # largest fill of the buffer at which it and its field fit
    uint32_t n
    int code
    uint32_t name_len                   # of a header: its name, in lower case
    const char *name


# The text of a second; milliseconds are filled in later.
cdef struct Stamp:
    int64_t second                      # its start, in ns of the wall clock; -1: none yet
    char text[32]
    uint32_t n
    bint combined


@cython.final
cdef class AccessLog:
    cdef readonly int fd
    cdef readonly object loop
    cdef tuple literals                 # texts that the pieces point into
    cdef tuple names                    # the same for headers
    cdef Piece *piece
    cdef int count
    cdef char escape                    # escaping of quoted text: 'j' JSON, 'c' combined
    cdef char *buffer
    cdef uint32_t n
    cdef int64_t clock                  # wall clock minus monotonic clock, in ns
    cdef Stamp stamp                    # of the format
    cdef Stamp header                   # of syslog
    cdef object timer
    cdef bint failing
    cdef bint torn                      # the line at the beginning of `buffer` has been written partially
    cdef object sender                  # takes the lines in place of `fd`; or None
    cdef object lost                    # is called with a number of lines that could not be written; or None
    cdef uint64_t threshold             # draws below it are written; 0: all are
    cdef AccessLog following            # another log of the same requests, or None
    cdef bint waits                     # a write may block until the pipe is read: only what certainly fits is written

    cdef int add(self, Transaction t, int64_t now) except -1
    cdef int _field(self, Piece *piece, Transaction t, int64_t now) except -1
    cdef uint32_t _escaped(self, char *to, uint8_t c) noexcept
    cdef int _text(self, const char *p, uint32_t n) noexcept
    cdef int _known(self, const char *p, uint32_t n) noexcept
    cdef int _number(self, int64_t value) noexcept
    cdef int _millis(self, int64_t ns) noexcept
    cdef int _bytes(self, bytes text) except -1
    cdef int _name(self, bytes name) except -1
    cdef int _spill(self, uint32_t start) except -1
    cpdef flush(self)
    cdef int _keep(self, uint32_t at, int error) except -1
    cdef int _time(self, Stamp *stamp, int64_t now) except -1
    cdef int _begin_second(self, Stamp *stamp, int64_t second) except -1
    cdef bint _is_drawn(self, Transaction t) noexcept
    cdef int _lose(self, uint32_t at, uint32_t end, str why) except -1
    cdef int _header(self, const char *name, uint32_t n, Transaction t) noexcept
    cdef int _tls(self, int code, SSL *ssl) noexcept
