from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    WAYS = 8                # keys that share a bucket: one cache line
    TIME_BITS = 44          # of an entry; the other 20 are its key's tag
    TICK_BITS = 8           # a tick, the unit of time in the table, is 256 ns
    TRIES = 1000            # attempts to write one entry while other processes write it as well

# The rate limit of a key. Both in ticks.
cdef struct Rate:
    int64_t interval        # between two requests at exactly the rate
    int64_t tolerance       # how far ahead of the rate a key may be: burst - 1 intervals

cdef class RateTable:
    """The rate state of each key, shared by every process that maps the same memory."""
    cdef uint8_t[::1] memory
    cdef uint64_t *words
    cdef readonly uint64_t buckets
    cdef readonly bytes secret          # 16 bytes, for the hash of keys
    cdef uint8_t[::1] journal
    cdef uint64_t *notes                # what was counted, for other gateways; NULL: there are none
    cdef uint64_t read                  # of them, by this process

    cdef int64_t take(self, uint64_t key, const Rate *rate, int64_t now, int64_t max_delay) noexcept nogil
    cdef void give_back(self, uint64_t key, const Rate *rate) noexcept nogil
    cdef void _note(self, uint64_t key, int64_t ticks) noexcept nogil

cdef Rate rate_of(double per_second, int64_t burst) noexcept nogil
