"""The id of a request: the one that it comes with, or one made here.

One comes in X-Request-ID, or as the trace-id of a traceparent (W3C Trace Context section 3.2). Both are for clients to
choose, so only what a trusted peer sends is to be looked at: a client that could choose the id of its request could
make it look like another one in every log.
"""

import os

from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from gateway.wire.head cimport (
    F_REQUEST_ID, F_TRACEPARENT, R_OK, Bounds, Field, find_end, scan_request, status_of,
)

cdef uint8_t IN_ID[256]         # what an id may consist of: safe in a header, between quotes, in a list
for _i in range(256):
    IN_ID[_i] = 33 <= _i <= 126 and _i not in b"\"'\\,;"

cdef enum:
    TRACEPARENT = 55            # bytes: version "-" trace-id "-" parent-id "-" trace-flags


cdef int find_request_id(const char *p, Head *h, const char **at, uint32_t *n) noexcept nogil:
    """Look for the id that a scanned head comes with; whether there is one, which is then of n bytes at `at`.

    X-Request-ID goes before traceparent. A field that is there twice, or not valid, counts as absent.
    """
    cdef Field *given = NULL
    cdef const char *traced
    cdef int i, givens = 0
    for i in range(h.count):
        if h.fields[i].known == F_REQUEST_ID:
            given = &h.fields[i]
            givens += 1
    if givens == 1 and _is_id(p + given.value, given.value_len):
        at[0] = p + given.value
        n[0] = given.value_len
        return True
    traced = find_traceparent(p, h)
    if traced != NULL:
        at[0] = traced + TRACE_ID_AT
        n[0] = ID_LENGTH
        return True
    return False


cdef const char *find_traceparent(const char *p, Head *h) noexcept nogil:
    """The value of the traceparent that a scanned head comes with; NULL: there is none, several, or one not valid."""
    cdef Field *traced = NULL
    cdef int i, traces = 0
    for i in range(h.count):
        if h.fields[i].known == F_TRACEPARENT:
            traced = &h.fields[i]
            traces += 1
    if traces == 1 and traced.value_len == TRACEPARENT and _is_traceparent(p + traced.value):
        return p + traced.value
    return NULL


cdef bint _is_id(const char *p, uint32_t n) noexcept nogil:
    cdef uint32_t i
    if not 1 <= n <= ID_MAX:
        return False
    for i in range(n):
        if not IN_ID[<uint8_t>p[i]]:
            return False
    return True


cdef bint _is_traceparent(const char *p) noexcept nogil:
    """Whether TRACEPARENT bytes are one of version 00: what a later version has in these places may mean more."""
    cdef bint any = False
    return (p[0] == c'0' and p[1] == c'0' and p[2] == c'-' and p[PARENT_ID_AT - 1] == c'-' and p[FLAGS_AT - 1] == c'-'
            and _is_hex(p + TRACE_ID_AT, ID_LENGTH, &any) and any
            and _is_hex(p + PARENT_ID_AT, 16, &any) and any
            and _is_hex(p + FLAGS_AT, 2, &any))


cdef bint is_trace_id(const char *p, uint32_t n) noexcept nogil:
    """Whether the id of a request can be that of a trace."""
    cdef bint any = False
    return n == ID_LENGTH and _is_hex(p, ID_LENGTH, &any) and any


cdef bint _is_hex(const char *p, int n, bint *any) noexcept nogil:
    """Whether n bytes are lower-case hexadecimal digits; any: whether one is not 0."""
    cdef int i
    any[0] = False
    for i in range(n):
        if not (c'0' <= p[i] <= c'9' or c'a' <= p[i] <= c'f'):
            return False
        if p[i] != c'0':
            any[0] = True
    return True


# ---------------------------------------------------------------------------------------------------------- making them

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #define EACH(c) (0x0101010101010101ULL * (c))

    /* The lower nibble of each byte as a hexadecimal digit: a carry into the upper one tells that it is a letter. */
    static inline void put_digits(char *to, uint64_t nibbles)
    {
        uint64_t letters = ((nibbles + EACH(6)) >> 4) & EACH(1);
        uint64_t digits = nibbles + EACH('0') + letters * ('a' - '0' - 10);
        memcpy(to, &digits, 8);
    }
    """
    void put_digits(char *to, uint64_t nibbles) noexcept nogil


cdef int start_ids(RequestIds *ids) except -1:
    """Begin at a random place: the ids of two workers are the same only if both of these numbers are."""
    cdef bytes drawn = os.urandom(sizeof(RequestIds))
    memcpy(ids, <const char *>drawn, sizeof(RequestIds))
    return 0


cdef void next_id(RequestIds *ids, char *to) noexcept nogil:
    """Write the next id, ID_LENGTH lower-case hexadecimal digits; a RequestIds never makes one twice.

    The pair of seed and count goes through a bijection: a Feistel network of two rounds, and between them the finisher
    of splitmix64. So ids look random, but are not secret: some ids reveal others.
    """
    cdef uint64_t low, high = ids.seed
    ids.count += 1
    low = ids.count + high
    low = (low ^ (low >> 30)) * 0xBF58476D1CE4E5B9ULL
    low = (low ^ (low >> 27)) * 0x94D049BB133111EBULL
    low ^= low >> 31
    high += low * 0x9E3779B97F4A7C15ULL
    high ^= high >> 32
    # Which nibble stands where is all the same: each has its place.
    put_digits(to, low & 0x0F0F0F0F0F0F0F0FULL)
    put_digits(to + 8, (low >> 4) & 0x0F0F0F0F0F0F0F0FULL)
    put_digits(to + 16, high & 0x0F0F0F0F0F0F0F0FULL)
    put_digits(to + 24, (high >> 4) & 0x0F0F0F0F0F0F0F0FULL)


# ------------------------------------------------------------------------------------------------------------ for tests

cdef Head _scratch


def found(bytes head):
    """The id that a complete request head comes with, or None. Raises ValueError for one that is refused."""
    cdef Bounds bounds
    cdef uint32_t seen = 0, end = 0, n = 0
    cdef const char *at = NULL
    cdef bytes padded = head + b"\0" * 16
    cdef const char *p = padded
    cdef int why
    bounds.head = bounds.target = 60 * 1024
    bounds.fields = 1000
    why = find_end(p, <uint32_t>len(head), &seen, &end)
    if why == R_OK:
        why = scan_request(p, end, &_scratch, &bounds)
    if why != R_OK:
        raise ValueError(f"refused with {status_of(why)}")
    return at[:n] if find_request_id(p, &_scratch, &at, &n) else None


def made(int how_many, seed=None):
    """Consecutive ids of a worker with the given seed, a pair of numbers; default: a random one."""
    cdef RequestIds ids
    cdef char text[ID_LENGTH]
    start_ids(&ids)
    if seed is not None:
        ids.seed, ids.count = seed
    ids_made = []
    for _ in range(how_many):
        next_id(&ids, text)
        ids_made.append(text[:ID_LENGTH])
    return ids_made
