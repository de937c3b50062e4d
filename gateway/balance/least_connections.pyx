"""The server with the fewest requests in flight, over all workers."""

from gateway.balance.policy cimport Members, PickArgs, Policy, least_loaded


cdef class LeastConnections(Policy):
    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        return least_loaded(members, tier, &args.tried, False, False)
