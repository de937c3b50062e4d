"""Consistent hashing: the same key goes to the same server, in every worker, gateway and snapshot.

Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by Schindelhauer and Schomaker 2005): each server
draws a number for the key, exponentially distributed with its weight, and the smallest wins. Nothing is stored, the
order of the servers does not matter, and a server that comes or goes moves its own keys only: one of ten, a tenth.

Bounded load (Mirrokni, Thorup and Zadimoghaddam 2018): a server that has `bound` times its fair share in flight is
passed over, so that one popular key cannot bury the server it belongs to.
"""

from libc.math cimport ceil, log

from gateway.wire.head cimport same_any

cdef double BOUND = 1.25
cdef double FEW = 4             # requests in flight bury nobody, whatever the others have


cdef uint64_t mix(uint64_t h) noexcept nogil:
    """Spread every bit over all (the finaliser of splitmix64)."""
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9ULL
    h = (h ^ (h >> 27)) * 0x94D049BB133111EBULL
    return h ^ (h >> 31)


cdef uint64_t hash_bytes(const char *text, uint32_t n) noexcept nogil:
    """Never 0. Not secret, and it must not be: every gateway of a site has to come to the same."""
    cdef uint64_t h = 14695981039346656037ULL       # FNV-1a
    cdef uint32_t i
    for i in range(n):
        h = (h ^ <unsigned char>text[i]) * 1099511628211ULL
    return mix(h) | 1


cdef uint64_t hash_field(const char *head, Head *h, bytes name) noexcept:
    """Of the first field of that name; 0 if there is none, or it is empty."""
    cdef int i
    cdef uint32_t n = <uint32_t>len(name)
    for i in range(h.count):
        if h.fields[i].name_len == n and h.fields[i].value_len and same_any(head + h.fields[i].name, name, n):
            return hash_bytes(head + h.fields[i].value, h.fields[i].value_len)
    return 0


cdef inline double _draw(uint64_t key, uint64_t server, double weight) noexcept nogil:
    # 53 bits make a double in (0, 1].
    return -log(((mix(key ^ server) >> 11) + 1) * (1.0 / 9007199254740992.0)) / weight


cdef int by_hash(Members members, int tier, PickArgs *args, double bound) noexcept nogil:
    """The usable member that the key belongs to, or the next one in its order that has room within `bound`."""
    cdef int i, k, n, best = -1
    cdef double total = 1, weights = 0, draw, least = 0
    n = members.gather(tier, &args.tried)
    for k in range(n):
        i = members.candidate[k]
        total += members.member[i].busy
        weights += members.member[i].weight
    for k in range(n):
        i = members.candidate[k]
        if members.member[i].busy >= max(FEW, ceil(bound * total * members.member[i].weight / weights)):
            continue
        draw = _draw(args.key, members.member[i].hash, members.member[i].weight)
        if best < 0 or draw < least:
            best = i
            least = draw
    return best


cdef int keeper(Members members, uint64_t key) noexcept nogil:
    """The primary member that keeps the sessions of a key: the first in its order that is well and not draining."""
    cdef int i, best = -1
    cdef double draw, least = 0
    for i in range(members.count):
        if members.member[i].tier != 0 or not members.keeps(i):
            continue
        draw = _draw(key, members.member[i].hash, members.member[i].weight)
        if best < 0 or draw < least:
            best = i
            least = draw
    return best


def key_of(bytes text):
    """The key of a text, as policies use it."""
    return hash_bytes(text, <uint32_t>len(text))
