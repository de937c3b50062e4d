from libc.stdint cimport int64_t

cdef enum:
    PRIORITIES = 16         # 0 comes first
    RANKS = 32              # the least goes first

cdef inline int rank_of(int priority, int64_t in_flight, double places) noexcept nogil:
    """Who goes first when a place becomes free: first those who have fewer places than are theirs, then all others.

    in_flight: what a class has of the places now. places: how many are its own; 0: none. Among equals the priority
    decides, and then who waits longest. So a class with demand gets its share as places become free, and other
    classes may use what it leaves: no place stays empty while a request waits.
    """
    return priority if in_flight < places else PRIORITIES + priority
