from libc.stdint cimport uint8_t, uint32_t
from gateway.wire.edit cimport Out, out_reserve
from gateway.wire.head cimport Bounds, Head
from gateway.wire.wide cimport copy_short

cdef enum:
    KEY = 24                # 16 random bytes in base64

# Pseudo-header fields of requests (RFC 9113 section 8.3.1, RFC 8441 section 4).
cdef enum Pseudo:
    P_METHOD = 0
    P_SCHEME
    P_AUTHORITY
    P_PATH
    P_PROTOCOL
    P_COUNT

# A header block on its way to a head as HTTP/1 writes it. Zeroed, it is empty.
cdef struct Block:
    Out text                # the head, but for its cookies
    Out cookies             # their crumbs, joined
    Out pseudo              # values of pseudo-header fields, one behind the other
    uint32_t[P_COUNT] at    # in that
    uint32_t[P_COUNT] n
    uint8_t given           # a bit for each that there is
    uint8_t started         # its start line is written: pseudo-header fields are over
    uint8_t trailers        # it is a trailer section
    uint8_t hosts           # Host fields beside :authority
    uint8_t connects        # it opens a WebSocket (RFC 8441)
    char[KEY] key           # if so: the Sec-WebSocket-Key for the server
    int reason              # why it is refused; the first counts
    uint32_t lines          # in `text`
    uint32_t count          # fields that came
    size_t size             # bytes of their names and values

cdef bint about_connection(const char *name, size_t n) noexcept nogil
cdef int name_problem(const char *name, size_t n) noexcept nogil
cdef int field_problem(uint32_t count, uint32_t most, size_t size, const Bounds *bounds, size_t n, const char *value,
                       size_t value_n) noexcept nogil
cdef void block_clear(Block *b) noexcept nogil
cdef void block_free(Block *b) noexcept nogil
cdef int block_field(Block *b, const Bounds *bounds, const char *name, size_t n, const char *value,
                     size_t value_n) except -1
cdef int block_end(Block *b, Bounds *bounds, Head *h, bint has_body) except -1

cdef inline int put_field(Out *o, const char *name, size_t n, const char *value, size_t value_n) except -1:
    """Append a header line."""
    cdef char *to
    out_reserve(o, n + value_n + 4)
    to = o.p + o.n
    copy_short(to, name, <uint32_t>n)
    to[n] = c':'
    to[n + 1] = c' '
    copy_short(to + n + 2, value, <uint32_t>value_n)
    to += n + 2 + value_n
    to[0] = c'\r'
    to[1] = c'\n'
    o.n += <uint32_t>(n + value_n + 4)
    return 0
