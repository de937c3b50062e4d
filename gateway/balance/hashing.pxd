from libc.stdint cimport uint32_t, uint64_t
from gateway.balance.policy cimport Members, PickArgs
from gateway.wire.head cimport Head

cdef double BOUND           # times a server's fair share of requests in flight: beyond it, the server is skipped

cdef uint64_t hash_bytes(const char *text, uint32_t n) noexcept nogil
cdef uint64_t hash_field(const char *head, Head *h, bytes name) noexcept
cdef uint64_t mix(uint64_t h) noexcept nogil
cdef int by_hash(Members members, int tier, PickArgs *args, double bound) noexcept nogil
cdef int keeper(Members members, uint64_t key) noexcept nogil
