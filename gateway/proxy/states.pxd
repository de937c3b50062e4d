from libc.stdint cimport uint16_t, uint64_t

cdef enum:
    MOST_STATES = 8

# The states of an object, the allowed transitions, and how often each was taken in this process.
cdef struct Machine:
    uint16_t[MOST_STATES] next                      # by state: a bit for each allowed next state
    uint64_t[MOST_STATES][MOST_STATES] walked

cdef inline bint step(Machine *m, int state, int to) noexcept nogil:
    """Record the transition from `state` to `to`; False: it is not allowed."""
    m.walked[state][to] += 1
    return m.next[state] >> to & 1

cdef dict edges_of(Machine *m, names)
