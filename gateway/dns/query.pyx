"""Reads a DNS query: strictly, once, and never beyond its end.

RFC 1035 section 4 (messages), RFC 6891 (EDNS), RFC 7871 (client subnet), RFC 7873 (cookies), RFC 9619 (one question).
What is not exactly a query as these describe it gets FORMERR, or no answer at all: a message too short for a header,
and one that is itself a response, since two servers must not answer each other forever.
"""

from libc.string cimport memcpy, memset

cdef enum:
    QR = 0x8000
    MAX_LABEL = 63
    QUERY = 0               # opcodes
    NOTIFY = 4
    T_TSIG = 250
    T_IXFR = 251
    T_NXNAME = 128          # says within NSEC that a name does not exist, and is never asked for (RFC 9824 section 2)
    T_META = 128            # from here on types are about queries, not data (RFC 6895 section 3.1)
    O_NSID = 3              # options of EDNS
    O_SUBNET = 8
    O_COOKIE = 10
    OPT_HEAD = 11           # bytes of an OPT record without its options: name, type, class, TTL, length
    DO = 0x8000
    CO = 0x4000             # compact answers OK (RFC 9824 section 5)
    IN = 1


cdef inline uint16_t _u16(const uint8_t *p) noexcept nogil:
    return <uint16_t>(p[0] << 8 | p[1])


cdef size_t _name(const uint8_t *p, size_t n, size_t at) noexcept nogil:
    """The offset behind a name without compression at `at`; 0: it is none, or too long."""
    cdef size_t begin = at
    while at < n:
        if p[at] == 0:
            at += 1
            return at if at - begin <= MAX_NAME else 0
        if p[at] > MAX_LABEL:
            return 0
        at += 1 + p[at]
        if at - begin >= MAX_NAME:
            return 0
    return 0


cdef bint _subnet(const uint8_t *p, size_t n, Query *q) noexcept nogil:
    """Read a client subnet of n bytes (RFC 7871 section 6); whether it is one."""
    cdef size_t bits, i
    if q.subnet or n < 4 or p[3] != 0:      # twice; too short; a scope, which only responses have
        return False
    q.subnet = True
    q.family = _u16(p)
    q.source = p[2]
    if q.family == 1:
        bits = 32
    elif q.family == 2:
        bits = 128
    elif q.family == 0:
        bits = 0
    else:
        return False
    if q.source > bits or n - 4 != (<size_t>q.source + 7) // 8:
        return False
    for i in range(n - 4):
        q.address[i] = p[4 + i]
    if q.source & 7 and q.address[n - 5] & (0xFF >> (q.source & 7)):
        return False                        # bits beyond the prefix must be 0
    return True


cdef bint _options(const uint8_t *p, size_t n, Query *q) noexcept nogil:
    """Read the options of an OPT record, n bytes; whether they are well-formed. Unknown ones are skipped."""
    cdef size_t at = 0, length
    cdef uint16_t code
    while at < n:
        if n - at < 4:
            return False
        code = _u16(p + at)
        length = _u16(p + at + 2)
        at += 4
        if length > n - at:
            return False
        if code == O_SUBNET:
            if not _subnet(p + at, length, q):
                return False
        elif code == O_COOKIE:
            if q.cookie_len or not (length == 8 or 16 <= length <= MAX_COOKIE):
                return False
            q.cookie_len = <uint8_t>length
            memcpy(q.cookie, p + at, length)
        elif code == O_NSID:
            q.nsid = True
        at += length
    return True


cdef int read_query(const uint8_t *p, size_t n, Query *q) noexcept nogil:
    """Read a message of n bytes. Returns NOERROR for a query to be looked up, the code of the answer, or SILENCE."""
    cdef size_t at = HEAD, end
    cdef uint16_t counts[4]
    cdef uint16_t kind, length
    cdef int i, _, opcode
    cdef bint signed = False, version = False
    memset(q, 0, sizeof(Query))
    if n < HEAD or n > 65535:
        return SILENCE
    q.id = _u16(p)
    q.flags = _u16(p + 2)
    if q.flags & QR:
        return SILENCE
    for i in range(4):
        counts[i] = _u16(p + 4 + 2 * i)
    opcode = q.flags >> 11 & 15
    if opcode != QUERY and opcode != NOTIFY:
        return NOTIMP
    if counts[0] > 1 or (counts[0] == 0 and opcode == NOTIFY):
        return FORMERR
    if counts[0]:
        end = _name(p, n, at)
        if end == 0 or n - end < 4:
            return FORMERR
        q.name_len = <uint16_t>(end - at)
        q.type = _u16(p + end)
        q.klass = _u16(p + end + 2)
        at = end + 4
    if opcode == NOTIFY:
        return REFUSED                      # it is no secondary of any zone (RFC 1996 section 3)
    if q.name_len and q.type == T_IXFR and counts[1] == 0 and counts[2] == 1:
        return REFUSED                      # has the SOA of the client in its authority section (RFC 1995)
    if counts[1] or counts[2] or counts[3] > 2:
        return FORMERR
    for _ in range(counts[3]):
        end = _name(p, n, at)
        if end == 0 or signed or n - end < OPT_HEAD - 1:
            return FORMERR
        kind = _u16(p + end)
        length = _u16(p + end + 8)
        if length > n - end - (OPT_HEAD - 1):
            return FORMERR
        if kind == T_OPT:
            if q.edns or end - at != 1:
                return FORMERR              # twice, or not of the root (RFC 6891 section 6.1)
            q.edns = True
            q.size = _u16(p + end + 2)
            version = p[end + 5] != 0
            q.dnssec = _u16(p + end + 6) & DO != 0
            q.compact = _u16(p + end + 6) & CO != 0
            if not version and not _options(p + end + OPT_HEAD - 1, length, q):
                q.subnet = q.nsid = False
                q.cookie_len = 0
                return FORMERR
        elif kind == T_TSIG:
            signed = True                   # the last one (RFC 8945 section 5.1)
        else:
            return FORMERR
        at = end + OPT_HEAD - 1 + length
    if at != n:
        return FORMERR
    if version:
        return BADVERS
    if signed:
        return NOTAUTH                      # there is no key to check it with
    if q.name_len == 0:
        return NOERROR if q.cookie_len else FORMERR     # asks for a cookie only (RFC 7873 section 5.4)
    if q.type == T_OPT or q.type == 0 or q.type == T_NXNAME:
        return FORMERR
    if q.klass != IN or (q.type >= T_META and q.type < T_ANY):
        return REFUSED                      # CHAOS, zone transfers
    return NOERROR


def read(bytes message):
    """Read a message: (code, what was found), for tests. The code is None for what gets no answer."""
    cdef Query q
    cdef int code = read_query(message, len(message), &q)
    if code == SILENCE:
        return None, {}
    return code, {
        "id": q.id,
        "flags": q.flags,
        "name": message[HEAD:HEAD + q.name_len],
        "type": q.type,
        "class": q.klass,
        "edns": bool(q.edns),
        "dnssec": bool(q.dnssec),
        "compact": bool(q.compact),
        "size": q.size,
        "nsid": bool(q.nsid),
        "cookie": q.cookie[:q.cookie_len],
        "subnet": (q.family, q.source, q.address[:16]) if q.subnet else None,
    }
