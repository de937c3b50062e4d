"""Consistent hashing: the same key maps to the same server (rendezvous.pyx), in every worker, gateway and snapshot.

Bounded load (Mirrokni, Thorup and Zadimoghaddam 2018): a server with `bound` times its fair share in flight is skipped,
so that one popular key cannot overload its server.
"""

from libc.math cimport ceil
from libc.stdint cimport int64_t

from gateway.balance.policy cimport SAMPLE
from gateway.balance.rendezvous cimport Rendezvous, begin, first, pass_over
from gateway.wire.head cimport same_any

cdef double BOUND = 1.25
cdef int FEW = 4                # up to this many requests in flight never overload a server
cdef int ASKED_SINGLY = 8           # servers that are checked one by one before sums over all are computed

cdef int64_t SUM_AGAIN = 5_000_000      # ns for which sums over more than SAMPLE servers are reused


cdef uint64_t mix(uint64_t h) noexcept nogil:
    """Mix all bits (the finalizer of splitmix64)."""
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9ULL
    h = (h ^ (h >> 27)) * 0x94D049BB133111EBULL
    return h ^ (h >> 31)


cdef uint64_t hash_bytes(const char *text, uint32_t n) noexcept nogil:
    """A hash that is never 0. Not secret, and it must not be: every gateway of a site has to compute the same value."""
    cdef uint64_t h = 14695981039346656037ULL       # FNV-1a
    cdef uint32_t i
    for i in range(n):
        h = (h ^ <unsigned char>text[i]) * 1099511628211ULL
    return mix(h) | 1


cdef uint64_t hash_field(const char *head, Head *h, bytes name) noexcept:
    """The hash of the first field of that name; 0 if it is missing or empty."""
    cdef int i
    cdef uint32_t n = <uint32_t>len(name)
    for i in range(h.count):
        if h.fields[i].name_len == n and h.fields[i].value_len and same_any(head + h.fields[i].name, name, n):
            return hash_bytes(head + h.fields[i].value, h.fields[i].value_len)
    return 0


cdef void add_up(Rendezvous *all, Members members, int tier, PickArgs *args) noexcept nogil:
    """Sum the requests in flight and the weights of all usable servers, once per key."""
    cdef int k, i
    if all.summed_up or (all.count > SAMPLE and all.summed and 0 <= args.now - all.summed < SUM_AGAIN):
        return
    all.summed_up = True
    all.summed = args.now
    all.busy = all.weights = 0
    for k in range(all.count):
        i = all.number[k]
        if members.usable(i, tier, &args.tried):
            all.busy += members.in_flight(i)
            all.weights += all.weight[k]


cdef bint has_room(Rendezvous *all, int k, Members members, int tier, PickArgs *args, double bound) noexcept nogil:
    """Whether the server at place k has less in flight than `bound` times its share."""
    cdef int busy = members.in_flight(all.number[k])
    if busy < FEW:
        return True
    add_up(all, members, tier, args)
    return all.weights > 0 and busy < ceil(bound * (all.busy + 1) * all.weight[k] / all.weights)


cdef int by_hash(Members members, int tier, PickArgs *args, double bound) noexcept nogil:
    """The usable member that the key maps to, or the next one in the key's order that has room within `bound`."""
    cdef int i, k, asked = 0, spare = -1
    cdef Rendezvous *all = &members.tiers[tier]
    begin(all, args.key)
    while True:
        k = first(all)
        if k < 0:
            return spare                # with sums that are a little old, no server may seem to have room
        i = all.number[k]
        if members.usable(i, tier, &args.tried):
            if has_room(all, k, members, tier, args, bound):
                return i
            if spare < 0:
                spare = i
        pass_over(all, k)
        asked += 1
        if asked == ASKED_SINGLY:
            for k in range(all.count):
                if not members.usable(all.number[k], tier, &args.tried):
                    pass_over(all, k)
        elif asked == 2 * ASKED_SINGLY:
            for k in range(all.count):
                if not has_room(all, k, members, tier, args, bound):
                    pass_over(all, k)


cdef int keeper(Members members, uint64_t key) noexcept nogil:
    """The primary member for the sessions of a key: the first in the key's order that is healthy and not draining."""
    cdef int k, asked = 0
    cdef Rendezvous *all = &members.tiers[0]
    begin(all, key)
    while True:
        k = first(all)
        if k < 0:
            return -1
        if members.keeps(all.number[k]):
            return all.number[k]
        pass_over(all, k)
        asked += 1
        if asked == ASKED_SINGLY:
            for k in range(all.count):
                if not members.keeps(all.number[k]):
                    pass_over(all, k)


def key_of(bytes text):
    """The hash of a text, as policies use it."""
    return hash_bytes(text, <uint32_t>len(text))
