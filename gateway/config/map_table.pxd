from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    LONGEST = 4096              # bytes of a key or a value
    FAMILY_6 = 200              # where the lengths of IPv6 networks begin
    FNV = 14695981039346656037U

cdef enum Kind:
    K_EXACT = 0
    K_PREFIX
    K_HOST
    K_NETWORK
    K_REGEX

cdef struct Entry:
    uint32_t key                # where it is in the pool
    uint32_t key_n
    uint32_t value
    uint32_t value_n
    uint32_t line               # of the file

cdef struct Head:
    uint32_t kind
    uint32_t count
    uint32_t mask               # number of slots - 1
    uint32_t text_n             # bytes of the file, with which the pool begins
    uint64_t entries            # where they are in the block
    uint64_t slots              # number of an entry + 1; 0: none
    uint64_t pool
    uint8_t lengths[LONGEST + 1]    # that keys have: prefixes in bytes, networks in bits

cdef class MapTable:
    """The entries of a map's file, in shared memory."""
    cdef const char *base
    cdef size_t size
    cdef int descriptor
    cdef const Head *head
    cdef const Entry *entries
    cdef const uint32_t *slots
    cdef const char *pool

    cdef bytes _text(self, uint32_t at, uint32_t n)
    cdef const Entry *find(self, const char *p, uint32_t n) noexcept nogil
    cdef const Entry *_probe(self, uint64_t hash, const char *p, uint32_t n) noexcept nogil
    cdef const Entry *_longest(self, const char *p, uint32_t n) noexcept nogil
    cdef const Entry *_host(self, const char *p, uint32_t n) noexcept nogil
    cdef const Entry *_narrowest(self, const char *p, uint32_t n) noexcept nogil
