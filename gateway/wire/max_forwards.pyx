"""Max-Forwards: how often a TRACE or OPTIONS may be forwarded (RFC 9110 section 7.6.2)."""

from libc.stdint cimport uint32_t

from gateway.wire.head cimport Field, same_any

cdef enum:
    MAX_DIGITS = 9


cdef int max_forwards(const char *p, Head *h) noexcept nogil:
    """How often the request may be forwarded; HOPS_ANY without such a field, HOPS_BAD if it is not one plain number.

    Of a number of more digits than nine the nine highest that there can be are left.
    """
    cdef int i, found = HOPS_ANY, value
    cdef uint32_t k
    cdef Field *f
    for i in range(h.count):
        f = &h.fields[i]
        if f.name_len != 12 or not same_any(p + f.name, b"max-forwards", 12):
            continue
        if found != HOPS_ANY or f.value_len == 0:
            return HOPS_BAD
        value = 0
        for k in range(f.value_len):
            if not c'0' <= p[f.value + k] <= c'9':
                return HOPS_BAD
            if k < MAX_DIGITS:
                value = value * 10 + (p[f.value + k] - c'0')
        found = value if f.value_len <= MAX_DIGITS else 999999999
    return found
