from libc.stdint cimport int64_t, uint32_t, uint64_t

# Some servers, each at a place of its own, as they draw for one key after another.
cdef struct Rendezvous:
    int count                   # servers
    int padded                  # the same, filled up to whole vectors
    int cells
    int *number
    double *weight
    uint32_t *low               # words of the hash of its name
    uint32_t *high
    float *inverse              # of the weight, and of how far draws go
    uint64_t key
    float *draw                 # for the key; infinite: passed over
    float *least                # of the draws of a cell
    # What who asks keeps here: requests in flight and weights of those that can take more, when they were summed up
    # (in ns; 0: never), and whether for this key.
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
