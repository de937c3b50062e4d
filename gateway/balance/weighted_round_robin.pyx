"""Every server in turn, as often as its configured weight requires, evenly spread."""

from gateway.balance.policy cimport Members, PickArgs, Policy, by_turns


cdef class WeightedRoundRobin(Policy):
    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        members.gather(tier, &args.tried)
        return by_turns(members, True, True)
