from gateway.wire.head cimport Head

cdef enum:
    HOPS_ANY = -1
    HOPS_BAD = -2

cdef int max_forwards(const char *p, Head *h) noexcept nogil
