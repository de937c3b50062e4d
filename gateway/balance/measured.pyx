"""The fewest requests in flight for the *effective* weight: as configured, corrected by reported load."""

from gateway.balance.policy cimport Members, Policy, Tried, least_loaded


cdef class Measured(Policy):
    cdef int pick(self, Members members, int tier, Tried *tried) noexcept nogil:
        return least_loaded(members, tier, tried, True, True)
