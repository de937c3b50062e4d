from libc.stdint cimport int64_t
from gateway.wire.head cimport Head

cdef bint is_grpc(const char *p, Head *h) noexcept nogil
cdef int64_t call_timeout(const char *p, Head *h) noexcept nogil
cdef bytes grpc_status(int status, bint overdue)
cdef bytes error_lines(int status, bint overdue)
