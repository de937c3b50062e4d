"""Authentication of connections: schemes whose success counts for the connection and not for the request.

RFC 4559 section 6 (Negotiate) and [MS-NTHT] section 3 (NTLM): the client that authenticated a connection must be its
only user. HAProxy uses the same criterion: one of these schemes in the challenge of a response (its `http-reuse`
never shares such a connection).
"""

from libc.stdint cimport uint32_t

from gateway.wire.head cimport (
    F_AUTHORIZATION, F_PROXY, F_WWW_AUTHENTICATE, R_OK, Bounds, Field, find_end, same_any, scan_request, scan_response,
)

cdef Head _scratch              # for tests


cdef bint _is_scheme(const char *p, uint32_t n) noexcept nogil:
    """Whether a challenge or credentials of n bytes at p begin with such a scheme."""
    cdef uint32_t end = 0
    while end < n and p[end] != c' ' and p[end] != c'\t':
        end += 1
    return (end == 4 and same_any(p, b"ntlm", 4)) or (end == 9 and same_any(p, b"negotiate", 9))


cdef bint _names_scheme(const char *p, uint32_t n) noexcept nogil:
    """Whether a list of challenges has one (RFC 9110 section 11.6.1); a comma within quotes ends nothing."""
    cdef uint32_t at = 0, start
    cdef bint quoted
    while at < n:
        while at < n and (p[at] == c' ' or p[at] == c'\t' or p[at] == c','):
            at += 1
        start = at
        quoted = False
        while at < n and (quoted or p[at] != c','):
            if quoted and p[at] == c'\\':
                at += 1
            elif p[at] == c'"':
                quoted = not quoted
            at += 1
        if at > n:
            at = n
        if _is_scheme(p + start, at - start):
            return True
    return False


cdef bint binds_answer(const char *p, Head *h) noexcept nogil:
    """Whether an answer's head challenges the client to authenticate its connection."""
    cdef int i
    cdef Field *f
    for i in range(h.count):
        f = &h.fields[i]
        if (f.known == F_WWW_AUTHENTICATE
                or (f.known == F_PROXY and f.name_len == 18 and same_any(p + f.name, b"proxy-authenticate", 18))):
            if _names_scheme(p + f.value, f.value_len):
                return True
    return False


cdef bint binds_request(const char *p, Head *h) noexcept nogil:
    """Whether a request's head has credentials that would authenticate its connection."""
    cdef int i
    for i in range(h.count):
        if h.fields[i].known == F_AUTHORIZATION and _is_scheme(p + h.fields[i].value, h.fields[i].value_len):
            return True
    return False


def binds(bytes head):
    """Whether a complete head, of a request or an answer, is about authenticating its connection; for tests.

    Raises ValueError for what is no head.
    """
    cdef Bounds bounds
    cdef uint32_t seen = 0, end = 0
    cdef bytes padded = head + b"\0" * 16
    cdef const char *p = padded
    cdef int why = find_end(p, <uint32_t>len(head), &seen, &end)
    cdef bint answer = head.startswith(b"HTTP/")
    bounds.head = bounds.target = 60 * 1024
    bounds.fields = 1000
    if why == R_OK:
        why = scan_response(p, end, &_scratch, &bounds) if answer else scan_request(p, end, &_scratch, &bounds)
    if why != R_OK:
        raise ValueError(f"not a head: {why}")
    return binds_answer(p, &_scratch) if answer else binds_request(p, &_scratch)
