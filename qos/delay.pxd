from libc.stdint cimport int64_t

cdef enum:
    DELAY_INTERVAL = 100_000_000    # ns

cdef inline bint overloaded(int64_t in_time, int64_t now) noexcept nogil:
    """Whether a queue receives more than it can pass on, and not only a burst.

    That is so if every request of the last interval had to wait longer than the target (CoDel, Nichols & Jacobson 2012,
    in the form of folly's Codel). in_time: when a request was last served within the target, or when the queue was last
    empty.
    """
    return now - in_time > DELAY_INTERVAL

cdef inline bint too_late(int64_t waited, int64_t target) noexcept nogil:
    """Whether a request in an overloaded queue has waited too long to be worth serving."""
    return waited > 2 * target
