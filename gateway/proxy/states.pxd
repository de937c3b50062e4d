from libc.stdint cimport uint16_t, uint64_t

cdef enum:
    MOST_STATES = 8

# The states of something, which may follow which, and how often each edge was taken in this process.
cdef struct Machine:
    uint16_t[MOST_STATES] next                      # by state: a bit for each that may follow
    uint64_t[MOST_STATES][MOST_STATES] walked

cdef inline bint step(Machine *m, int state, int to) noexcept nogil:
    """Note that `to` follows `state`; False: it must not."""
    m.walked[state][to] += 1
    return m.next[state] >> to & 1

cdef dict edges_of(Machine *m, names)
