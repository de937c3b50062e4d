"""Every server in turn."""

from gateway.balance.policy cimport Members, PickArgs, Policy, by_turns


cdef class RoundRobin(Policy):
    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        return by_turns(members, tier, &args.tried, False, False)
