from libc.stdint cimport int32_t
from gateway.proxy.nghttp2 cimport ng_nv, ng_session

cdef ng_nv *fields_of(char *p, size_t n, const ng_nv *first, size_t first_n, size_t *count) except NULL
cdef int submit_trailers(ng_session *session, int32_t id, bytes lines) except -1
