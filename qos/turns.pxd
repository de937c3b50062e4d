from libc.stdint cimport int64_t

cdef enum:
    PRIORITIES = 16         # 0 is first
    RANKS = 32              # the smallest goes first

cdef inline int rank_of(int priority, int64_t in_flight, double places) noexcept nogil:
    """The rank of a class when a place becomes free: classes with fewer places than their share go first.

    in_flight: places that the class has now. places: its share of the places; 0: none. Among equal ranks the priority
    decides, and then the waiting time. So a class with demand gets its share as places become free, and other classes
    may use the rest: no place stays empty while a request waits.
    """
    return priority if in_flight < places else PRIORITIES + priority
