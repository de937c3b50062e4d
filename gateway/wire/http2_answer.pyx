"""Header blocks of HTTP/2 responses (RFC 9113 section 8) made into heads as HTTP/1 writes them, for the one scan.

As strict as with requests (http2_head.pyx): what HTTP/1 could read differently is refused, with a Reason of
wire/head.pxd. No socket, no clock, no state between calls.
"""

from libc.stdlib cimport free
from libc.string cimport memcmp, memset

from gateway.wire.edit cimport out_put, out_reserve
from gateway.wire.head cimport (
    R_CONNECTION, R_OK, R_STATUS_FIELD, R_TRAILERS, R_VALUE, scan_response, sentence_of,
)
from gateway.wire.http2_head cimport about_connection, field_problem, name_problem, put_field

cdef enum:
    MARGIN = 64             # readable bytes behind a head, which the scan looks at


cdef void answer_clear(AnswerBlock *b) noexcept nogil:
    """Empty it; what it has allocated stays."""
    b.text.n = 0
    b.given = b.trailers = 0
    b.reason = R_OK
    b.lines = b.count = 0
    b.size = 0


cdef void answer_free(AnswerBlock *b) noexcept nogil:
    free(b.text.p)
    memset(b, 0, sizeof(AnswerBlock))


cdef int answer_field(AnswerBlock *b, const Bounds *bounds, const char *name, size_t n, const char *value,
                      size_t value_n) except -1:
    """Add a field as it came. Of a block that is refused already, or too large, fields are only counted."""
    b.count += 1
    b.size += n + value_n
    if b.reason != R_OK:
        return 0
    b.reason = field_problem(b.count, 1, b.size, bounds, n, value, value_n)
    if b.reason != R_OK:
        return 0
    if name[0] == c':':
        if b.trailers:
            b.reason = R_TRAILERS
        elif b.given or n != 7 or memcmp(name, b":status", 7) != 0 or value_n != 3:
            b.reason = R_STATUS_FIELD
        else:
            b.given = 1
            out_reserve(&b.text, 32)
            out_put(&b.text, b"HTTP/1.1 ", 9)
            out_put(&b.text, value, 3)
            out_put(&b.text, b" \r\n", 3)
    else:
        _add(b, name, n, value, value_n)
    return 0


cdef int _add(AnswerBlock *b, const char *name, size_t n, const char *value, size_t value_n) except -1:
    """Add a field that is no pseudo-header field."""
    b.reason = name_problem(name, n)
    if b.reason != R_OK:
        return 0
    if about_connection(name, n) or (n == 2 and memcmp(name, b"te", 2) == 0):
        b.reason = R_CONNECTION
    elif not b.given and not b.trailers:
        b.reason = R_STATUS_FIELD
    else:
        put_field(&b.text, name, n, value, value_n)
        b.lines += 1
    return 0


cdef int answer_end(AnswerBlock *b, Bounds *bounds, Head *h) except -1:
    """All fields are there: R_OK, and the head in `text` is scanned into h; or the Reason why it is refused.

    Of trailers, `text` has complete lines, and h is not touched.
    """
    if b.trailers:
        return b.reason
    if b.reason == R_OK and not b.given:
        b.reason = R_STATUS_FIELD
    if b.reason != R_OK:
        return b.reason
    out_reserve(&b.text, 2 + MARGIN)
    out_put(&b.text, b"\r\n", 2)
    b.reason = scan_response(b.text.p, b.text.n, h, bounds)
    if b.reason == R_OK and <uint32_t>h.count != b.lines:
        b.reason = R_VALUE              # a field has become two
    h.http2 = 1
    return b.reason


# ------------------------------------------------------------------------------------------------------------ for tests

cdef Head _scratch


def answer_of(fields, *, int head_bytes=65536, int count=1000, bint trailers=False):
    """What a block of (name, value) becomes, for a test: its text, or the sentence why it is refused."""
    cdef AnswerBlock b
    cdef Bounds bounds
    cdef bytes name, value
    cdef int why
    memset(&b, 0, sizeof(b))
    b.trailers = trailers
    bounds.head = head_bytes
    bounds.target = 0
    bounds.fields = count
    try:
        for name, value in fields:
            answer_field(&b, &bounds, name, len(name), value, len(value))
        why = answer_end(&b, &bounds, &_scratch)
        return sentence_of(why) if why != R_OK else <bytes>b.text.p[:b.text.n]
    finally:
        answer_free(&b)
