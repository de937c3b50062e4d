from libc.stdint cimport int32_t, int64_t, uint64_t

# The reason for the current limit; the names are in concurrency.pyx.
cdef enum Why:
    WHY_START = 0           # too few measurements
    WHY_UNUSED              # fewer than half of the places are used: no reason to grow
    WHY_GROWING             # the places are used, and responses are as fast as ever
    WHY_LATENCY             # responses take longer than they should
    WHY_PROBE               # held low for a moment, to measure the response time without other requests
    WHY_FIXED               # configured

# The concurrency limit of a backend. Two cache lines; times in ns, but durations in seconds.
cdef struct Limit:
    double limit
    double base             # response time while the servers have room; 0: not known
    double recent           # current response time
    double speed            # current responses per second
    double best_speed       # highest speed of the last seconds
    double before_probe     # the limit to return to
    int64_t due             # time of the next look
    int64_t begun           # since when responses are counted; 0: before the first look
    uint64_t answers        # the sums at `begun`
    double seconds
    double pending          # total age in seconds of the requests in flight at `begun`
    int64_t probe_due
    int64_t probe_every
    int64_t probe_begun
    int64_t probe_ends      # 0: no probe
    int32_t why
    int32_t congested       # 1: responses have been slow since the start; then the limit grows slowly

# The counters of all workers, summed.
cdef struct Counted:
    uint64_t answers        # successful responses, in total
    double seconds          # sum of their response times
    int64_t in_flight
    double age              # mean age in seconds of the requests in flight

cdef void start(Limit *state, double limit, int64_t now) noexcept nogil
cdef bint claim(Limit *state, int64_t now) noexcept nogil
cdef void adjust(Limit *state, const Counted *counted, int64_t now) noexcept nogil
