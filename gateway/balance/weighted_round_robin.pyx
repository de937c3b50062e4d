"""Every server in turn, as often as its configured weight says, evenly spread."""

from gateway.balance.policy cimport Members, Policy, Tried, by_turns


cdef class WeightedRoundRobin(Policy):
    cdef int pick(self, Members members, int tier, Tried *tried) noexcept nogil:
        return by_turns(members, tier, tried, True, False)
