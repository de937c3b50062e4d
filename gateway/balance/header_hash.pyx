"""The same value of a header, the same server, as long as that has room (hashing.pyx).

Requests without the header go where there is the least to do for the weight.
"""

from libc.stdint cimport uint32_t, uint64_t
from gateway.balance.hashing cimport BOUND, by_hash, hash_field
from gateway.balance.policy cimport Members, PickArgs, Policy, least_loaded
from gateway.wire.head cimport Head


cdef class HeaderHash(Policy):
    """name: of the header, in any case."""

    cdef bytes name

    def __cinit__(self, str name):
        self.keyed = True
        self.name = name.encode()

    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        if args.key == 0:
            return least_loaded(members, tier, &args.tried, True, False)
        return by_hash(members, tier, args, BOUND)

    cdef uint64_t key(self, const char *head, Head *h, const char *uri, uint32_t uri_len, bytes source) noexcept:
        return hash_field(head, h, self.name)
