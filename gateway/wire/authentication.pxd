from gateway.wire.head cimport Head

cdef bint binds_answer(const char *p, Head *h) noexcept nogil
cdef bint binds_request(const char *p, Head *h) noexcept nogil
