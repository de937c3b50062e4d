"""The mark that a cookie of a server's carries on its way to the client and back: `gw.` … `~`, before its value.

gateway/balance/affinity.pyx defines its content. Here it is found and removed, so that no one
but affinity sees it: rules and servers work with the value that the application gave the cookie.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp, memmove

from gateway.wire.edit cimport Out, out_put, out_reserve
from gateway.wire.head cimport F_COOKIE, same_any, scan_request

cdef extern from "<string.h>" nogil:
    void *memmem(const void *text, size_t n, const void *wanted, size_t m)

cdef enum:
    MAX_MARK = 320
    MARGIN = 32             # the scan reads a few bytes beyond the end

cdef bytes PREFIX = b"gw."

# One head is worked on at a time in a process: this needs no owner.
cdef Out _plain


cdef const char *without_marks(const char *p, Head *h, tuple names, Bounds *bounds) except NULL:
    """The head of p and h without the marks of cookies of these names; h is of what is returned, which lives until
    the next call."""
    cdef uint32_t at, length, n
    cdef bytes name
    cdef int i
    for i in range(h.count):
        if h.fields[i].known == F_COOKIE and memmem(p + h.fields[i].value, h.fields[i].value_len, b"=gw.", 4) != NULL:
            break
    else:
        return p
    _plain.n = 0
    out_reserve(&_plain, h.length + MARGIN)
    out_put(&_plain, p, h.length)
    for name in names:
        at = length = 0
        while next_cookie(_plain.p, _plain.n, name, &at, &length):
            n = mark_length(_plain.p + at, length)
            if n:
                memmove(_plain.p + at, _plain.p + at + n, _plain.n - at - n)
                _plain.n -= n
            at += length - n
    scan_request(_plain.p, _plain.n, h, bounds)     # it was a request before
    return _plain.p


cdef uint32_t mark_length(const char *value, uint32_t n) noexcept nogil:
    """How long the mark before a cookie's value is; 0: there is none."""
    cdef uint32_t at = 3
    cdef char c
    if n < 4 or memcmp(value, b"gw.", 3) != 0:
        return 0
    while at < n and at < MAX_MARK:
        c = value[at]
        if c == c'~':
            return at + 1
        if not (c'0' <= c <= c'9' or c'A' <= c <= c'Z' or c'a' <= c <= c'z' or c == c'-' or c == c'_'):
            return 0
        at += 1
    return 0


cdef bint next_cookie(const char *head, uint32_t n, bytes name, uint32_t *at, uint32_t *length) noexcept:
    """Find the next cookie of that name in a complete head, from offset `at` on; `at`, `length`: of its value."""
    cdef uint32_t i = at[0], end, name_len = <uint32_t>PyBytes_GET_SIZE(name)
    cdef const char *wanted = PyBytes_AS_STRING(name)
    cdef bint within = i > 0            # behind a value of a Cookie line
    while i < n:
        if not within:
            while i < n and head[i] != c'\n':
                i += 1
            i += 1
            if i + 7 >= n:
                return False
            if not same_any(head + i, b"cookie:", 7):
                continue
            i += 7
            within = True
        while i < n and (head[i] == c' ' or head[i] == c'\t' or head[i] == c';'):
            i += 1
        if i + name_len < n and head[i + name_len] == c'=' and memcmp(head + i, wanted, name_len) == 0:
            i += name_len + 1
            end = i
            while end < n and head[end] != c';' and head[end] != c'\r':
                end += 1
            at[0] = i
            length[0] = end - i
            return True
        while i < n and head[i] != c';' and head[i] != c'\n':
            i += 1
        within = i < n and head[i] == c';'
    return False
