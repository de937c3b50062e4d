from libc.stdint cimport int32_t, uint8_t
from gateway.board cimport (
    ADMIN_MAINTENANCE, ADMIN_READY, MAX_WORKERS, STATE_DOWN, Board, ServerRow,
)

cdef enum:
    MAX_TRIED = 8

# Servers an exchange has tried already, by their index in Members.
cdef struct Tried:
    int count
    int index[MAX_TRIED]

cdef struct Member:
    int slot                    # row of the Board
    int max_connections         # over all workers; 0: no limit
    double weight               # as configured
    double credit               # smooth weighted round robin: what is owed to it
    uint8_t tier                # 0 primary, 1 backup

cdef class Members:
    """The servers of one backend as a policy sees them."""
    cdef Board board
    cdef readonly int count
    cdef int workers
    cdef int turn               # rotates, so that ties are shared out
    cdef bint has_backup
    cdef Member *member

    cdef int pick(self, Policy policy, Tried *tried) except -2
    cdef bint accepts(self, int i) noexcept nogil
    cdef bint waiting_helps(self, Tried *tried) noexcept nogil

    cdef inline int in_flight(self, int i) noexcept nogil:
        return self.board.total_in_flight(self.member[i].slot, self.workers)

    cdef inline double effective_weight(self, int i) noexcept nogil:
        """What control made of the server's reports; the configured weight until it has spoken."""
        cdef double weight = self.board.server(self.member[i].slot).weight
        return weight if weight > 0 else self.member[i].weight

    cdef inline bint usable(self, int i, int tier, Tried *tried) noexcept nogil:
        """Whether a new request may go to member i."""
        cdef Member *m = &self.member[i]
        cdef ServerRow *row = self.board.server(m.slot)
        cdef int k
        if m.tier != tier or row.state == STATE_DOWN or row.admin != ADMIN_READY:
            return False
        for k in range(tried.count):
            if tried.index[k] == i:
                return False
        return m.max_connections == 0 or self.in_flight(i) < m.max_connections

cdef class Policy:
    cdef int pick(self, Members members, int tier, Tried *tried) noexcept nogil

cdef int by_turns(Members members, int tier, Tried *tried, bint weighted, bint effective) noexcept nogil
cdef int least_loaded(Members members, int tier, Tried *tried, bint weighted, bint effective) noexcept nogil
