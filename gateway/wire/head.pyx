"""HTTP/1 message heads: one strict scan from bytes to offsets (RFC 9110, RFC 9112).

A head is scanned once, in place, into a `Head` of offsets; nothing is copied. There is one interpretation of every
byte sequence: whatever two implementations could read differently is refused with the status and the sentence in
REASONS. No socket, no clock, no state between calls.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp

from gateway.wire.wide cimport WIDE, first_bit, newlines, same_name, until_control, until_odd_name

cdef enum:
    LONGEST_KNOWN = 24          # more bytes than any name that known_field knows
    ODD = 2                     # in TOKEN: no letter, no digit, no hyphen
    # Kinds of fields that say something about where a message ends, or about the connection.
    FRAMING = (1 << F_CONTENT_LENGTH | 1 << F_TRANSFER_ENCODING | 1 << F_CONNECTION | 1 << F_UPGRADE | 1 << F_TE)

cdef uint8_t TOKEN[256]         # tchar, RFC 9110 section 5.6.2
cdef uint8_t TARGET[256]        # what may stand in a request target: visible ASCII but '#' (a fragment is never sent)
cdef uint8_t HOST[256]          # what may stand in a host name; sub-delims and userinfo are refused
cdef uint8_t LOWER[256]

REASONS = {
    R_BARE_LF: (400, "a line does not end with CRLF"),
    R_BARE_CR: (400, "a CR stands alone"),
    R_METHOD: (400, "the method is not a token"),
    R_TARGET: (400, "the request target is not valid"),
    R_TARGET_TOO_LONG: (414, "the request target is too long"),
    R_VERSION: (400, "the request line does not end with an HTTP version"),
    R_VERSION_UNSUPPORTED: (505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
    R_NAME: (400, "a header name is not a token followed by a colon"),
    R_VALUE: (400, "a header value contains a control byte"),
    R_FOLD: (400, "a header line is folded"),
    R_TOO_MANY_FIELDS: (431, "there are too many headers"),
    R_TOO_LARGE: (431, "the headers are too large"),
    R_HOST_MISSING: (400, "the Host header is missing"),
    R_HOST_REPEATED: (400, "there is more than one Host header"),
    R_HOST_INVALID: (400, "the Host header is not a host and an optional port"),
    R_HOST_DISAGREES: (400, "the Host header and the request target name different hosts"),
    R_LENGTH: (400, "Content-Length is not a plain number"),
    R_LENGTH_REPEATED: (400, "there is more than one Content-Length"),
    R_LENGTH_AND_CODING: (400, "there is both a Content-Length and a Transfer-Encoding"),
    R_CODING: (400, "Transfer-Encoding is not exactly one chunked"),
    R_CODING_OLD: (400, "Transfer-Encoding does not exist in HTTP/1.0"),
    R_CONNECT: (501, "this gateway is not a forward proxy"),
    R_STATUS_LINE: (400, "the status line is not valid"),
    R_PATH: (400, "the path is encoded in a way that hides what it names"),
    R_EXPECT: (417, "the only expectation known is 100-continue"),
    R_BODY_TOO_LARGE: (413, "the body is larger than allowed"),
    R_CHUNK: (400, "the chunked body is malformed"),
    R_TIMEOUT: (408, "the request did not arrive in time"),
    R_ENCODED_SLASH: (400, "the path has an encoded slash or backslash, which servers read in two ways"),
    R_PARAMETERS: (400, "the path has parameters, which servers read in two ways"),
    R_MAX_FORWARDS: (400, "Max-Forwards is not one plain number"),
    R_PSEUDO: (400, "the pseudo-header fields are not exactly those of a request"),
    R_CASE: (400, "a header name has capital letters"),
    R_CONNECTION: (400, "a header is about the connection, which no message over HTTP/2 may be"),
    R_BODY_LENGTH: (400, "the body is not as long as Content-Length says"),
    R_TRAILERS: (400, "the trailers are not valid, or not at the end"),
    R_STATUS_FIELD: (502, "the pseudo-header fields are not exactly one :status, at the beginning"),
    R_FRAMES: (502, "its frames break the rules of HTTP/2"),
    R_FLOOD: (502, "it floods the connection with frames or fields that carry nothing"),
    R_PROTOCOL: (501, "websocket is the only :protocol known here"),
    R_HEAD_CUT: (502, "the connection ended within the head"),
    R_NOT_ASKED: (502, "it switches to a protocol that the request did not ask for"),
    R_INTERIMS: (502, "more than 16 interim responses came before the final one"),
    R_EARLY_SWITCH: (502, "it switches protocols before the request is complete"),
    R_NO_SWITCH: (502, "it answers the handshake of a WebSocket with a success that is not 101"),
    R_ACCEPT: (502, "its Sec-WebSocket-Accept does not match the key that it was sent"),
}

cdef uint16_t STATUS[R_LAST + 1]


cdef void _fill_tables() noexcept:
    cdef int i
    for i in range(256):
        LOWER[i] = i
        TOKEN[i] = TARGET[i] = HOST[i] = 0
        if 0x21 <= i <= 0x7E:
            TARGET[i] = 1
        if c'A' <= i <= c'Z':
            LOWER[i] = i + 32
        if c'0' <= i <= c'9' or c'A' <= i <= c'Z' or c'a' <= i <= c'z':
            TOKEN[i] = HOST[i] = 1
    for i in b"!#$%&'*+.^_`|~":
        TOKEN[i] = ODD
    TOKEN[45] = 1
    for i in b"-._~":
        HOST[i] = 1
    for i in b"#\"<>\\^`{|}":       # RFC 3986 allows none of these; '#' would start a fragment
        TARGET[i] = 0
    # Seen in the wild, harmless to one interpretation, and refused by few servers: browsers send them in queries.
    for i in b"\"<>[\\]^`{|}":
        TARGET[i] = 2
    TARGET[59] = 2                  # ";" is legal, and a path with parameters is looked at all the same


_fill_tables()
for _reason, (_status, _sentence) in REASONS.items():
    STATUS[<int>_reason] = _status


cdef int status_of(int reason) noexcept nogil:
    """The status code to answer with, for a Reason of a request."""
    return STATUS[reason]


cdef str sentence_of(int reason):
    return REASONS[reason][1]


cdef inline bint same(const char *p, const char *lower, uint32_t n) noexcept nogil:
    """Whether n bytes at p equal `lower`, whatever their case."""
    cdef uint32_t i
    for i in range(n):
        if LOWER[<uint8_t>p[i]] != <uint8_t>lower[i]:
            return False
    return True


cdef bint is_token(const char *p, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if not TOKEN[<uint8_t>p[i]]:
            return False
    return n > 0


cdef bint _is_protocol(const char *p, uint32_t n) noexcept nogil:
    """A name, and maybe a slash and a version (RFC 9110 section 7.8), such as SPDY/3.1."""
    cdef const char *slash = <const char *>memchr(p, c'/', n)
    cdef uint32_t name
    if slash == NULL:
        return is_token(p, n)
    name = <uint32_t>(slash - p)
    return is_token(p, name) and is_token(slash + 1, n - name - 1)


cdef int find_end(const char *p, uint32_t n, uint32_t *seen, uint32_t *end) noexcept nogil:
    """Look for the empty line that ends a head; go on from `seen`, the end of the last complete line.

    R_OK: `end` is the length of the head. R_MORE: not there yet. R_BARE_LF: a line ended without CR.
    """
    cdef uint32_t at = seen[0], line = at, lf, step
    cdef uint64_t hits
    cdef const char *found
    if n < 64:
        while at < n:
            found = <const char *>memchr(p + at, c'\n', n - at)
            if found == NULL:
                break
            lf = <uint32_t>(found - p)
            if lf == at or p[lf - 1] != c'\r':
                return R_BARE_LF
            if lf == at + 1 and at > 0:
                end[0] = lf + 1
                return R_OK
            at = seen[0] = lf + 1
        return R_MORE
    if line == 0 and p[0] == c'\n':
        return R_BARE_LF
    while at < n:
        step = n - at
        if step >= 64:
            step = 64
            hits = newlines(p + at)
        else:
            # The last 64 bytes, without those that have been looked at.
            hits = newlines(p + n - 64) >> (64 - step)
        while hits:
            lf = at + first_bit(hits)
            hits &= hits - 1
            # At the start of a line this is the LF before, which is no CR, either.
            if p[lf - 1] != c'\r':
                return R_BARE_LF
            if lf == line + 1 and line > 0:
                end[0] = lf + 1
                return R_OK
            line = seen[0] = lf + 1
        at += step
    return R_MORE


# ---------------------------------------------------------------------------------------------- request and status line

cdef inline int _version(const char *p, uint8_t *minor) noexcept nogil:
    """HTTP-version, RFC 9112 section 2.3: eight bytes, case-sensitive."""
    if memcmp(p, b"HTTP/", 5) != 0 or not c'0' <= p[5] <= c'9' or p[6] != c'.' or not c'0' <= p[7] <= c'9':
        return R_VERSION
    if p[5] != c'1' or p[7] > c'1':
        return R_VERSION_UNSUPPORTED
    minor[0] = p[7] - c'0'
    return R_OK


cdef inline uint8_t _method(const char *p, uint32_t n) noexcept nogil:
    if n == 3:
        if memcmp(p, b"GET", 3) == 0:
            return M_GET
        if memcmp(p, b"PUT", 3) == 0:
            return M_PUT
    elif n == 4:
        if memcmp(p, b"POST", 4) == 0:
            return M_POST
        if memcmp(p, b"HEAD", 4) == 0:
            return M_HEAD
    elif n == 5:
        if memcmp(p, b"PATCH", 5) == 0:
            return M_PATCH
        if memcmp(p, b"TRACE", 5) == 0:
            return M_TRACE
    elif n == 6:
        if memcmp(p, b"DELETE", 6) == 0:
            return M_DELETE
    elif n == 7:
        if memcmp(p, b"OPTIONS", 7) == 0:
            return M_OPTIONS
        if memcmp(p, b"CONNECT", 7) == 0:
            return M_CONNECT
    return M_OTHER


cdef int check_start(const char *p, uint32_t n, Bounds *bounds) noexcept nogil:
    """What can be refused of an incomplete head: garbage for a method, an endless or bad first line.

    So that a client that speaks another protocol hears so at once, not when its time is up.
    """
    cdef uint32_t i = 0
    cdef const char *lf
    cdef uint8_t minor
    while i < n and TOKEN[<uint8_t>p[i]]:
        i += 1
    if i > 32 or (i < n and (p[i] != c' ' or i == 0)):
        return R_METHOD
    lf = <const char *>memchr(p, c'\n', n)
    if lf == NULL:
        if n > bounds.target + 64:
            return R_TARGET_TOO_LONG
    elif lf - p < 13 or _version(lf - 9, &minor) == R_VERSION or (lf - 10)[0] != c' ':
        return R_VERSION
    return R_OK


cdef inline int _request_line(const char *p, uint32_t n, Head *h, Bounds *bounds, uint32_t *next_line) noexcept nogil:
    cdef uint32_t i = 0, start, stop
    cdef int why
    cdef bint plain = True
    cdef uint8_t c, kind
    while i < n and TOKEN[<uint8_t>p[i]]:
        i += 1
    if i == 0 or i > 32 or p[i] != c' ':
        return R_METHOD
    h.method_len = i
    h.method = _method(p, i)
    start = i = i + 1
    h.path_len = 0
    while True:
        i += until_odd_name(p + i)
        c = <uint8_t>p[i]
        kind = TARGET[c]
        if kind != 1:
            if kind == 0:
                break
            plain = False
        elif c == c'?':
            break
        elif c == c'%':
            plain = False
        elif c == c'/' and (p[i + 1] | 1) == c'/':
            plain = False               # a dot or another slash follows
        i += 1
    h.path_len = i - start
    if c == c'?':
        while TARGET[<uint8_t>p[i]]:
            i += 1
    if p[i] != c' ':
        return R_VERSION if p[i] == c'\r' and i > start else R_TARGET
    stop = i
    if stop == start:
        return R_TARGET
    if stop - start > bounds.target:
        return R_TARGET_TOO_LONG
    why = _version(p + stop + 1, &h.minor)
    if why != R_OK:
        return why
    if p[stop + 9] != c'\r' or p[stop + 10] != c'\n':
        return R_VERSION
    next_line[0] = stop + 11
    h.authority_len = 0
    if p[start] == c'/':
        pass
    elif stop - start == 1 and p[start] == c'*':
        if h.method != M_OPTIONS:
            return R_TARGET
    elif h.method == M_CONNECT:
        return R_CONNECT
    else:
        # absolute-form, RFC 9112 section 3.2.2: http or https, then an authority
        if stop - start > 7 and same(p + start, b"http://", 7):
            i = start + 7
        elif stop - start > 8 and same(p + start, b"https://", 8):
            i = start + 8
        else:
            return R_TARGET
        h.authority = i
        while i < stop and p[i] != c'/' and p[i] != c'?':
            i += 1
        h.authority_len = i - h.authority
        if i == stop or p[i] == c'?':
            # An empty path is "/", which is not there to point at; two equal ways to write it are one too many.
            return R_TARGET
        h.path_len -= i - start
        start = i
    if h.method == M_CONNECT:
        return R_CONNECT
    h.target = start
    h.target_len = stop - start
    h.plain_target = plain
    return R_OK


# ------------------------------------------------------------------------------------------------------- header fields

cdef uint8_t _known_plain(const char *p, uint32_t n) noexcept nogil:
    """What the name of n token characters at p means to the gateway, whatever its case."""
    cdef uint8_t c = <uint8_t>p[0] | 32
    if c == c'x':
        if n > 12 and same_name(p, b"x-forwarded-", 12):
            if n == 15 and same_name(p + 12, b"for", 3):
                return F_X_FORWARDED_FOR
            if n == 16 and same_name(p + 12, b"host", 4):
                return F_X_FORWARDED_HOST
            if n == 17 and same_name(p + 12, b"proto", 5):
                return F_X_FORWARDED_PROTO
            return F_X_FORWARDED
        if n == 9 and same_name(p, b"x-real-ip", 9):
            return F_X_FORWARDED
        return F_REQUEST_ID if n == 12 and same_name(p, b"x-request-id", 12) else F_OTHER
    if c == c'p':
        return F_PROXY if n > 6 and same_name(p, b"proxy-", 6) else F_OTHER
    if n == 2:
        if same_name(p, b"te", 2):
            return F_TE
    elif n == 3:
        if same_name(p, b"via", 3):
            return F_VIA
    elif n == 4:
        if same_name(p, b"host", 4):
            return F_HOST
        if same_name(p, b"date", 4):
            return F_DATE
    elif n == 6:
        if same_name(p, b"cookie", 6):
            return F_COOKIE
        if same_name(p, b"expect", 6):
            return F_EXPECT
        if same_name(p, b"server", 6):
            return F_SERVER
    elif n == 7:
        if same_name(p, b"referer", 7):
            return F_REFERER
        if same_name(p, b"upgrade", 7):
            return F_UPGRADE
        if same_name(p, b"trailer", 7):
            return F_TRAILER
    elif n == 9:
        if same_name(p, b"forwarded", 9):
            return F_FORWARDED
    elif n == 10:
        if same_name(p, b"connection", 10):
            return F_CONNECTION
        if same_name(p, b"user-agent", 10):
            return F_USER_AGENT
        if same_name(p, b"set-cookie", 10):
            return F_SET_COOKIE
        if same_name(p, b"keep-alive", 10):
            return F_KEEP_ALIVE
    elif n == 11:
        if same_name(p, b"traceparent", 11):
            return F_TRACEPARENT
    elif n == 12:
        if same_name(p, b"content-type", 12):
            return F_CONTENT_TYPE
    elif n == 13:
        if same_name(p, b"authorization", 13):
            return F_AUTHORIZATION
        if same_name(p, b"cache-control", 13):
            return F_CACHE_CONTROL
    elif n == 14:
        if same_name(p, b"content-length", 14):
            return F_CONTENT_LENGTH
        if same_name(p, b"http2-settings", 14):
            return F_HTTP2_SETTINGS
    elif n == 16:
        if same_name(p, b"www-authenticate", 16):
            return F_WWW_AUTHENTICATE
    elif n == 17:
        if same_name(p, b"transfer-encoding", 17):
            return F_TRANSFER_ENCODING
    return F_OTHER


cdef uint8_t known_field(const char *p, uint32_t n, bint *alias) noexcept nogil:
    """What a name means to the gateway, taking "_" for "-" as CGI-style servers do (`alias` then says so).

    Of a name that is known by how it begins ("proxy-…", "x-forwarded-…") only the beginning counts for `alias`.
    """
    cdef char name[LONGEST_KNOWN]
    cdef uint32_t i, shown = n if n < LONGEST_KNOWN else LONGEST_KNOWN
    cdef uint8_t known
    for i in range(shown):
        if TOKEN[<uint8_t>p[i]]:
            name[i] = c'-' if p[i] == c'_' else p[i]
        else:
            name[i] = 0             # equal to nothing
    known = _known_plain(name, n) if n else F_OTHER
    if known == F_OTHER:
        return F_OTHER
    if known == F_PROXY:
        shown = 6
    elif known == F_X_FORWARDED and n > 12:
        shown = 12
    for i in range(shown):
        if p[i] == c'_':
            alias[0] = True
    return known


cdef inline const char *_skip_value(const char *q) noexcept nogil:
    """The first byte at or after q that may not stand in a field value (RFC 9110 section 5.5): CR in a good head.

    The caller guarantees that a CRLF follows, and WIDE readable bytes after it.
    """
    cdef unsigned n
    while True:
        n = until_control(q)
        q += n
        if n < <unsigned>WIDE:
            if q[0] != c'\t':
                return q
            q += 1


cdef int _fields(const char *p, uint32_t n, uint32_t at, Head *h, Bounds *bounds) noexcept nogil:
    cdef const char *q = p + at
    cdef const char *name
    cdef const char *value
    cdef const char *end
    cdef Field *f = h.fields
    cdef bint alias
    cdef uint8_t odd, kind
    cdef uint32_t kinds = 0
    cdef uint32_t limit = bounds.fields if bounds.fields < MAX_FIELDS else MAX_FIELDS
    cdef Field *stop = f + limit
    h.count = 0
    while q[0] != c'\r':
        name = q
        odd = 0
        while True:
            q += until_odd_name(q)
            kind = TOKEN[<uint8_t>q[0]]
            if kind == 0:
                break
            odd |= kind
            q += 1
        if q == name:
            return R_FOLD if name[0] == c' ' or name[0] == c'\t' else R_NAME
        if q[0] != c':' or q - name > 0xFFFF:
            return R_NAME
        if f == stop:
            return R_TOO_MANY_FIELDS
        f.name = <uint32_t>(name - p)
        f.name_len = <uint16_t>(q - name)
        q += 1
        while q[0] == c' ' or q[0] == c'\t':
            q += 1
        value = q
        end = q = _skip_value(q)
        if q[0] != c'\r':
            return R_BARE_LF if q[0] == c'\n' else R_VALUE
        if q[1] != c'\n':
            return R_BARE_CR
        while end > value and ((end - 1)[0] == c' ' or (end - 1)[0] == c'\t'):
            end -= 1
        f.value = <uint32_t>(value - p)
        f.value_len = <uint32_t>(end - value)
        if odd & ODD:
            alias = False
            f.known = known_field(name, f.name_len, &alias)
            f.drop = f.known != F_OTHER and f.known <= F_LAST_HOP
            if alias:
                # "Content_Length" is not Content-Length, and a server that thinks so must not see it.
                f.known = F_OTHER
                f.drop = True
        else:
            f.known = _known_plain(name, f.name_len)
            f.drop = f.known != F_OTHER and f.known <= F_LAST_HOP
        kinds |= <uint32_t>1 << f.known
        f += 1
        q += 2
    h.count = <int>(f - h.fields)
    h.kinds = kinds
    if q[1] != c'\n':
        return R_BARE_CR
    h.length = <uint32_t>(q + 2 - p)
    if h.length != n:
        return R_BARE_CR
    return R_OK


cdef int _content_length(const char *p, uint32_t n, int64_t *length) noexcept nogil:
    """1*DIGIT (RFC 9110 section 8.6), at most 18 of them, so that it can't overflow."""
    cdef uint32_t i
    cdef int64_t total = 0
    if n == 0 or n > 18:
        return R_LENGTH
    for i in range(n):
        if not c'0' <= p[i] <= c'9':
            return R_LENGTH
        total = total * 10 + (p[i] - c'0')
    length[0] = total
    return R_OK


cdef void _connection(const char *p, Head *h, Field *f, bint *close, bint *keep, bint *upgrade) noexcept nogil:
    """Read the options of one Connection field; mark the fields it names (RFC 9110 section 7.6.1)."""
    cdef const char *q = p + f.value
    cdef const char *stop = q + f.value_len
    cdef const char *token
    cdef uint32_t n
    cdef int i
    cdef Field *other
    while q < stop:
        while q < stop and (q[0] == c' ' or q[0] == c'\t' or q[0] == c','):
            q += 1
        token = q
        while q < stop and q[0] != c',' and q[0] != c' ' and q[0] != c'\t':
            q += 1
        n = <uint32_t>(q - token)
        if n == 0:
            continue
        if n == 5 and same(token, b"close", 5):
            close[0] = True
        elif n == 10 and same(token, b"keep-alive", 10):
            keep[0] = True
        elif n == 7 and same(token, b"upgrade", 7):
            upgrade[0] = True
        else:
            for i in range(h.count):
                other = &h.fields[i]
                # What the gateway or every server needs is end-to-end, whatever a client calls it.
                if other.known == F_OTHER and other.name_len == n and same_any(p + other.name, token, n):
                    other.drop = True


cdef bint same_any(const char *a, const char *b, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if LOWER[<uint8_t>a[i]] != LOWER[<uint8_t>b[i]]:
            return False
    return True


cdef bint same_to_servers(const char *a, const char *b, uint32_t n) noexcept nogil:
    """As same_any, and "_" is "-", as CGI and WSGI have it: for names that clients must not use."""
    cdef uint32_t i
    cdef char one, other
    for i in range(n):
        one, other = (c'-' if a[i] == c'_' else a[i]), (c'-' if b[i] == c'_' else b[i])
        if LOWER[<uint8_t>one] != LOWER[<uint8_t>other]:
            return False
    return True


cdef int _framing(const char *p, Head *h) noexcept nogil:
    """Content-Length, Transfer-Encoding and Connection (RFC 9112 sections 6 and 9.3)."""
    cdef int i, why
    cdef Field *f
    cdef bint close = False, keep = False, upgrade = False
    cdef int upgrades = 0
    cdef Field *protocol = NULL
    h.content_length = -1
    h.chunked = h.trailers = 0
    for i in range(h.count if h.kinds & FRAMING else 0):
        f = &h.fields[i]
        if f.known == F_OTHER:
            continue
        if f.known == F_CONTENT_LENGTH:
            if h.content_length >= 0:
                return R_LENGTH_REPEATED
            why = _content_length(p + f.value, f.value_len, &h.content_length)
            if why != R_OK:
                return why
            f.drop = True           # rewritten in one form: "05" becomes "5"
        elif f.known == F_TRANSFER_ENCODING:
            if h.chunked or f.value_len != 7 or not same(p + f.value, b"chunked", 7):
                return R_CODING
            h.chunked = 1
        elif f.known == F_CONNECTION:
            _connection(p, h, f, &close, &keep, &upgrade)
        elif f.known == F_UPGRADE:
            upgrades += 1
            h.upgrade_field = i
            protocol = f
        elif f.known == F_TE and f.value_len == 8 and same(p + f.value, b"trailers", 8):
            h.trailers = 1
    if h.chunked:
        if h.minor == 0:
            return R_CODING_OLD
        if h.content_length >= 0:
            return R_LENGTH_AND_CODING
    h.keep_alive = (not close) and (h.minor == 1 or keep)
    # No tunnel to another HTTP version: its requests would bypass the rules.
    h.upgrade = (upgrade and upgrades == 1 and h.minor == 1 and _is_protocol(p + protocol.value, protocol.value_len)
                 and not (protocol.value_len >= 2 and same(p + protocol.value, b"h2", 2))
                 and not (protocol.value_len >= 4 and same(p + protocol.value, b"http", 4)))
    return R_OK


cdef int _host(const char *p, uint32_t at, uint32_t n, uint32_t *host_len) noexcept nogil:
    """uri-host [":" port] (RFC 3986 section 3.2.2), narrowed to names, IPv4 and bracketed IPv6 addresses."""
    cdef uint32_t i = 0, port = 0
    cdef const char *q = p + at
    if n == 0 or n > 261:
        return R_HOST_INVALID
    if q[0] == c'[':
        i = 1
        while i < n and (c'0' <= q[i] <= c':' or c'a' <= (q[i] | 32) <= c'f' or q[i] == c'.'):
            i += 1
        if i < 3 or i >= n or q[i] != c']':
            return R_HOST_INVALID
        i += 1
    else:
        while i < n and HOST[<uint8_t>q[i]]:
            i += 1
        if i == 0:
            return R_HOST_INVALID
    host_len[0] = i
    if i == n:
        return R_OK
    if q[i] != c':' or n - i > 6:
        return R_HOST_INVALID
    i += 1
    while i < n:
        if not c'0' <= q[i] <= c'9':
            return R_HOST_INVALID
        port = port * 10 + (q[i] - c'0')
        i += 1
    return R_OK if port <= 65535 else R_HOST_INVALID


cdef int scan_request(const char *p, uint32_t n, Head *h, Bounds *bounds) noexcept nogil:
    """Scan the complete request head of n bytes at p (see find_end); WIDE more bytes must be readable."""
    cdef uint32_t at = 0, absolute_len = 0
    cdef int why, i
    cdef Field *f
    why = _request_line(p, n, h, bounds, &at)
    if why != R_OK:
        return why
    if n > bounds.head:
        return R_TOO_LARGE
    why = _fields(p, n, at, h, bounds)
    if why != R_OK:
        return why
    why = _framing(p, h)
    if why != R_OK:
        return why
    h.has_host = h.http2 = 0
    h.host = h.host_len = h.hostport_len = 0
    h.expects = 0
    for i in range(h.count):
        f = &h.fields[i]
        if f.known == F_HOST:
            if h.has_host:
                return R_HOST_REPEATED
            h.has_host = 1
            h.host = f.value
            h.hostport_len = f.value_len
            why = _host(p, f.value, f.value_len, &h.host_len)
            if why != R_OK:
                return why
        elif f.known == F_EXPECT:
            if f.value_len != 12 or not same(p + f.value, b"100-continue", 12):
                return R_EXPECT
            if h.minor == 1:
                h.expects = 1
            else:
                f.drop = True       # RFC 9110 section 10.1.1: an HTTP/1.0 client's expectation is ignored
    if not h.has_host and h.minor == 1:
        return R_HOST_MISSING
    if h.authority_len:
        why = _host(p, h.authority, h.authority_len, &absolute_len)
        if why != R_OK:
            return why
        if h.has_host and (h.authority_len != h.hostport_len
                           or not same_any(p + h.authority, p + h.host, h.hostport_len)):
            return R_HOST_DISAGREES
        h.host = h.authority
        h.host_len = absolute_len
        h.hostport_len = h.authority_len
    return R_OK


cdef int scan_response(const char *p, uint32_t n, Head *h, Bounds *bounds) noexcept nogil:
    """Scan the complete response head of n bytes at p; as scan_request."""
    cdef int why
    cdef const char *q
    if n < 17:
        return R_STATUS_LINE
    why = _version(p, &h.minor)
    if why != R_OK:
        return R_STATUS_LINE if why == R_VERSION else why
    if p[8] != c' ' or not c'1' <= p[9] <= c'5' or not c'0' <= p[10] <= c'9' or not c'0' <= p[11] <= c'9':
        return R_STATUS_LINE
    h.status = (p[9] - c'0') * 100 + (p[10] - c'0') * 10 + (p[11] - c'0')
    q = p + 12
    if q[0] == c' ':
        q += 1
    elif q[0] != c'\r':
        return R_STATUS_LINE
    h.reason = <uint32_t>(q - p)
    q = _skip_value(q)
    if q[0] != c'\r' or q[1] != c'\n':
        return R_STATUS_LINE
    h.reason_len = <uint32_t>(q - p) - h.reason
    why = _fields(p, n, <uint32_t>(q - p) + 2, h, bounds)
    if why != R_OK:
        return why
    return _framing(p, h)


# ----------------------------------------------------------------------------------------- for tests and for explaining

cdef Head _scratch


def parse_request(bytes data, int head_bytes=32768, int target_bytes=16384, int fields=100):
    """Scan one complete request head for a person or a test.

    Returns (0, facts) or (status, sentence): facts is a dict of method, target, path, host, version, headers (list of
    (name, value, forwarded)), content_length (None if absent), chunked, keep_alive, expects, length (bytes).
    Raises ValueError while the head is incomplete.
    """
    cdef Bounds bounds
    cdef uint32_t seen = 0, end = 0
    cdef int why
    cdef bytes padded = data + b"\0" * 16
    cdef const char *p = padded
    bounds.head = head_bytes
    bounds.target = target_bytes
    bounds.fields = fields
    why = check_start(p, len(data), &bounds)
    if why == R_OK:
        why = find_end(p, len(data), &seen, &end)
    if why == R_OK:
        why = scan_request(p, end, &_scratch, &bounds)
    if why == R_MORE:
        raise ValueError("the head is incomplete")
    if why != R_OK:
        return status_of(why), sentence_of(why)
    facts = _facts(data, &_scratch)
    facts["method"] = data[:_scratch.method_len]
    facts["target"] = data[_scratch.target:_scratch.target + _scratch.target_len]
    facts["path"] = data[_scratch.target:_scratch.target + _scratch.path_len]
    facts["host"] = data[_scratch.host:_scratch.host + _scratch.host_len]
    facts["expects"] = bool(_scratch.expects)
    return 0, facts


def parse_response(bytes data, int head_bytes=65536, int fields=1000):
    """Scan one complete response head: (0, facts) or (502, sentence); facts as of parse_request."""
    cdef Bounds bounds
    cdef uint32_t seen = 0, end = 0
    cdef int why
    cdef bytes padded = data + b"\0" * 16
    cdef const char *p = padded
    bounds.head = head_bytes
    bounds.target = 0
    bounds.fields = fields
    why = find_end(p, len(data), &seen, &end)
    if why == R_OK:
        why = scan_response(p, end, &_scratch, &bounds)
    if why == R_MORE:
        raise ValueError("the head is incomplete")
    if why != R_OK:
        return 502, sentence_of(why)
    facts = _facts(data, &_scratch)
    facts["status"] = _scratch.status
    facts["reason"] = data[_scratch.reason:_scratch.reason + _scratch.reason_len]
    return 0, facts


cdef dict _facts(bytes data, Head *h):
    cdef int i
    headers = []
    for i in range(h.count):
        f = h.fields[i]
        headers.append((data[f.name:f.name + f.name_len], data[f.value:f.value + f.value_len], not f.drop))
    return {
        "version": f"HTTP/1.{h.minor}",
        "headers": headers,
        "content_length": None if h.content_length < 0 else h.content_length,
        "chunked": bool(h.chunked),
        "keep_alive": bool(h.keep_alive),
        "length": h.length,
    }
