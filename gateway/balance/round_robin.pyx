"""Every server in turn."""

from gateway.balance.policy cimport Members, Policy, Tried, by_turns


cdef class RoundRobin(Policy):
    cdef int pick(self, Members members, int tier, Tried *tried) noexcept nogil:
        return by_turns(members, tier, tried, False, False)
