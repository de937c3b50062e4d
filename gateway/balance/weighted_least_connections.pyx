"""The fewest requests in flight for the configured weight, over all workers."""

from gateway.balance.policy cimport Members, Policy, Tried, least_loaded


cdef class WeightedLeastConnections(Policy):
    cdef int pick(self, Members members, int tier, Tried *tried) noexcept nogil:
        return least_loaded(members, tier, tried, True, False)
