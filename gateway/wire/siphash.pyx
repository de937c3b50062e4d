"""SipHash-2-4, a message authentication code that is quick for short messages: with 128 bits, and with 64.

J.-P. Aumasson, D. J. Bernstein: "SipHash: a fast short-input PRF" (2012); the long form is of their later reference.
Every request of a session has its cookie checked, and rate limits hash what they count by: a general hash, with the
objects around it, cost as much as all else that is done for a request.
"""

from libc.string cimport memcpy

cdef extern from "<endian.h>" nogil:
    uint64_t le64toh(uint64_t number)


cdef inline uint64_t _word(const uint8_t *p) noexcept nogil:
    """Eight bytes, least significant first."""
    cdef uint64_t w
    memcpy(&w, p, 8)
    return le64toh(w)


cdef inline uint64_t _rest(const uint8_t *p, size_t n) noexcept nogil:
    """Fewer than eight bytes, least significant first."""
    cdef uint64_t w = 0
    cdef size_t i
    for i in range(n):
        w |= <uint64_t>p[i] << (8 * i)
    return w


cdef inline uint64_t _turned(uint64_t x, int bits) noexcept nogil:
    return (x << bits) | (x >> (64 - bits))


cdef inline void _rounds(uint64_t *v, int count) noexcept nogil:
    cdef int _
    for _ in range(count):
        v[0] += v[1]
        v[2] += v[3]
        v[1] = _turned(v[1], 13) ^ v[0]
        v[3] = _turned(v[3], 16) ^ v[2]
        v[0] = _turned(v[0], 32)
        v[2] += v[1]
        v[0] += v[3]
        v[1] = _turned(v[1], 17) ^ v[2]
        v[3] = _turned(v[3], 21) ^ v[0]
        v[2] = _turned(v[2], 32)


cdef inline void _store(uint8_t *to, const uint64_t *v) noexcept nogil:
    cdef uint64_t w = v[0] ^ v[1] ^ v[2] ^ v[3]
    cdef int i
    for i in range(8):
        to[i] = <uint8_t>(w >> (8 * i))


cdef inline void _absorb(uint64_t *v, const uint8_t *key, uint64_t variant, const uint8_t *text,
                         size_t n) noexcept nogil:
    """All of the text, up to the finish; `variant` tells the digests of different lengths apart."""
    cdef uint64_t w, low = _word(key), high = _word(key + 8)
    cdef size_t at = 0
    v[0] = low ^ 0x736F6D6570736575ULL
    v[1] = high ^ 0x646F72616E646F6DULL ^ variant
    v[2] = low ^ 0x6C7967656E657261ULL
    v[3] = high ^ 0x7465646279746573ULL
    while n - at >= 8:
        w = _word(text + at)
        v[3] ^= w
        _rounds(v, 2)
        v[0] ^= w
        at += 8
    w = _rest(text + at, n - at) | <uint64_t>n << 56
    v[3] ^= w
    _rounds(v, 2)
    v[0] ^= w


cdef void siphash(const uint8_t *key, const uint8_t *text, size_t n, uint8_t *digest) noexcept nogil:
    """The DIGEST bytes of n bytes of text, by KEY bytes of key."""
    cdef uint64_t v[4]
    _absorb(v, key, 0xEE, text, n)
    v[2] ^= 0xEE
    _rounds(v, 4)
    _store(digest, v)
    v[1] ^= 0xDD
    _rounds(v, 4)
    _store(digest + 8, v)


cdef uint64_t siphash64(const uint8_t *key, const uint8_t *text, size_t n) noexcept nogil:
    """The 64 bits of n bytes of text, by KEY bytes of key."""
    cdef uint64_t v[4]
    _absorb(v, key, 0, text, n)
    v[2] ^= 0xFF
    _rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def mac(bytes key, bytes text):
    """The 16 bytes for a text, by a key of 16 bytes. Raises ValueError for a key of another length."""
    cdef uint8_t digest[DIGEST]
    if len(key) != KEY:
        raise ValueError("the key must have 16 bytes")
    siphash(key, text, len(text), digest)
    return digest[:DIGEST]


def short_mac(bytes key, bytes text):
    """The 64 bits for a text, by a key of 16 bytes. Raises ValueError for a key of another length."""
    if len(key) != KEY:
        raise ValueError("the key must have 16 bytes")
    return siphash64(key, text, len(text))
