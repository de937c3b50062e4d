"""The less busy of two random servers (Mitzenmacher 2001): nearly as good as the best, with two reads of the Board.

If several gateways share the servers and do not know each other's requests in flight, the random choice also keeps
them from all picking the same server.
"""

from libc.stdint cimport uint64_t
from gateway.balance.policy cimport Members, PickArgs, Policy


cdef class TwoChoices(Policy):
    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        cdef int a, b, first, second, usable = members.sample(tier, &args.tried)
        if usable == 0:
            return -1
        first = second = <int>(members.chance() % <uint64_t>usable)
        if usable > 1:
            second = (first + 1 + <int>(members.chance() % <uint64_t>(usable - 1))) % usable
        a = members.candidate[first]
        b = members.candidate[second]
        if ((members.member[b].busy + 1) / members.effective_weight(b)
                < (members.member[a].busy + 1) / members.effective_weight(a)):
            return b
        return a
