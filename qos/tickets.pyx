"""Tickets: what a client stores of its session or its place in the queue, signed so that clients cannot forge one.

30 bytes, in base64url 40 characters: kind (1), number (8), id (4), time (4), all big-endian, and a tag of 13 bytes:
keyed BLAKE2b (RFC 7693) over the 17 bytes before it. 104 bits can only be tried against a running gateway (RFC 2104
section 5 requires at least 80).

Tags are compared in constant time. Verified tickets are cached by their text (1024 of them), so that the requests of a
session neither decode it nor compute its tag again; texts are compared in constant time, too.
"""

from base64 import urlsafe_b64encode
from hashlib import blake2b

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cdef enum:
    BODY = 17
    TAG = 13
    KNOWN_BITS = 10         # of the number of verified tickets that are kept

LENGTH = TEXT
"""Characters of a ticket."""

cdef bytes _PURPOSE = b"session ticket"     # `person` of BLAKE2b: 16 bytes at most
cdef uint8_t[256] _value_of                 # value of a base64url character, plus 1
for _i, _c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"):
    _value_of[<int>ord(_c)] = <uint8_t>(<int>_i + 1)

KINDS = ("none", "new", "live", "queued", "early")


cdef class Tickets:
    """key: 16 to 64 bytes. Raises ValueError for a key of another length."""

    def __cinit__(self):
        self.known = <Known *>calloc(1 << KNOWN_BITS, sizeof(Known))
        if self.known == NULL:
            raise MemoryError

    def __init__(self, bytes key):
        if not 16 <= len(key) <= 64:
            raise ValueError("the key of tickets has 16 to 64 bytes")
        self.key = key

    def __dealloc__(self):
        free(self.known)

    cdef bytes _tag(self, const uint8_t *body):
        return blake2b(body[:BODY], key=self.key, digest_size=TAG, person=_PURPOSE).digest()

    cdef bytes write(self, const Ticket *ticket):
        """The text of a ticket."""
        cdef uint8_t body[BODY]
        cdef int i
        body[0] = <uint8_t>ticket.kind
        for i in range(8):
            body[1 + i] = <uint8_t>(ticket.number >> (56 - 8 * i))
        for i in range(4):
            body[9 + i] = <uint8_t>(ticket.id >> (24 - 8 * i))
            body[13 + i] = <uint8_t>(ticket.stamp >> (24 - 8 * i))
        return urlsafe_b64encode(body[:BODY] + self._tag(body))

    cdef bint read(self, const char *text, size_t n, Ticket *ticket) except -1:
        """Read a ticket of n characters; False, and kind K_NONE: it was not written with this key."""
        cdef uint64_t[WORDS] words
        cdef uint64_t hashed = 0, other = 0
        cdef Known *known
        cdef int i
        ticket.kind = K_NONE
        if n != TEXT:
            return False
        memcpy(words, text, TEXT)
        for i in range(WORDS):
            hashed = (hashed ^ words[i]) * 0x9E3779B97F4A7C15ULL
            hashed ^= hashed >> 29
        known = &self.known[hashed >> (64 - KNOWN_BITS)]
        for i in range(WORDS):
            other |= known.text[i] ^ words[i]
        if other == 0 and known.ticket.kind != K_NONE:
            ticket[0] = known.ticket
            return True
        if not self._verify(text, ticket):
            return False
        memcpy(known.text, text, TEXT)
        known.ticket = ticket[0]
        return True

    cdef bint _verify(self, const char *text, Ticket *ticket) except -1:
        """Read a ticket of the right length, and compute its tag."""
        cdef uint8_t content[BODY + TAG]
        cdef uint32_t bits = 0
        cdef bytes tag
        cdef int i
        for i in range(TEXT):
            if _value_of[<uint8_t>text[i]] == 0:
                return False
            bits = bits << 6 | <uint32_t>(_value_of[<uint8_t>text[i]] - 1)
            if i & 3 == 3:
                content[i // 4 * 3] = <uint8_t>(bits >> 16)
                content[i // 4 * 3 + 1] = <uint8_t>(bits >> 8)
                content[i // 4 * 3 + 2] = <uint8_t>bits
        tag = self._tag(content)
        if PyBytes_GET_SIZE(tag) != TAG or not _same(<const uint8_t *>PyBytes_AS_STRING(tag), content + BODY, TAG):
            return False
        ticket.number = 0
        ticket.id = ticket.stamp = 0
        for i in range(8):
            ticket.number = ticket.number << 8 | content[1 + i]
        for i in range(4):
            ticket.id = ticket.id << 8 | content[9 + i]
            ticket.stamp = ticket.stamp << 8 | content[13 + i]
        ticket.kind = content[0]
        return True

    # For tests.

    def sealed(self, str kind, number, ident, stamp):
        """The same as `write`."""
        cdef Ticket ticket
        ticket.kind = KINDS.index(kind)
        ticket.number, ticket.id, ticket.stamp = number, ident, stamp
        return self.write(&ticket)

    def opened(self, bytes text):
        """The same as `read`: (kind, number, id, stamp), or None."""
        cdef Ticket ticket
        if not self.read(PyBytes_AS_STRING(text), <size_t>len(text), &ticket):
            return None
        return KINDS[ticket.kind], ticket.number, ticket.id, ticket.stamp


cdef bint _same(const uint8_t *a, const uint8_t *b, int n) noexcept nogil:
    """Whether n bytes are equal, in a time that does not depend on which differ."""
    cdef uint32_t wrong = 0
    cdef int i
    for i in range(n):
        wrong |= a[i] ^ b[i]
    return wrong == 0
