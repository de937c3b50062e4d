"""Header blocks of HTTP/2 requests (RFC 9113 section 8) made into heads as HTTP/1 writes them, for the one scan.

What one of the two protocols could read differently from the other is refused before, with a Reason of wire/head.pxd:
names that are no lower-case tokens, values that would begin another line, fields that are about the connection,
pseudo-header fields that are missing, repeated, unknown or late, and a Host that is not the :authority. No socket, no
clock, no state between calls.
"""

from base64 import b64encode
from os import urandom

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdlib cimport free
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy, memset

from gateway.wire.edit cimport out_put, out_reserve
from gateway.wire.head cimport (
    R_BODY_LENGTH, R_CASE, R_CONNECT, R_CONNECTION, R_HOST_DISAGREES, R_HOST_REPEATED, R_NAME, R_OK, R_PROTOCOL,
    R_PSEUDO, R_TARGET, R_TOO_LARGE, R_TOO_MANY_FIELDS, R_TRAILERS, R_VALUE, is_token, same_any, scan_request,
    sentence_of, status_of,
)
from gateway.wire.wide cimport lower_name, no_break

cdef enum:
    CAPITAL = 1             # in ODD
    NO_TOKEN = 2
    MARGIN = 64             # readable bytes behind a head, which the scan looks at
    REQUIRED = 1 << P_METHOD | 1 << P_SCHEME | 1 << P_PATH

cdef uint8_t ODD[256]       # what keeps a byte out of a name in lower case; 0: nothing


cdef void block_clear(Block *b) noexcept nogil:
    """Empty it; what it has allocated stays."""
    b.text.n = b.cookies.n = b.pseudo.n = 0
    memset(b.at, 0, sizeof(b.at))
    memset(b.n, 0, sizeof(b.n))
    b.given = b.started = b.trailers = b.hosts = b.connects = 0
    b.reason = R_OK
    b.lines = b.count = 0
    b.size = 0


cdef void block_free(Block *b) noexcept nogil:
    free(b.text.p)
    free(b.cookies.p)
    free(b.pseudo.p)
    memset(b, 0, sizeof(Block))


cdef inline bint _is(const char *p, size_t n, const char *text, size_t text_n) noexcept nogil:
    return n == text_n and memcmp(p, text, n) == 0


cdef bint about_connection(const char *name, size_t n) noexcept nogil:
    """Whether a field, by its name in lower case, may be in no message (RFC 9113 section 8.2.2). TE may, at times."""
    return (_is(name, n, b"connection", 10) or _is(name, n, b"keep-alive", 10) or _is(name, n, b"upgrade", 7)
            or _is(name, n, b"proxy-connection", 16) or _is(name, n, b"transfer-encoding", 17))


cdef int name_problem(const char *name, size_t n) noexcept nogil:
    cdef size_t i
    cdef uint8_t odd = 0
    if not lower_name(name, n):
        for i in range(n):
            odd |= ODD[<uint8_t>name[i]]
    if odd:
        return R_CASE if odd & CAPITAL else R_NAME
    return R_OK if 0 < n <= 0xFFFF else R_NAME


cdef int field_problem(uint32_t count, uint32_t most, size_t size, const Bounds *bounds, size_t n, const char *value,
                       size_t value_n) noexcept nogil:
    """Why a field is refused whatever its name is: it is number `count`, of `most` and what `bounds` allow, and the
    block has `size` bytes with it."""
    if count > bounds.fields + most:
        return R_TOO_MANY_FIELDS
    if size > bounds.head:
        return R_TOO_LARGE
    if n == 0:
        return R_NAME
    return R_OK if _is_one_line(value, value_n) else R_VALUE


cdef bint _is_one_line(const char *value, size_t n) noexcept nogil:
    """Nothing in it ends a line, and it neither begins nor ends with white space (RFC 9113 section 8.2.1)."""
    if n == 0:
        return True
    return not (value[0] == c' ' or value[0] == c'\t' or value[n - 1] == c' ' or value[n - 1] == c'\t'
                or not no_break(value, n))


cdef int _pseudo_of(const char *name, size_t n) noexcept nogil:
    if _is(name, n, b":method", 7):
        return P_METHOD
    if _is(name, n, b":path", 5):
        return P_PATH
    if _is(name, n, b":scheme", 7):
        return P_SCHEME
    if _is(name, n, b":authority", 10):
        return P_AUTHORITY
    if _is(name, n, b":protocol", 9):
        return P_PROTOCOL
    return -1


cdef int block_field(Block *b, const Bounds *bounds, const char *name, size_t n, const char *value,
                     size_t value_n) except -1:
    """Add a field as it came. Of a block that is refused already, or too large, fields are only counted."""
    cdef int pseudo
    # RFC 9113 section 8.2.3: a Cookie field comes in as many crumbs as it has cookies.
    if not b.cookies.n or value_n == 0 or not _is(name, n, b"cookie", 6):
        b.count += 1
    b.size += n + value_n
    if b.reason != R_OK:
        return 0
    b.reason = field_problem(b.count, P_COUNT, b.size, bounds, n, value, value_n)
    if b.reason != R_OK:
        return 0
    if name[0] == c':':
        pseudo = _pseudo_of(name, n)
        if b.trailers:
            b.reason = R_TRAILERS
        elif b.started or pseudo < 0 or b.given >> pseudo & 1:
            b.reason = R_PSEUDO
        else:
            b.given |= 1 << pseudo
            b.at[pseudo] = b.pseudo.n
            b.n[pseudo] = <uint32_t>value_n
            out_reserve(&b.pseudo, value_n + 1)    # even for nothing: memcpy wants an address
            out_put(&b.pseudo, value, <uint32_t>value_n)
    else:
        _add(b, bounds, name, n, value, value_n)
    return 0


cdef int _add(Block *b, const Bounds *bounds, const char *name, size_t n, const char *value, size_t value_n) except -1:
    """Add a field that is none of the pseudo-header fields."""
    cdef const char *authority
    b.reason = name_problem(name, n)
    if b.reason == R_OK and (about_connection(name, n) or (n == 2 and memcmp(name, b"te", 2) == 0
                                                           and not _is(value, value_n, b"trailers", 8))):
        b.reason = R_CONNECTION
    if b.reason != R_OK:
        return 0
    if not b.started and not b.trailers:
        _start(b)
        if b.reason != R_OK:
            return 0
    if n == 6 and memcmp(name, b"cookie", 6) == 0:
        # RFC 9113 section 8.2.3: the crumbs are one field again.
        out_reserve(&b.cookies, value_n + 12)
        if b.cookies.n:
            out_put(&b.cookies, b"; ", 2)
        else:
            out_put(&b.cookies, b"cookie: ", 8)
        out_put(&b.cookies, value, <uint32_t>value_n)
        return 0
    if b.connects and n == 17 and memcmp(name, b"sec-websocket-key", 17) == 0:
        return 0                        # it has no meaning over HTTP/2 (RFC 8441 section 5)
    if n == 4 and b.given >> P_AUTHORITY & 1 and memcmp(name, b"host", 4) == 0:
        authority = b.pseudo.p + b.at[<int>P_AUTHORITY]
        b.hosts += 1
        if b.hosts > 1:
            b.reason = R_HOST_REPEATED
        elif value_n != b.n[<int>P_AUTHORITY] or not same_any(value, authority, <uint32_t>value_n):
            b.reason = R_HOST_DISAGREES
        return 0
    put_field(&b.text, name, n, value, value_n)
    b.lines += 1
    return 0


cdef int _start(Block *b) except -1:
    """The pseudo-header fields are complete: write the start line, and Host; for a WebSocket, its handshake, too."""
    cdef bytes key
    cdef const char *p = b.pseudo.p
    cdef const char *scheme = p + b.at[<int>P_SCHEME]
    cdef uint32_t scheme_n = b.n[<int>P_SCHEME], path_n = b.n[<int>P_PATH]
    cdef const char *path = p + b.at[<int>P_PATH]
    cdef bint connects = b.given & 1 << P_METHOD and _is(p + b.at[<int>P_METHOD], b.n[<int>P_METHOD], b"CONNECT", 7)
    b.started = 1
    if connects and not b.given >> P_PROTOCOL & 1:
        b.reason = R_CONNECT
    elif connects and not (b.n[<int>P_PROTOCOL] == 9 and same_any(p + b.at[<int>P_PROTOCOL], b"websocket", 9)):
        b.reason = R_PROTOCOL
    elif b.given & REQUIRED != REQUIRED or (b.given >> P_PROTOCOL & 1 and not connects):
        b.reason = R_PSEUDO
    elif not (scheme_n == 4 and same_any(scheme, b"http", 4) or scheme_n == 5 and same_any(scheme, b"https", 5)):
        b.reason = R_PSEUDO
    elif path_n == 0 or not (path[0] == c'/' or path_n == 1 and path[0] == c'*'):
        b.reason = R_TARGET             # an absolute one would be read as what HTTP/1 means by it
    if b.reason != R_OK:
        return 0
    out_reserve(&b.text, b.pseudo.n + 128)
    if connects:
        out_put(&b.text, b"GET", 3)
    else:
        out_put(&b.text, p + b.at[<int>P_METHOD], b.n[<int>P_METHOD])
    out_put(&b.text, b" ", 1)
    out_put(&b.text, path, path_n)
    out_put(&b.text, b" HTTP/1.1\r\n", 11)
    if b.given >> P_AUTHORITY & 1:
        out_put(&b.text, b"Host: ", 6)
        out_put(&b.text, p + b.at[<int>P_AUTHORITY], b.n[<int>P_AUTHORITY])
        out_put(&b.text, b"\r\n", 2)
        b.lines += 1
    if connects:
        b.connects = 1
        key = b64encode(urandom(16))
        memcpy(b.key, PyBytes_AS_STRING(key), KEY)
        out_put(&b.text, b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ", 60)
        out_put(&b.text, b.key, KEY)
        out_put(&b.text, b"\r\n", 2)
        b.lines += 3
    return 0


cdef int block_end(Block *b, Bounds *bounds, Head *h, bint has_body) except -1:
    """All fields are there: R_OK, and the head in `text` is scanned into h; or the Reason why it is refused.

    A body without a length is said to be chunked: so it goes on to a server that speaks HTTP/1. Of trailers, `text` has
    complete lines, and h is not touched.
    """
    if b.trailers:
        return b.reason
    if b.reason == R_OK and not b.started:
        _start(b)
    if b.reason != R_OK:
        return b.reason
    out_reserve(&b.text, b.cookies.n + 4 + MARGIN)
    if b.cookies.n:
        out_put(&b.text, b.cookies.p, b.cookies.n)
        out_put(&b.text, b"\r\n", 2)
        b.lines += 1
    out_put(&b.text, b"\r\n", 2)
    if b.connects:
        has_body = False                # what follows is the tunnel's
    b.reason = scan_request(b.text.p, b.text.n, h, bounds)
    if b.reason != R_OK:
        return b.reason
    if <uint32_t>h.count != b.lines:
        b.reason = R_VALUE              # a field has become two
    elif h.content_length > 0 and not has_body:
        b.reason = R_BODY_LENGTH
    h.http2 = 1
    h.chunked = has_body and h.content_length < 0
    return b.reason


cdef int _fill() except -1:
    cdef char letter
    for byte in range(256):
        letter = <char>byte
        if c'A' <= letter <= c'Z':
            ODD[byte] = CAPITAL
        elif not is_token(&letter, 1):
            ODD[byte] = NO_TOKEN
    return 0


_fill()


# ------------------------------------------------------------------------------------------------------------ for tests

cdef Head _scratch


def head_of(fields, *, int head_bytes=32768, int target_bytes=16384, int count=100, bint has_body=False,
            bint trailers=False):
    """What a block of (name, value) becomes, for a test: (0, text, whether its body goes on in chunks), or (status,
    sentence)."""
    cdef Block b
    cdef Bounds bounds
    cdef bytes name, value
    cdef int why
    memset(&b, 0, sizeof(b))
    b.trailers = trailers
    bounds.head = head_bytes
    bounds.target = target_bytes
    bounds.fields = count
    try:
        for name, value in fields:
            block_field(&b, &bounds, name, len(name), value, len(value))
        why = block_end(&b, &bounds, &_scratch, has_body)
        if why != R_OK:
            return status_of(why), sentence_of(why)
        return 0, <bytes>b.text.p[:b.text.n], bool(_scratch.chunked) if not trailers else False
    finally:
        block_free(&b)
