"""The fewest requests in flight for the configured weight, over all workers."""

from gateway.balance.policy cimport Members, PickArgs, Policy, least_loaded


cdef class WeightedLeastConnections(Policy):
    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        return least_loaded(members, tier, &args.tried, True, True)
