"""Every server in turn."""

from gateway.balance.policy cimport Members, PickArgs, Policy


cdef class RoundRobin(Policy):
    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        cdef int i, k
        for k in range(members.count):
            i = members.turn + k if members.turn + k < members.count else members.turn + k - members.count
            if members.usable(i, tier, &args.tried):
                members.turn = i + 1 if i + 1 < members.count else 0
                return i
        return -1
