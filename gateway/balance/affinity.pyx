"""Bring a client back to the server that served it before: by a cookie, the URL, its network, or a header.

`find` says which server a request belongs to, by its index in Members; whether that can take it is for the caller to
ask. All state is on the client, so a session outlives reloads, gateways and their other workers.

The cookie is the gateway's own: 24 bytes in base64, which stand for a server (8), for this session (6), and are signed
(10, SipHash with a key of that server). Nobody who does not have the key can choose a server, or ask which there are.
80 bits are enough for a tag that can only be tried against a running gateway (RFC 2104 section 5 has 80 as the least).
"""

import secrets
from base64 import urlsafe_b64encode
from hashlib import blake2b

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from gateway.balance.hashing cimport hash_bytes, hash_field, keeper
from gateway.balance.siphash cimport DIGEST, KEY, siphash
from gateway.wire.head cimport F_COOKIE

cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET, AF_INET6
    int inet_pton(int family, const char *text, void *to)

cdef enum:
    TOKEN = 8
    SESSION = 6
    TAG = 10
    COOKIE = 32             # characters of the three in base64


cdef class Affinity:
    cdef int find(self, const char *head, Head *h, const char *uri, uint32_t uri_len, bytes source) except -2:
        """The server of this request; -1 if it names none."""
        return -1

    cdef bytes mark(self, int i, int64_t now):
        """The header line that makes the client come back to server i."""
        return b""

    def example(self, int i):
        """What a client says who belongs to server i, for tests of sites; None where it is nothing of the server's."""
        return None


cdef class CookieAffinity(Affinity):
    """members: of the backend. name, attributes: of the cookie. key: at least 16 bytes, or empty.

    servers: (what stands for it, its address) for each server: without a key its address has to do, which clients do
    not know, and which all gateways have in their site files.
    """

    cdef bytes name
    cdef bytes attributes
    cdef dict by_token
    cdef list tokens
    cdef list keys
    cdef uint8_t value_of[256]      # of a character of base64, and 1

    def __init__(self, Members members, str name, str attributes, bytes key, servers):
        cdef int i
        self.members = members
        self.marks = True
        self.name = name.encode()
        self.attributes = attributes.encode()
        self.tokens = [token for token, _ in servers]
        self.by_token = {token: i for i, token in enumerate(self.tokens)}
        self.keys = [
            blake2b(b"eddie affinity\0" + token + b"\0" + (b"" if key else address.encode()), key=key[:64],
                    digest_size=KEY).digest()
            for token, address in servers
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
                while at < end and (value[at] == 32 or value[at] == 59):
                    at += 1
                if at + n + 1 + COOKIE <= end and memcmp(value + at, name, n) == 0 and value[at + n] == 61:
                    found = self._read(<const uint8_t *>(value + at + n + 1))
                    if found >= 0:
                        return found
                while at < end and value[at] != 59:
                    at += 1
        return -1

    cdef int _read(self, const uint8_t *text) except -2:
        """The server of a cookie that we have signed, or -1."""
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
            wrong |= content[TOKEN + SESSION + i] ^ digest[i]      # all of them: how many agree is nobody's business
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
            if (uri[at + n] == 61 and memchr(b";?&", uri[at - 1], 3) != NULL and memcmp(uri + at, name, n) == 0):
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
    """bits: of an IPv4 address that count; of an IPv6 address the first 64 do."""

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
    """name: of the header, in any case. Requests without it have no server of theirs."""

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
