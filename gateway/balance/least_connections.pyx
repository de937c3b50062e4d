"""The server with the fewest requests in flight, over all workers."""

from gateway.balance.policy cimport Members, Policy, Tried, least_loaded


cdef class LeastConnections(Policy):
    cdef int pick(self, Members members, int tier, Tried *tried) noexcept nogil:
        return least_loaded(members, tier, tried, False, False)
