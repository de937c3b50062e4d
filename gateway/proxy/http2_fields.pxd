from gateway.proxy.nghttp2 cimport ng_nv

cdef ng_nv *fields_of(char *p, size_t n, const ng_nv *first, size_t first_n, size_t *count) except NULL
