"""gRPC as far as a gateway must know it: which requests are calls, their deadlines, and errors in its own terms.

Sources, at https://github.com/grpc/grpc/tree/master/doc: PROTOCOL-HTTP2.md (calls, grpc-timeout, Trailers-Only),
http-grpc-status-mapping.md and statuscodes.md. No socket, no clock, no state between calls.
"""

from libc.stdint cimport uint32_t
from gateway.wire.head cimport F_CONTENT_TYPE, Field, same_any, scan_request
from gateway.wire.head cimport Bounds

from gateway.wire.pages import phrase

cdef int64_t LONGEST = 10**18               # ns: a deadline beyond is none

# gRPC's status by that of HTTP. As http-grpc-status-mapping.md says, but for 413 and 429: RESOURCE_EXHAUSTED is for
# exhausted quotas (statuscodes.md), and tells clients not to repeat the call at once.
STATUSES = {
    400: 13,                                # INTERNAL
    401: 16,                                # UNAUTHENTICATED
    403: 7,                                 # PERMISSION_DENIED
    404: 12,                                # UNIMPLEMENTED
    408: 14,                                # UNAVAILABLE
    413: 8,                                 # RESOURCE_EXHAUSTED
    429: 8,
    431: 8,
    502: 14,
    503: 14,
    504: 14,
}
cdef enum:
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4


cdef bint is_grpc(const char *p, Head *h) noexcept nogil:
    """Whether a request is a call: its content-type is application/grpc, with "+" and a message format or without;
    grpc-web is an application's own (PROTOCOL-WEB.md)."""
    cdef Field *f
    cdef const char *value
    cdef int i
    for i in range(h.count):
        f = &h.fields[i]
        if f.known == F_CONTENT_TYPE:
            value = p + f.value
            return f.value_len >= 16 and same_any(value, b"application/grpc", 16) and (
                f.value_len == 16 or value[16] == c'+' or value[16] == c';')
    return False


cdef int64_t call_timeout(const char *p, Head *h) noexcept nogil:
    """The grpc-timeout of a call in ns; -1: it has none, or none that can be understood."""
    cdef Field *f
    cdef const char *value
    cdef int64_t number = 0, unit
    cdef uint32_t n
    cdef int i
    for i in range(h.count):
        f = &h.fields[i]
        if f.name_len != 12 or not same_any(p + f.name, b"grpc-timeout", 12):
            continue
        value = p + f.value
        if not 2 <= f.value_len <= 9:       # at most eight digits
            return -1
        for n in range(f.value_len - 1):
            if not c'0' <= value[n] <= c'9':
                return -1
            number = 10 * number + value[n] - c'0'
        unit = _unit(value[f.value_len - 1])
        return -1 if unit == 0 or number > LONGEST // unit else number * unit
    return -1


cdef int64_t _unit(char letter) noexcept nogil:
    if letter == c'H':
        return 3600000000000
    if letter == c'M':
        return 60000000000
    if letter == c'S':
        return 1000000000
    if letter == c'm':
        return 1000000
    if letter == c'u':
        return 1000
    return 1 if letter == c'n' else 0


cdef bytes grpc_status(int status, bint overdue):
    """The trailer lines that mean what an HTTP response with `status` would; overdue: the deadline has passed."""
    cdef int code = DEADLINE_EXCEEDED if overdue else STATUSES.get(status, UNKNOWN)
    cdef str message = "504 the deadline of the call has passed" if overdue else f"{status} {phrase(status)}"
    return b"Grpc-Status: %d\r\nGrpc-Message: %s\r\n" % (code, message.encode())


cdef bytes error_lines(int status, bint overdue):
    """The same as the header lines of a Trailers-Only response."""
    return b"Content-Type: application/grpc\r\n" + grpc_status(status, overdue)


# ------------------------------------------------------------------------------------------------------------ for tests

cdef Head _scratch


def call_of(bytes head):
    """Whether a request with this head is a call, and its timeout in ns (-1: none), for a test."""
    cdef Bounds bounds
    cdef bytes padded = head + b"\0" * 16       # the scan reads a few bytes beyond the end
    bounds.head = bounds.target = 32768
    bounds.fields = 100
    assert scan_request(padded, <uint32_t>len(head), &_scratch, &bounds) == 0
    return bool(is_grpc(padded, &_scratch)), call_timeout(padded, &_scratch)


def lines_of(int status, bint overdue):
    """The lines of a response, for a test."""
    return error_lines(status, overdue)
