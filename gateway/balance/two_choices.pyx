"""The less busy of two servers drawn at random (Mitzenmacher 2001): close to the best, with two looks at the Board.

Where several gateways share the servers and none knows what the others have in flight, chance also keeps them from
all running to the same one.
"""

from libc.stdint cimport uint64_t
from gateway.balance.policy cimport Members, PickArgs, Policy


cdef class TwoChoices(Policy):
    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        cdef int i, usable = 0, first, second, a = -1, b = -1
        for i in range(members.count):
            members.member[i].cost = -1
            if members.usable(i, tier, &args.tried):
                members.member[i].cost = usable
                usable += 1
        if usable == 0:
            return -1
        first = <int>(members.chance() % <uint64_t>usable)
        second = first
        if usable > 1:
            second = (first + 1 + <int>(members.chance() % <uint64_t>(usable - 1))) % usable
        for i in range(members.count):
            if members.member[i].cost == first:
                a = i
            if members.member[i].cost == second:
                b = i
        if ((members.in_flight(b) + 1) / members.member[b].weight
                < (members.in_flight(a) + 1) / members.member[a].weight):
            return b
        return a
