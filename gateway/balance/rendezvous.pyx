"""Weighted rendezvous hashing: which of many servers a key maps to, and the order of the others.

Each server draws a number for the key, exponentially distributed with its weight as the rate, and the smallest wins
(Thaler and Ravishankar 1998; weights by Schindelhauer and Schomaker 2005). Nothing is stored, the order of the servers
does not matter, shares are as exact as random numbers allow, and adding or removing a server moves only its own keys:
of ten servers, a tenth. Lookups in rings (Karger and others 1997) and tables (Eisenbud and others 2016: Maglev) are
faster, but the shares of a ring differ by a tenth and more, and a table moves keys between unchanged servers. Here all
servers draw, eight at a time, and only those with the smallest numbers are examined further.
"""

from libc.math cimport INFINITY, log1p
from libc.stdlib cimport calloc, free

cdef extern from "draws.h":
    enum:
        LANES, ROWS
    uint32_t one_draw(uint32_t low, uint32_t high, uint32_t k0, uint32_t k1) noexcept nogil
    void draw_all(const uint32_t *low, const uint32_t *high, const float *inverse, int n, uint32_t k0, uint32_t k1,
                  float *draw, float *least) noexcept nogil

cdef double SPAN = 2147483648.0         # upper bound of draws


cdef int prepare(Rendezvous *r, rows) except -1:
    """Initialize. rows: (number, hash of the name, weight) of each server; the caller defines `number`."""
    cdef int i
    r.count = len(rows)
    r.padded = (r.count + LANES - 1) // LANES * LANES
    r.cells = (r.padded + LANES * ROWS - 1) // (LANES * ROWS) * LANES
    r.number = <int *>calloc(r.count + 1, sizeof(int))
    r.weight = <double *>calloc(r.count + 1, sizeof(double))
    r.low = <uint32_t *>calloc(r.padded + 1, sizeof(uint32_t))
    r.high = <uint32_t *>calloc(r.padded + 1, sizeof(uint32_t))
    r.inverse = <float *>calloc(r.padded + 1, sizeof(float))
    r.draw = <float *>calloc(r.padded + 1, sizeof(float))
    r.least = <float *>calloc(r.cells + 1, sizeof(float))
    if (r.number == NULL or r.weight == NULL or r.low == NULL or r.high == NULL or r.inverse == NULL or r.draw == NULL
            or r.least == NULL):
        raise MemoryError
    for i, (number, hashed, weight) in enumerate(rows):
        r.number[i] = number
        r.weight[i] = weight
        r.low[i] = <uint32_t>(<uint64_t>hashed & 0xFFFFFFFF)
        r.high[i] = <uint32_t>(<uint64_t>hashed >> 32)
        r.inverse[i] = <float>(1.0 / (SPAN * r.weight[i]))
    for i in range(r.count, r.padded):
        r.inverse[i] = INFINITY
    return 0


cdef void release(Rendezvous *r) noexcept:
    """Free the memory that `prepare` allocated."""
    free(r.number)
    free(r.weight)
    free(r.low)
    free(r.high)
    free(r.inverse)
    free(r.draw)
    free(r.least)


cdef void begin(Rendezvous *r, uint64_t key) noexcept nogil:
    """Let all servers draw for a key. These draws are a lower bound of `exact`, and cheaper to compute."""
    r.key = key
    r.summed_up = False
    draw_all(r.low, r.high, r.inverse, r.padded, <uint32_t>key, <uint32_t>(key >> 32), r.draw, r.least)


cdef double exact(Rendezvous *r, int i) noexcept nogil:
    """The value that decides: exponentially distributed, with the weight as its rate."""
    return -log1p(-(one_draw(r.low[i], r.high[i], <uint32_t>r.key, <uint32_t>(r.key >> 32)) / SPAN)) / r.weight[i]


cdef int first(Rendezvous *r) noexcept nogil:
    """The first server in the key's order that is not skipped: its place, or -1."""
    cdef int cell, i, end, best = -1
    cdef float limit = INFINITY
    cdef double value, least = -1
    for cell in range(r.cells):
        if r.least[cell] < limit:
            limit = r.least[cell]
            best = cell
    if best < 0:
        return -1
    i = best // LANES * LANES * ROWS + best % LANES
    while r.draw[i] != limit:
        i += LANES
    # Only servers whose draw is below the best exact value can precede it: that is at most x / (1 - x) for a draw of x
    # without weight, as -ln(1 - x) is. Usually there are none, and no logarithm is computed.
    best = i
    value = min(limit * r.weight[i], 0.999999)
    limit = <float>(limit / (1 - value) * 1.00001)
    for cell in range(r.cells):
        if r.least[cell] > limit:
            continue
        i = cell // LANES * LANES * ROWS + cell % LANES
        end = min(r.padded, i + LANES * ROWS)
        while i < end:
            if r.draw[i] <= limit and i != best:
                if least < 0:
                    least = exact(r, best)
                value = exact(r, i)
                if value < least or (value == least and r.high[i] < r.high[best]):
                    best = i
                    least = value
            i += LANES
    return best


cdef void pass_over(Rendezvous *r, int i) noexcept nogil:
    """Skip the server at place i for this key."""
    cdef int cell = i // (LANES * ROWS) * LANES + i % LANES
    cdef int k = cell // LANES * LANES * ROWS + i % LANES, end = min(r.padded, k + LANES * ROWS)
    r.draw[i] = INFINITY
    r.least[cell] = INFINITY
    while k < end:
        if r.draw[k] < r.least[cell]:
            r.least[cell] = r.draw[k]
        k += LANES
