"""Sends the same key to the same server while that has room (hashing.pyx): an address, a path, a header, a server name.

Requests without the key go to the server with the least work for its weight.
"""

from gateway.balance.hashing cimport BOUND, by_hash
from gateway.balance.policy cimport KEY_ADDRESS, KEY_HEADER, KEY_URI, Members, PickArgs, Policy, least_loaded

KINDS = {"address": KEY_ADDRESS, "uri": KEY_URI, "header": KEY_HEADER}


cdef class ByKey(Policy):
    """kind: the source of the key, one of KINDS; name: of the header, in any case."""

    def __cinit__(self, str kind, str name=""):
        self.key_kind = KINDS[kind]
        self.key_name = name.encode()

    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        if args.key == 0:
            return least_loaded(members, tier, &args.tried, True, False)
        return by_hash(members, tier, args, BOUND)
