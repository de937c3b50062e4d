from libc.stdint cimport uint32_t
from gateway.wire.head cimport Bounds, Head

cdef bytes PREFIX

cdef const char *without_marks(const char *p, Head *h, tuple names, Bounds *bounds) except NULL
cdef uint32_t mark_length(const char *value, uint32_t n) noexcept nogil
cdef bint next_cookie(const char *head, uint32_t n, bytes name, uint32_t *at, uint32_t *length) noexcept
