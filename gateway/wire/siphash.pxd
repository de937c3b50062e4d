from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    KEY = 16
    DIGEST = 16

cdef void siphash(const uint8_t *key, const uint8_t *text, size_t n, uint8_t *digest) noexcept nogil
cdef uint64_t siphash64(const uint8_t *key, const uint8_t *text, size_t n) noexcept nogil
