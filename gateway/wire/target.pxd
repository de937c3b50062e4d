from libc.stdint cimport uint32_t

cdef int normalise(const char *p, uint32_t n, char *out) noexcept nogil
