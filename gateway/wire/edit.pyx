"""Heads edited for the next hop: byte ranges copied, hop-by-hop fields left out, the gateway's own fields added.

RFC 9110 section 7.6 (message forwarding), RFC 7239 (Forwarded). Runs of fields that stay are copied in one piece.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from gateway.wire.head cimport (
    F_FORWARDED, F_HOST, F_OTHER, F_REQUEST_ID, F_TRAILER, F_X_FORWARDED, F_X_FORWARDED_FOR, F_X_FORWARDED_HOST, Field,
    known_field, same_any,
)

cdef enum:
    VIA_MINOR = 7           # in "Via: 1.1 …", where the version of the message received stands
    PROVENANCE = (1 << (F_FORWARDED + 1)) - (1 << F_X_FORWARDED_FOR)    # all kinds from the one to the other

# The numbers below a hundred, two digits each.
cdef char PAIRS[200]
for _i in range(100):
    PAIRS[2 * _i] = c'0' + _i // 10
    PAIRS[2 * _i + 1] = c'0' + _i % 10


cdef int out_reserve(Out *o, size_t more) except -1:
    cdef size_t wanted = o.n + more
    cdef void *grown
    if wanted > o.capacity:
        wanted = (wanted * 3 // 2 + 1023) & ~<size_t>1023
        grown = realloc(o.p, wanted)
        if grown == NULL:
            raise MemoryError
        o.p = <char *>grown
        o.capacity = <uint32_t>wanted
    return 0


cdef int out_append(Out *o, const char *p, size_t n) except -1:
    """Append n bytes."""
    out_reserve(o, n)
    out_put(o, p, <uint32_t>n)
    return 0


cdef void out_free(Out *o) noexcept nogil:
    """Empty it, and give its memory back."""
    free(o.p)
    o.p = NULL
    o.n = o.capacity = 0


cdef int number(char *to, int64_t value) noexcept nogil:
    """Write a number that is not negative in decimal; how many digits (at most 19)."""
    cdef uint64_t rest = <uint64_t>value, power
    cdef int count, at
    if rest < 10:
        to[0] = <char>(48 + rest)
        return 1
    if rest < 100:
        memcpy(to, PAIRS + 2 * rest, 2)
        return 2
    if rest < 1000:
        return three_digits(to, <uint32_t>rest)
    count = 4
    power = 10000
    while count < 19 and rest >= power:
        power *= 10
        count += 1
    at = count
    while at > 2:
        at -= 2
        memcpy(to + at, PAIRS + 2 * (rest % 100), 2)
        rest //= 100
    if at == 2:
        memcpy(to, PAIRS + 2 * rest, 2)
    else:
        to[0] = <char>(48 + rest)
    return count


cdef int three_digits(char *to, uint32_t value) noexcept nogil:
    """Write a number below 1000 with its leading zeros."""
    to[0] = <char>(48 + value // 100)
    memcpy(to + 1, PAIRS + 2 * (value % 100), 2)
    return 3


cdef inline uint32_t _line_end(Head *h, int i) noexcept nogil:
    """Where the line of field i ends: at the next field, or at the empty line."""
    return h.fields[i + 1].name if i + 1 < h.count else h.length - 2


cdef void _copy_kept(Out *o, const char *p, Head *h) noexcept nogil:
    """Copy the lines of the fields that are not dropped: what stands between two that are dropped, in one piece."""
    cdef int i
    cdef uint32_t start = h.fields[0].name if h.count else h.length - 2
    for i in range(h.count):
        if h.fields[i].drop:
            out_put(o, p + start, h.fields[i].name - start)
            start = _line_end(h, i)
    out_put(o, p + start, h.length - 2 - start)


cdef void _put_length(Out *o, int64_t length) noexcept nogil:
    out_put(o, b"Content-Length: ", 16)
    o.n += number(o.p + o.n, length)
    out_put(o, b"\r\n", 2)


cdef bint _put_joined(Out *o, const char *p, Head *h, int known, const char *name, uint32_t name_len) noexcept nogil:
    """Start a line with all values that came for a field, each followed by ", "; the caller appends its own value."""
    cdef int i
    cdef Field *f
    cdef bint any = False
    out_put(o, name, name_len)
    for i in range(h.count):
        f = &h.fields[i]
        if f.known == known and f.value_len:
            out_put(o, p + f.value, f.value_len)
            out_put(o, b", ", 2)
            any = True
    return any


cdef void _put_forwarded_for(Out *o, const char *p, Head *h, Origin *origin) noexcept nogil:
    """X-Forwarded-For as it came, or else the client, with the peer's address behind it; no line without any."""
    cdef uint32_t start = o.n
    cdef bint any = _put_joined(o, p, h, F_X_FORWARDED_FOR, b"X-Forwarded-For: ", 17)
    if not any and origin.told:
        out_put(o, origin.client, origin.client_len)
        out_put(o, b", ", 2)
        any = True
    if origin.address_len:
        out_put(o, origin.address, origin.address_len)
    elif any:
        o.n -= 2
    else:
        o.n = start
        return
    out_put(o, b"\r\n", 2)


cdef bint _put_first(Out *o, const char *p, Head *h, int known, const char *name, uint32_t name_len) noexcept nogil:
    cdef int i
    cdef Field *f
    for i in range(h.count):
        f = &h.fields[i]
        if f.known == known and f.value_len:
            out_put(o, name, name_len)
            out_put(o, p + f.value, f.value_len)
            out_put(o, b"\r\n", 2)
            return True
    return False


cdef void _keep_trailer(Head *h) noexcept nogil:
    """A chunked body is forwarded with its trailers: so is their announcement (RFC 9110 section 6.6.2)."""
    cdef int i
    if h.chunked:
        for i in range(h.count):
            if h.fields[i].known == F_TRAILER:
                h.fields[i].drop = False


cdef void _put_upgrade(Out *o, const char *p, Head *h) noexcept nogil:
    cdef Field *f = &h.fields[h.upgrade_field]
    out_put(o, b"Connection: upgrade\r\nUpgrade: ", 30)
    out_put(o, p + f.value, f.value_len)
    out_put(o, b"\r\n", 2)


cdef bint _has_host(const char *lines, uint32_t n) noexcept nogil:
    """Whether there is a Host among complete header lines."""
    cdef uint32_t at = 0
    while at < n:
        if n - at > 5 and same_any(lines + at, b"host:", 5):
            return True
        while lines[at] != c'\n':
            at += 1
        at += 1
    return False


cdef void _drop_id(Head *h) noexcept nogil:
    cdef int i
    for i in range(h.count):
        if h.fields[i].known == F_REQUEST_ID:
            h.fields[i].drop = True


cdef void _put_id(Out *o, const char *id, uint32_t id_len) noexcept nogil:
    out_put(o, b"X-Request-ID: ", 14)
    out_put(o, id, id_len)
    out_put(o, b"\r\n", 2)


cdef int edit_request(Out *o, const char *p, Head *h, const char *path, uint32_t path_len, Origin *origin,
                      const char *extra, uint32_t extra_len, const char *id, uint32_t id_len) except -1:
    """Write the head for the server to o: the path given (with its query), the client's fields, ours.

    extra: complete lines of the rules'. A Host among them goes in place of the client's, which stays X-Forwarded-Host.
    id: of the request, in place of the X-Request-ID that came; that one stays where id_len is 0.
    """
    cdef const char *host = p + h.host
    cdef uint32_t host_len = h.hostport_len
    cdef int i
    cdef Field *f
    cdef bint plain = True, host_given = extra_len != 0 and _has_host(extra, extra_len)
    if host_len == 0:
        host = origin.fallback_host
        host_len = origin.fallback_host_len
    o.n = 0
    out_reserve(o, h.length * 2 + path_len + origin.fixed_len + origin.via_len + 3 * host_len + origin.address_len
                + origin.node_len + origin.client_len + origin.client_node_len + extra_len + id_len + 512)
    out_put(o, p, h.method_len)
    out_put(o, b" ", 1)
    out_put(o, path, path_len)
    out_put(o, b" HTTP/1.1\r\n", 11)
    if h.kinds & (PROVENANCE | 1u << F_REQUEST_ID) or h.authority_len or host_given:
        for i in range(h.count):
            f = &h.fields[i]
            if F_X_FORWARDED_FOR <= f.known <= F_FORWARDED:
                # Of a trusted peer what else it says goes on: X-Forwarded-Port, X-Real-IP and so on.
                f.drop = f.known != F_X_FORWARDED or not origin.trusted
                plain = False
            elif f.known == F_HOST and (h.authority_len or host_given):
                f.drop = True
            elif f.known == F_REQUEST_ID and id_len:
                f.drop = True
    _keep_trailer(h)
    _copy_kept(o, p, h)
    if h.upgrade:
        _put_upgrade(o, p, h)
    elif h.trailers:
        out_put(o, b"TE: trailers\r\nConnection: TE\r\n", 30)
    if (not h.has_host or h.authority_len) and not host_given:
        out_put(o, b"Host: ", 6)
        out_put(o, host, host_len)
        out_put(o, b"\r\n", 2)
    if h.chunked:
        out_put(o, b"Transfer-Encoding: chunked\r\n", 28)
    elif h.content_length >= 0:
        _put_length(o, h.content_length)
    if extra_len:
        out_put(o, extra, extra_len)
    if id_len:
        _put_id(o, id, id_len)
    out_put(o, origin.via, origin.via_len)
    if h.minor == 0:
        o.p[o.n - origin.via_len + VIA_MINOR] = c'0'
    if not origin.trusted or (plain and not origin.told):
        out_put(o, origin.fixed, origin.fixed_len)
        out_put(o, b";host=\"", 7)
        out_put(o, host, host_len)
        out_put(o, b"\"\r\nX-Forwarded-Host: ", 21)
        out_put(o, host, host_len)
        out_put(o, b"\r\n\r\n", 4)
        return 0
    _put_told(o, p, h, origin, host, host_len)
    return 0


cdef void _put_told(Out *o, const char *p, Head *h, Origin *origin, const char *host, uint32_t host_len) noexcept nogil:
    """What a trusted peer says about the request, with the peer behind it, and the end of the head.

    X-Forwarded-Proto is one word, as servers read it. Forwarded never contradicts it: what the peer says in the other
    fields only is translated (RFC 7239 section 7.4), and of the peer itself nothing but its address is added.
    """
    _put_forwarded_for(o, p, h, origin)
    if origin.asked_https:
        out_put(o, b"X-Forwarded-Proto: https\r\n", 26)
    else:
        out_put(o, b"X-Forwarded-Proto: http\r\n", 25)
    if not _put_first(o, p, h, F_X_FORWARDED_HOST, b"X-Forwarded-Host: ", 18):
        out_put(o, b"X-Forwarded-Host: ", 18)
        out_put(o, host, host_len)
        out_put(o, b"\r\n", 2)
    if not _put_joined(o, p, h, F_FORWARDED, b"Forwarded: ", 11):
        out_put(o, b"for=", 4)
        out_put(o, origin.client_node, origin.client_node_len)
        if origin.asked_https:
            out_put(o, b";proto=https", 12)
        else:
            out_put(o, b";proto=http", 11)
        if not h.kinds & (1u << F_X_FORWARDED_HOST):
            out_put(o, b";host=\"", 7)
            out_put(o, host, host_len)
            out_put(o, b"\"", 1)
        if origin.told:
            out_put(o, b", ", 2)
    if origin.told or h.kinds & (1u << F_FORWARDED):
        out_put(o, b"for=", 4)
        out_put(o, origin.node, origin.node_len)
    out_put(o, b"\r\n\r\n", 4)


cdef int edit_response(Out *o, const char *p, Head *h, int framing, int connection, const char *extra,
                       uint32_t extra_len, const char *id, uint32_t id_len) except -1:
    """Write the head for the client to o.

    framing: how the body goes out; FRAME_NONE keeps a Content-Length that describes what HEAD or 304 leave out.
    connection: -1 says close, +1 says keep-alive (to an HTTP/1.0 client), 0 nothing.
    extra: complete lines of ours, Via first.
    id: of the request, in place of the server's X-Request-ID, so that client, log and server know one; that of the
    server stays where id_len is 0.
    """
    o.n = 0
    out_reserve(o, h.length + extra_len + id_len + 256)
    out_put(o, b"HTTP/1.1 ", 9)
    out_put(o, p + 9, 3)
    out_put(o, b" ", 1)
    out_put(o, p + h.reason, h.reason_len)
    out_put(o, b"\r\n", 2)
    if framing == FRAME_CHUNKED:
        _keep_trailer(h)
    if id_len:
        _drop_id(h)
    _copy_kept(o, p, h)
    out_put(o, extra, extra_len)
    if h.minor == 0:
        o.p[o.n - extra_len + VIA_MINOR] = c'0'
    elif h.http2:
        memcpy(o.p + o.n - extra_len + VIA_MINOR - 2, b"2.0", 3)
    if id_len:
        _put_id(o, id, id_len)
    if framing == FRAME_CHUNKED:
        out_put(o, b"Transfer-Encoding: chunked\r\n", 28)
    elif h.content_length >= 0 and h.status != 204 and framing != FRAME_CLOSE:
        _put_length(o, h.content_length)
    if connection < 0:
        out_put(o, b"Connection: close\r\n", 19)
    elif connection > 0:
        out_put(o, b"Connection: keep-alive\r\n", 24)
    out_put(o, b"\r\n", 2)
    return 0


cdef int edit_interim(Out *o, const char *p, Head *h) except -1:
    """Write a 1xx head for the client to o (RFC 9110 section 15.2: forwarded, with no framing of its own)."""
    o.n = 0
    out_reserve(o, h.length + 64)
    out_put(o, b"HTTP/1.1 ", 9)
    out_put(o, p + 9, 3)
    out_put(o, b" ", 1)
    out_put(o, p + h.reason, h.reason_len)
    out_put(o, b"\r\n", 2)
    _copy_kept(o, p, h)
    out_put(o, b"\r\n", 2)
    return 0


cdef int edit_upgrade(Out *o, const char *p, Head *h, const char *extra, uint32_t extra_len, const char *id,
                      uint32_t id_len) except -1:
    """Write a 101 head for the client to o; what follows is not HTTP. extra, id: as of edit_response."""
    o.n = 0
    out_reserve(o, h.length + extra_len + id_len + 256)
    out_put(o, b"HTTP/1.1 101 Switching Protocols\r\n", 34)
    if id_len:
        _drop_id(h)
    _copy_kept(o, p, h)
    out_put(o, extra, extra_len)
    if id_len:
        _put_id(o, id, id_len)
    _put_upgrade(o, p, h)
    out_put(o, b"\r\n", 2)
    return 0


cdef int edit_trailers(Out *o, const char *p, uint32_t n) except -1:
    """Append to o what may pass of a trailer section of complete lines (RFC 9110 section 6.5.1).

    Fields with a meaning for framing, routing, sessions or the next hop are removed: no server may merge them into
    a head.
    """
    cdef uint32_t at = 0, end, name
    cdef bint alias
    out_reserve(o, n)
    while at < n:
        end = at
        while p[end] != c'\n':
            end += 1
        name = at
        while p[name] != c':':
            name += 1
        alias = False
        if (known_field(p + at, name - at, &alias) == F_OTHER and not alias
                and not (name - at > 8 and same_any(p + at, b"content-", 8))
                and not (name - at >= 21 and same_any(p + at, b"endpoint-load-metrics", 21))):
            out_put(o, p + at, end + 1 - at)
        at = end + 1
    return 0
