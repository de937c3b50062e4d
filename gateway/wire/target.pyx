"""One normal form of a path, for rules and for forwarding alike (RFC 3986 section 6.2.2).

Percent-encoded unreserved characters are decoded, the rest is encoded in upper case, runs of slashes become one, dot
segments are resolved. What a server could read differently from us is refused: a NUL, an encoding that is no encoding,
a backslash, a slash or backslash that is encoded, and a dot segment that hides behind one or behind a path parameter
("..%2f", "..;").

Rules see one thing more: encoded delimiters that servers do not tell from plain ones ("%40", "%3A") are decoded for
them, while the server gets these as they came (RFC 3986 section 2.2 makes them a difference).
"""

from libc.stdint cimport uint8_t

from gateway.wire.head cimport R_ENCODED_SLASH, R_PARAMETERS, R_PATH

cdef char *HEX = b"0123456789ABCDEF"

# Delimiters that mean the same plain and encoded to every server known. "+" and ";" do not: some servers read them as
# a space and as the start of a parameter.
cdef uint8_t SAME[256]
for _i in range(256):
    SAME[_i] = _i in b"!$&'()*,=:@"


cdef inline int _hex(uint8_t c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 32
    return c - c'a' + 10 if c'a' <= c <= c'f' else -1


cdef inline bint _unreserved(uint8_t c) noexcept nogil:
    return (c'0' <= c <= c'9' or c'A' <= c <= c'Z' or c'a' <= c <= c'z'
            or c == c'-' or c == c'.' or c == c'_' or c == c'~')


cdef inline bint _dots(const char *p, uint32_t n) noexcept nogil:
    return (n == 1 and p[0] == c'.') or (n == 2 and p[0] == c'.' and p[1] == c'.')


cdef int _hidden(const char *p, uint32_t n) noexcept nogil:
    """Whether a segment holds a dot segment behind ";", "%3B", "%2F" or "%5C"."""
    cdef uint32_t i = 0, start = 0
    cdef bint cut
    while i <= n:
        cut = i == n or p[i] == c';'
        if cut or (p[i] == c'%' and i + 2 < n
                   and ((p[i + 1] == c'2' and p[i + 2] == c'F') or (p[i + 1] == c'5' and p[i + 2] == c'C')
                        or (p[i + 1] == c'3' and p[i + 2] == c'B'))):
            if _dots(p + start, i - start) and not (start == 0 and i == n):
                return True
            i += 1 if cut else 3
            start = i
        else:
            i += 1
    return False


cdef int normalise(const char *p, uint32_t n, char *out, int accept) noexcept nogil:
    """Write the normal form of the path of n bytes at p to out (3n bytes are enough).

    accept: what of Accept holds. Returns the length, or -Reason: refused.
    """
    cdef uint32_t i = 0, at = 0, start
    cdef int high, low, refused = 0
    cdef uint8_t c
    if n == 0 or p[0] != c'/':
        return -<int>R_PATH
    while i < n:
        # One segment with its leading slash: written encoded, then looked at.
        i += 1
        if accept & A_MERGE:
            while i < n and p[i] == c'/':
                i += 1
        out[at] = c'/'
        at += 1
        start = at
        while i < n and p[i] != c'/':
            c = <uint8_t>p[i]
            if c == c'%':
                if i + 2 >= n:
                    return -<int>R_PATH
                high = _hex(<uint8_t>p[i + 1])
                low = _hex(<uint8_t>p[i + 2])
                if high < 0 or low < 0 or (high == 0 and low == 0):
                    return -<int>R_PATH
                c = <uint8_t>(high * 16 + low)
                i += 3
                if (c == c'/' or c == c'\\') and not accept & A_SLASH:
                    refused = R_ENCODED_SLASH
                if _unreserved(c):
                    out[at] = c
                    at += 1
                    continue
            elif c == c'\\':
                return -<int>R_PATH
            elif (c == c'"' or c == c'<' or c == c'>' or c == c'[' or c == c']' or c == c'^' or c == c'`'
                  or c'{' <= c <= c'}'):
                i += 1              # needs encoding, and gets it
            else:
                if c == c';' and not accept & A_PARAMETERS:
                    refused = R_PARAMETERS
                out[at] = c
                at += 1
                i += 1
                continue
            out[at] = c'%'
            out[at + 1] = HEX[c >> 4]
            out[at + 2] = HEX[c & 15]
            at += 3
        if _hidden(out + start, at - start):
            return -<int>R_PATH
        if _dots(out + start, at - start):
            if at - start == 2 and start > 1:
                # "..": take back the segment before; "/.." is "/" (RFC 3986 section 5.2.4)
                at = start - 1
                while at > 0 and out[at - 1] != c'/':
                    at -= 1
                at = at - 1 if at > 0 else 0
            else:
                at = start - 1
            if i >= n:
                out[at] = c'/'        # a dot segment at the end leaves a directory
                at += 1
    return -refused if refused else <int>at


cdef int as_matched(const char *p, uint32_t n, char *out) noexcept nogil:
    """Write the path in normal form of n bytes at p to out as rules see it. Its length, at most n."""
    cdef uint32_t i = 0, at = 0
    cdef uint8_t c
    while i < n:
        c = <uint8_t>p[i]
        if c == c'%':
            c = <uint8_t>(_hex(<uint8_t>p[i + 1]) * 16 + _hex(<uint8_t>p[i + 2]))
            if SAME[c]:
                i += 2
            else:
                c = c'%'
        out[at] = c
        at += 1
        i += 1
    return <int>at


def normal_path(bytes path, *, bint merge=True, bint slash=False, bint parameters=True):
    """The normal form of a path, or None where it is refused; for tests."""
    cdef bytes out = bytes(3 * len(path) + 1)
    cdef int accept = (A_MERGE if merge else 0) | (A_SLASH if slash else 0) | (A_PARAMETERS if parameters else 0)
    cdef int n = normalise(path, len(path), <char *>out, accept)
    return None if n < 0 else out[:n]


def matched_path(bytes path):
    """A path in normal form as rules see it; for tests."""
    cdef bytes out = bytes(len(path) + 1)
    cdef int n = as_matched(path, len(path), <char *>out)
    return out[:n]


def matched_text(str path):
    """The path of a rule, spelt as the paths are that it is held against; dot segments and slashes stay."""
    out = []
    i = 0
    while i < len(path):
        char = path[i]
        digits = path[i + 1:i + 3]
        if char == "%" and len(digits) == 2 and set(digits) <= set("0123456789abcdefABCDEF"):
            code = int(digits, 16)
            out.append(chr(code) if _unreserved(code) or SAME[code] else "%" + digits.upper())
            i += 3
            continue
        out.append(f"%{ord(char):02X}" if char in '"<>[]^`{|}' else char)
        i += 1
    return "".join(out)
