from libc.stdint cimport uint32_t

# What of a path is taken as harmless; bits.
cdef enum Accept:
    A_MERGE = 1             # runs of slashes become one
    A_SLASH = 2             # encoded slashes and backslashes may pass
    A_PARAMETERS = 4        # so may ";"

cdef int normalise(const char *p, uint32_t n, char *out, int accept) noexcept nogil
cdef int as_matched(const char *p, uint32_t n, char *out) noexcept nogil
