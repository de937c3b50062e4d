"""Affinity sends a client back to the server that served it before: by a cookie, the URL, its network, or a header.

`find` returns the server that a request belongs to, as an index in Members; the caller checks whether that server can
take it. The client holds all state, so a session outlives reloads, restarts and other workers.

The gateway's own cookie is 24 bytes in base64: a token for a server (8), one for the session (6), and a tag over both
(10, SipHash with a key of that server). Without the key, a client can neither choose a server nor find out which exist.
80 bits are enough for a tag that can only be tried against a running gateway (RFC 2104 section 5 requires at least 80).
"""

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as _NotBase64
from hashlib import blake2b

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from gateway.balance.hashing cimport hash_bytes, hash_field, keeper
from gateway.wire.siphash cimport DIGEST, KEY, siphash
from gateway.wire.head cimport F_COOKIE, F_SET_COOKIE, Field
from gateway.wire.mark cimport PREFIX, mark_length, next_cookie

cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET, AF_INET6
    int inet_pton(int family, const char *text, void *to)

cdef enum:
    TOKEN = 8
    SESSION = 6
    TAG = 10
    COOKIE = 32             # characters of these three parts in base64
    MAX_ATTRIBUTES = 200    # longest attributes of a learned cookie, as written

UNKNOWN = b"\0"             # stands for attributes that are too long to be carried


cdef class Affinity:
    cdef int find(self, const char *head, Head *h, const char *uri, uint32_t uri_len, bytes source) except -2:
        """The server of this request; -1 if the request names none."""
        return -1

    cdef bytes mark(self, int i, int64_t now):
        """The header line that directs the client's next requests to server i."""
        return b""

    cdef int find_learned(self, const char *asked, uint32_t n) except -2:
        """If `learns` is set, used in place of `find`: reads the head as the client sent it, with marks."""
        return -1

    cdef bytes learn(self, int i, const char *p, Head *h, const char *asked, uint32_t asked_len, bint moved):
        """Remove the cookies that server i sets from its response; return the lines that replace them for the client.

        asked: the head of the request; moved: the server that it belonged to was unavailable.
        """
        return b""

    def example(self, int i):
        """What a client of server i sends, for tests of sites; None if it does not depend on the server."""
        return None


cdef class CookieAffinity(Affinity):
    """members: of the backend. name, attributes: of the cookie. key: 16 to 64 bytes. tokens: 8 bytes per server.

    Raises ValueError for a key of another length.
    """

    cdef bytes name
    cdef bytes attributes
    cdef dict by_token
    cdef list tokens
    cdef list keys
    cdef uint8_t value_of[256]      # value of a base64 character, plus 1

    def __init__(self, Members members, str name, str attributes, bytes key, tokens):
        cdef int i
        if not 16 <= len(key) <= 64:
            raise ValueError("the key of a cookie has 16 to 64 bytes")
        self.members = members
        self.marks = True
        self.name = name.encode()
        self.attributes = attributes.encode()
        # Keyed: otherwise the holder of a cookie could find out its server's name, which may be its address.
        self.tokens = [blake2b(b"eddie affinity token\0" + token, key=key, digest_size=TOKEN).digest()
                       for token in tokens]
        self.by_token = {token: i for i, token in enumerate(self.tokens)}
        self.keys = [
            blake2b(b"eddie affinity\0" + token + b"\0", key=key, digest_size=KEY).digest() for token in tokens
        ]
        for i in range(64):
            self.value_of[b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[i]] = i + 1

    def __str__(self):
        return f"cookie {self.name.decode()}"

    cdef bytes _tag(self, int i, bytes body):
        cdef uint8_t digest[DIGEST]
        siphash(<bytes>self.keys[i], body, <size_t>PyBytes_GET_SIZE(body), digest)
        return digest[:TAG]

    cdef int find(self, const char *head, Head *h, const char *uri, uint32_t uri_len, bytes source) except -2:
        cdef int i, found
        cdef uint32_t at, end, n = <uint32_t>PyBytes_GET_SIZE(self.name)
        cdef const char *name = PyBytes_AS_STRING(self.name)
        cdef const char *value
        for i in range(h.count):
            if h.fields[i].known != F_COOKIE:
                continue
            value = head + h.fields[i].value
            end = h.fields[i].value_len
            at = 0
            while at < end:
                while at < end and (value[at] == c' ' or value[at] == c';'):
                    at += 1
                if at + n + 1 + COOKIE <= end and memcmp(value + at, name, n) == 0 and value[at + n] == c'=':
                    found = self._read(<const uint8_t *>(value + at + n + 1))
                    if found >= 0:
                        return found
                while at < end and value[at] != c';':
                    at += 1
        return -1

    cdef int _read(self, const uint8_t *text) except -2:
        """The server of a cookie that the gateway has signed, or -1."""
        cdef uint8_t content[TOKEN + SESSION + TAG]
        cdef uint8_t digest[DIGEST]
        cdef uint32_t bits = 0, wrong = 0
        cdef int i
        for i in range(COOKIE):
            if self.value_of[text[i]] == 0:
                return -1
            bits = bits << 6 | <uint32_t>(self.value_of[text[i]] - 1)
            if i & 3 == 3:
                content[i // 4 * 3] = <uint8_t>(bits >> 16)
                content[i // 4 * 3 + 1] = <uint8_t>(bits >> 8)
                content[i // 4 * 3 + 2] = <uint8_t>bits
        index = self.by_token.get(content[:TOKEN])
        if index is None:
            return -1
        siphash(<bytes>self.keys[index], content, TOKEN + SESSION, digest)
        for i in range(TAG):
            wrong |= content[TOKEN + SESSION + i] ^ digest[i]      # all bytes: the time must not reveal how many agree
        if wrong:
            return -1
        self.members.see_session(index, hash_bytes(<char *>content + TOKEN, SESSION))
        return index

    cdef bytes _cookie(self, int i, bytes session):
        cdef bytes body = <bytes>self.tokens[i] + session
        return urlsafe_b64encode(body + self._tag(i, body))

    cdef bytes mark(self, int i, int64_t now):
        cdef bytes session = secrets.token_bytes(SESSION)
        self.members.now = now
        self.members.see_session(i, hash_bytes(session, SESSION))
        return b"Set-Cookie: " + self.name + b"=" + self._cookie(i, session) + self.attributes + b"\r\n"

    def example(self, int i):
        return self._cookie(i, bytes(SESSION)).decode()


cdef class LearnedAffinity(CookieAffinity):
    """The servers set the cookie: the gateway prefixes its value with a mark, `gw.` … `~`, and removes it from
    requests.

    The mark contains, in base64, the server's token (8), the attributes of the cookie, and a tag (10) over both and the
    value. With the attributes, the gateway can set the cookie again when the session moves to a server that knows the
    session and has no reason to set it.
    """

    def __init__(self, Members members, str name, str attributes, bytes key, tokens):
        CookieAffinity.__init__(self, members, name, attributes, key, tokens)
        self.learns = True

    cdef bytes _learned_tag(self, int i, bytes attributes, bytes value):
        return self._tag(i, b"learned\0" + attributes + b"\0" + value)

    cdef tuple _open(self, bytes value):
        """(server or -1, attributes, value without the mark) of a cookie."""
        cdef uint32_t n = mark_length(PyBytes_AS_STRING(value), <uint32_t>PyBytes_GET_SIZE(value))
        cdef bytes content, attributes, rest = value[n:]
        if n == 0:
            return -1, b"", value
        try:
            content = urlsafe_b64decode(value[len(PREFIX):n - 1] + b"==")
        except _NotBase64:
            return -1, b"", rest
        attributes = content[TOKEN:len(content) - TAG]
        index = self.by_token.get(content[:TOKEN])
        if index is None or len(content) < TOKEN + TAG or not hmac.compare_digest(
                self._learned_tag(index, attributes, rest), content[len(content) - TAG:]):
            return -1, b"", rest
        return index, attributes, rest

    cdef bytes _marked(self, int i, bytes attributes, bytes value):
        if len(attributes) > MAX_ATTRIBUTES:
            attributes = UNKNOWN
        mark = <bytes>self.tokens[i] + attributes + self._learned_tag(i, attributes, value)
        return PREFIX + urlsafe_b64encode(mark).rstrip(b"=") + b"~" + value

    cdef tuple _asked(self, const char *head, uint32_t n):
        """_open of the first cookie of this name in a head that has a server; else of the last one; or None."""
        cdef uint32_t at = 0, length = 0
        found = None
        while next_cookie(head, n, self.name, &at, &length):
            found = self._open(PyBytes_FromStringAndSize(head + at, length))
            if found[0] >= 0:
                break
            at += length
        return found

    cdef int find_learned(self, const char *asked, uint32_t n) except -2:
        cdef uint64_t session
        cdef int index
        found = self._asked(asked, n)
        if found is None or not found[2]:
            return -1
        session = hash_bytes(PyBytes_AS_STRING(found[2]), <uint32_t>PyBytes_GET_SIZE(found[2]))
        index = found[0]
        if index < 0:
            # Without a mark, or of a removed server: the server is unknown, but all workers choose the same one.
            index = keeper(self.members, session)
        if index >= 0:
            self.members.see_session(index, session)
        return index

    cdef bytes learn(self, int i, const char *p, Head *h, const char *asked, uint32_t asked_len, bint moved):
        cdef bytes value, attributes, lines = b""
        cdef int k
        cdef uint32_t n = <uint32_t>PyBytes_GET_SIZE(self.name)
        cdef Field *f
        for k in range(h.count):
            f = &h.fields[k]
            if (f.known != F_SET_COOKIE or f.value_len <= n or p[f.value + n] != c'='
                    or memcmp(p + f.value, PyBytes_AS_STRING(self.name), n) != 0):
                continue
            value, semicolon, attributes = p[f.value + n + 1:f.value + f.value_len].partition(b";")
            value = value.strip()
            if value:
                f.drop = True
                self.members.see_session(i, hash_bytes(PyBytes_AS_STRING(value), <uint32_t>PyBytes_GET_SIZE(value)))
                lines += self._line(i, semicolon + attributes, value)
            moved = False
        if moved:
            found = self._asked(asked, asked_len)
            if found is not None and found[0] >= 0 and found[0] != i and found[1] != UNKNOWN:
                value = found[2]
                self.members.see_session(i, hash_bytes(PyBytes_AS_STRING(value), <uint32_t>PyBytes_GET_SIZE(value)))
                lines += self._line(i, found[1], value)
        return lines

    cdef bytes _line(self, int i, bytes attributes, bytes value):
        return b"Set-Cookie: " + self.name + b"=" + self._marked(i, attributes, value) + attributes + b"\r\n"

    cdef bytes mark(self, int i, int64_t now):
        return b""                      # the servers set the cookie

    def example(self, int i):
        return self._marked(i, b"", b"example").decode()


cdef class UrlAffinity(Affinity):
    """name: of the parameter, in the path (;name=server) or in the query (?name=server). servers: their names."""

    cdef bytes name
    cdef tuple names
    cdef dict by_name

    def __init__(self, Members members, str name, servers):
        self.members = members
        self.name = name.encode()
        self.names = tuple(servers)
        self.by_name = {server.encode(): i for i, server in enumerate(servers)}

    def example(self, int i):
        return self.names[i]

    def __str__(self):
        return f"parameter {self.name.decode()}"

    cdef int find(self, const char *head, Head *h, const char *uri, uint32_t uri_len, bytes source) except -2:
        cdef uint32_t at = 1, start, n = <uint32_t>PyBytes_GET_SIZE(self.name)
        cdef const char *name = PyBytes_AS_STRING(self.name)
        while at + n < uri_len:
            if (uri[at + n] == c'=' and memchr(b";?&", uri[at - 1], 3) != NULL and memcmp(uri + at, name, n) == 0):
                start = at = at + n + 1
                while at < uri_len and memchr(b";?&/", uri[at], 4) == NULL:
                    at += 1
                index = self.by_name.get(PyBytes_FromStringAndSize(uri + start, at - start))
                if index is not None:
                    self.members.see_session(index, hash_bytes(source, <uint32_t>PyBytes_GET_SIZE(source)))
                    return index
            at += 1
        return -1


cdef class SourceAffinity(Affinity):
    """bits: length of the prefix of an IPv4 address; of an IPv6 address the first 64 bits are used."""

    cdef int bits

    def __init__(self, Members members, int bits):
        self.members = members
        self.bits = bits

    def __str__(self):
        return f"network /{self.bits}"

    cdef int find(self, const char *head, Head *h, const char *uri, uint32_t uri_len, bytes source) except -2:
        cdef unsigned char address[16]
        cdef uint32_t n = 8
        cdef int i, found
        if inet_pton(AF_INET, PyBytes_AS_STRING(source), address) == 1:
            n = 4
            for i in range(4):
                if self.bits < 8 * (i + 1):
                    address[i] &= <unsigned char>(0xFF00 >> max(0, self.bits - 8 * i))
        elif inet_pton(AF_INET6, PyBytes_AS_STRING(source), address) != 1:
            return -1
        found = keeper(self.members, hash_bytes(<char *>address, n))
        if found >= 0:
            self.members.see_session(found, hash_bytes(<char *>address, n))
        return found


cdef class HeaderAffinity(Affinity):
    """name: of the header, in any case. Requests without it have no affinity."""

    cdef bytes name

    def __init__(self, Members members, str name):
        self.members = members
        self.name = name.encode()

    def __str__(self):
        return f"header {self.name.decode()}"

    cdef int find(self, const char *head, Head *h, const char *uri, uint32_t uri_len, bytes source) except -2:
        cdef uint64_t key = hash_field(head, h, self.name)
        cdef int found = keeper(self.members, key) if key else -1
        if found >= 0:
            self.members.see_session(found, key)
        return found
