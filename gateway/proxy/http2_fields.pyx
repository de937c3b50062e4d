"""Header lines as HTTP/1 writes them, made into the fields that libnghttp2 takes; in both directions."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport realloc
from libc.string cimport memchr, memcmp, memcpy

from gateway.proxy.nghttp2 cimport NG_NV_FLAG_NO_INDEX, ng
from gateway.wire.edit cimport Out, out_append
from gateway.wire.http2_head cimport about_connection

# In use until the library has taken them, before anything else is sent in this process: no owner is needed.
cdef ng_nv *_fields = NULL
cdef size_t _room = 0
cdef Out _lines             # trailers


cdef int _reserve(size_t count) except -1:
    """Make room for `count` fields."""
    global _fields, _room
    cdef size_t wanted
    cdef void *grown
    if count > _room:
        wanted = max(<size_t>64, 2 * count)
        grown = realloc(_fields, wanted * sizeof(ng_nv))
        if grown == NULL:
            raise MemoryError
        _fields = <ng_nv *>grown
        _room = wanted
    return 0


cdef bint _is_unlike_others(const char *name, size_t n) noexcept nogil:
    """Whether a field's value is of one request or client alone: HPACK's table is no place for it.

    What is new each time only drives the others out, and libnghttp2 compares all that have the same name. A client
    whose requests share a connection to a server with those of others could guess their secrets there by the length of
    what is sent (RFC 7541 section 7.1).
    """
    return (n == 12 and memcmp(name, b"x-request-id", 12) == 0 or n == 11 and memcmp(name, b"traceparent", 11) == 0
            or n == 10 and memcmp(name, b"set-cookie", 10) == 0 or n == 6 and memcmp(name, b"cookie", 6) == 0
            or n == 13 and memcmp(name, b"authorization", 13) == 0)


cdef ng_nv *fields_of(char *p, size_t n, const ng_nv *first, size_t first_n, size_t *count) except NULL:
    """The `first` fields, and those of the complete header lines of n bytes at p, up to an empty line; names are
    lower-cased in place. Fields about the connection are left out (RFC 9113 section 8.2.2).

    They are valid until the next call, and as long as the bytes that they refer to. Raises ValueError.
    """
    cdef char *stop = p + n
    cdef char *end
    cdef char *colon
    cdef char *value
    cdef char *at
    cdef size_t found = first_n
    _reserve(first_n + 1)
    if first_n:
        memcpy(_fields, first, first_n * sizeof(ng_nv))
    while p < stop and p[0] != c'\r':
        end = <char *>memchr(p, c'\n', stop - p)
        colon = <char *>memchr(p, c':', stop - p)
        if end == NULL or colon == NULL or colon > end:
            raise ValueError("not a header line")
        value = colon + 1
        while value[0] == c' ' or value[0] == c'\t':
            value += 1
        _reserve(found + 1)
        at = p
        while at < colon:
            if c'A' <= at[0] <= c'Z':
                at[0] += 32
            at += 1
        if not about_connection(p, colon - p):
            _fields[found].name = <uint8_t *>p
            _fields[found].namelen = colon - p
            _fields[found].value = <uint8_t *>value
            at = end - 1
            while at > value and ((at - 1)[0] == c' ' or (at - 1)[0] == c'\t'):
                at -= 1
            _fields[found].valuelen = at - value
            _fields[found].flags = NG_NV_FLAG_NO_INDEX if _is_unlike_others(p, colon - p) else 0
            found += 1
        p = end + 1
    count[0] = found
    return _fields


cdef int submit_trailers(ng_session *session, int32_t id, bytes lines) except -1:
    """Give the library the trailers of a stream, complete header lines."""
    cdef ng_nv *fields
    cdef size_t count = 0
    _lines.n = 0
    out_append(&_lines, PyBytes_AS_STRING(lines), PyBytes_GET_SIZE(lines))
    fields = fields_of(_lines.p, _lines.n, NULL, 0, &count)
    ng.submit_trailer(session, id, fields, count)
    return 0
