from libc.stdint cimport int32_t, int64_t, uint64_t

# Why a limit is what it is; the names are in concurrency.pyx.
cdef enum Why:
    WHY_START = 0           # too little has been measured
    WHY_UNUSED              # fewer than half of the places are used: no reason to grow
    WHY_GROWING             # the places are used, and answers come as fast as ever
    WHY_LATENCY             # answers take longer than they should
    WHY_PROBE               # held low for a moment, to see how long an answer takes without others beside it
    WHY_FIXED               # configured

# How many requests the servers of a backend get at once. Two cache lines; times in ns, but durations in seconds.
cdef struct Limit:
    double limit
    double base             # how long an answer takes while servers have room; 0: not known
    double recent           # how long it takes now
    double speed            # answers per second now
    double best_speed       # the highest speed of the last seconds
    double before_probe     # the limit to go back to
    int64_t due             # when to look again
    int64_t begun           # since when answers are counted; 0: nothing has been looked at yet
    uint64_t answers        # the sums that were there at `begun`
    double seconds
    double pending          # seconds that those in flight at `begun` had been there, added up
    int64_t probe_due
    int64_t probe_every
    int64_t probe_begun
    int64_t probe_ends      # 0: there is none
    int32_t why
    int32_t congested       # 1: answers have been slow since the start; then the limit grows with care

# What all workers have counted up to now.
cdef struct Counted:
    uint64_t answers        # good answers, since ever
    double seconds          # sum of the times they took
    int64_t in_flight
    double age              # seconds that those in flight have been there, on average

cdef void start(Limit *state, double limit, int64_t now) noexcept nogil
cdef bint claim(Limit *state, int64_t now) noexcept nogil
cdef void adjust(Limit *state, const Counted *counted, int64_t now) noexcept nogil
