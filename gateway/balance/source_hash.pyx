"""The same client address, the same server, as long as that has room (hashing.pyx)."""

from libc.stdint cimport uint32_t, uint64_t
from gateway.balance.hashing cimport BOUND, by_hash, hash_bytes
from gateway.balance.policy cimport Members, PickArgs, Policy
from gateway.wire.head cimport Head


cdef class SourceHash(Policy):
    def __cinit__(self):
        self.keyed = True

    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        return by_hash(members, tier, args, BOUND)

    cdef uint64_t key(self, const char *head, Head *h, const char *uri, uint32_t uri_len, bytes source) noexcept:
        return hash_bytes(source, <uint32_t>len(source))
