from libc.stdint cimport uint32_t, uint64_t
from gateway.wire.head cimport Head

cdef enum:
    ID_LENGTH = 32              # of an id that is made here
    ID_MAX = 128                # of one that came
    TRACE_ID_AT = 3             # in a traceparent
    PARENT_ID_AT = 36
    FLAGS_AT = 53

# What a worker makes its ids of. Both are random at first, and no other worker has the same (see start_ids).
cdef struct RequestIds:
    uint64_t seed
    uint64_t count              # of ids so far

cdef int find_request_id(const char *p, Head *h, const char **at, uint32_t *n) noexcept nogil
cdef const char *find_traceparent(const char *p, Head *h) noexcept nogil
cdef bint is_trace_id(const char *p, uint32_t n) noexcept nogil
cdef int start_ids(RequestIds *ids) except -1
cdef void next_id(RequestIds *ids, char *to) noexcept nogil
