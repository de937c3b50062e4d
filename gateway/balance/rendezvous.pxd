from libc.stdint cimport int64_t, uint32_t, uint64_t

# A set of servers, each with a place, that draw for one key after another.
cdef struct Rendezvous:
    int count                   # servers
    int padded                  # the same, filled up to whole vectors
    int cells
    int *number
    double *weight
    uint32_t *low               # words of the hash of its name
    uint32_t *high
    float *inverse              # of the weight, and of the range of draws
    uint64_t key
    float *draw                 # for the key; infinite: skipped
    float *least                # smallest draw of a cell
    # Cached for the caller: requests in flight and weights of the servers with room, the time at which they were summed
    # (in ns; 0: never), and whether that was for this key.
    double busy
    double weights
    int64_t summed
    bint summed_up

cdef int prepare(Rendezvous *r, rows) except -1
cdef void release(Rendezvous *r) noexcept
cdef void begin(Rendezvous *r, uint64_t key) noexcept nogil
cdef double exact(Rendezvous *r, int i) noexcept nogil
cdef int first(Rendezvous *r) noexcept nogil
cdef void pass_over(Rendezvous *r, int i) noexcept nogil
