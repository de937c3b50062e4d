"""The number of requests that a backend's servers should have at once, learned from their response times. Pure.

Up to some concurrency (the knee: throughput × response time without queueing, Little 1961) servers work in parallel;
each request beyond it only waits at the server, where priorities do not apply and it cannot be withdrawn. The limit
follows the gradient of Netflix's concurrency-limits (Gradient2Limit): it is multiplied by `TOLERANCE × base / recent`,
at least 0.5 and at most 1, and grows by its square root while that is 1. In equilibrium it is a little above TOLERANCE
times the knee: servers always have work, and response times are hardly longer than TOLERANCE times the base.

Unlike there, the base is not a long-term average, which a long overload would raise, and the limit with it. It is the
response time while few requests are at the servers. While the limit is fully used, there is no such moment: then the
limit is held at half the knee until the servers have finished their earlier requests, and for one more look (as BBR's
ProbeRTT, draft-cardwell-iccrg-bbr-congestion-control). That costs less than 1 % of the throughput. A limit that is
already at half the knee needs no probe: if responses are still slow there, the servers have become slower, and the base
follows.

Looks are PERIOD apart, further with few responses. Any process may do one: `claim` lets exactly one do it.
"""

from libc.math cimport exp, sqrt

cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline int concurrency_claim(int64_t *due, int64_t before, int64_t after) {
        return __atomic_compare_exchange_n(due, &before, after, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    """
    bint concurrency_claim(int64_t *due, int64_t before, int64_t after)

cdef int64_t PERIOD = 50_000_000
cdef int64_t LONGEST = 500_000_000          # without enough responses
cdef int64_t FIRST_PROBE = 1_000_000_000    # the first probes come early: a start under overload has no good base
cdef int64_t PROBE_EVERY = 10_000_000_000
cdef double PROBE_SHARE = 60.0              # largest share of the time for probes, as 1/n
cdef int ENOUGH = 10                        # responses, for a look
cdef int ENOUGH_FIRST = 50                  # the same, for the first one: its time stays for seconds
cdef int PROBED = 50                        # the same, for a probe
cdef double ANSWERED = 1.5                  # times the base: time until responses show the effect of the last look
cdef double WEIGHT = 20.0                   # responses: weight of the previous average against those of one look
cdef double TOLERANCE = 1.2
cdef double LEAST = 2.0
cdef double MOST = 1_000_000.0
cdef double STEP = 0.5                      # part of the way to the target limit, in one look
cdef double SPEED_MEMORY = 10.0             # seconds
cdef double BASE_MEMORY = 1.0               # seconds
cdef double FEW = 0.7                       # of the knee: with fewer requests than that, none wait at the servers
cdef double FASTER = 0.8                    # of the base: faster than that is not chance

WHYS = ("start", "unused", "growing", "latency", "probe", "fixed")
"""Names of Why, for display."""


cdef void start(Limit *state, double limit, int64_t now) noexcept nogil:
    """Initialize a limit without measurements."""
    state.limit = limit
    state.base = state.recent = state.speed = state.best_speed = 0
    state.probe_every = FIRST_PROBE
    state.probe_ends = 0
    state.probe_due = now + FIRST_PROBE
    state.congested = 0
    state.why = WHY_START
    state.begun = 0
    state.due = now


cdef bint claim(Limit *state, int64_t now) noexcept nogil:
    """Whether this process does the look: true for one of the processes that ask once a look is due."""
    cdef int64_t due = state.due
    return now >= due and concurrency_claim(&state.due, due, now + PERIOD)


cdef inline void _begin(Limit *state, const Counted *counted, int64_t now) noexcept nogil:
    state.begun = now
    state.answers = counted.answers
    state.seconds = counted.seconds
    state.pending = counted.in_flight * counted.age


cdef inline double _least(const Limit *state) noexcept nogil:
    """Half the knee: below it, servers would be idle part of the time."""
    cdef double half = 0.5 * state.best_speed * state.base
    return half if half > LEAST else LEAST


cdef void adjust(Limit *state, const Counted *counted, int64_t now) noexcept nogil:
    """Do a look that was claimed."""
    cdef double span = (now - state.begun) * 1e-9
    cdef double n, mean, weight
    if state.begun == 0 or counted.answers < state.answers:
        _begin(state, counted, now)             # the first look, or a worker's counters were cleared
        return
    n = <double>(counted.answers - state.answers)
    if state.probe_ends:
        if now >= state.probe_ends + (0 if n >= PROBED else LONGEST):
            _end_probe(state, n, counted.seconds - state.seconds, now)
            if state.probe_ends == 0:
                _begin(state, counted, now)
        return
    if n < (ENOUGH if state.base > 0 else ENOUGH_FIRST) and now - state.begun < LONGEST:
        return
    if n > 0:
        mean = (counted.seconds - state.seconds) / n
        if state.base == 0:                     # only the fastest of the first requests are done: count all of them
            mean = max(mean, (counted.seconds - state.seconds + counted.in_flight * counted.age - state.pending) / n)
        weight = n / (n + WEIGHT) if state.recent > 0 else 1.0
        state.recent += weight * (mean - state.recent)
        state.speed += weight * (n / span - state.speed)
        state.best_speed = max(state.speed, state.best_speed * exp(-span / SPEED_MEMORY))
        _learn_base(state, span)
    elif counted.in_flight > 0 and counted.age > state.recent > 0:
        state.recent = counted.age              # no response arrived
    _begin(state, counted, now)
    state.due = now + max(PERIOD, min(LONGEST, <int64_t>(1e9 * ANSWERED * state.base)))
    if state.recent > 0:
        _aim(state, counted.in_flight, now)


cdef void _learn_base(Limit *state, double span) noexcept nogil:
    """Consider responses unqueued if few requests were at the servers, or if they are faster than ever before."""
    cdef double at_once = state.speed * state.recent
    cdef double before = state.base
    if before == 0:
        state.base = state.recent
    elif at_once <= FEW * state.best_speed * before or at_once <= 1:
        state.base += (1 - exp(-span / BASE_MEMORY)) * (state.recent - before)
        if state.base > before:
            state.best_speed *= before / state.base     # as many in parallel as before, each slower
    elif state.recent < FASTER * before:
        state.base += 0.5 * (state.recent - before)


cdef void _aim(Limit *state, int64_t in_flight, int64_t now) noexcept nogil:
    cdef double gradient = TOLERANCE * state.base / state.recent
    cdef double limit = state.limit
    cdef bint used = in_flight >= 0.9 * limit or state.speed * state.recent >= 0.5 * limit
    cdef double aim, least
    if gradient < 0.5:
        gradient = 0.5
    if not used:
        state.why = WHY_UNUSED  # slow or not, this limit is not the cause
        state.probe_every = min(PROBE_EVERY, state.probe_every + state.probe_every // 10)  # no probe needed
        state.probe_due = now + state.probe_every
        return
    if gradient >= 1:
        state.why = WHY_GROWING
        limit = limit + sqrt(limit) if state.congested else 1.5 * limit
    else:
        state.congested = 1
        state.why = WHY_LATENCY
        aim = gradient * limit + sqrt(limit)
        limit += STEP * (aim - limit)
    least = _least(state)
    state.limit = min(max(limit, least), MOST)
    if state.congested and now >= state.probe_due and state.limit > 1.2 * least:
        _probe(state, now)


cdef void _probe(Limit *state, int64_t now) noexcept nogil:
    """Hold the limit low. Responses count from the time when the servers have finished their current requests."""
    cdef int64_t emptied = <int64_t>(2e9 * state.recent)
    cdef int64_t watched = max(PERIOD, <int64_t>(2e9 * state.base))
    state.before_probe = state.limit
    state.limit = _least(state)
    state.why = WHY_PROBE
    state.begun = 0
    state.due = now + emptied
    state.probe_ends = now + emptied + watched
    state.probe_begun = now


cdef void _end_probe(Limit *state, double n, double seconds, int64_t now) noexcept nogil:
    """n: responses that arrived during the probe. seconds: the sum of their times."""
    cdef double before = state.base
    if n > 0:
        state.base += n / (n + WEIGHT / 2) * (seconds / n - before)
        if state.base < FASTER * before:        # there was still a queue at half of the assumed knee
            state.recent = seconds / n
            state.before_probe *= state.base / before
            state.limit = state.before_probe
            _probe(state, now)
            return
    state.limit = state.before_probe
    state.why = WHY_GROWING
    state.probe_ends = 0
    state.probe_every = min(2 * state.probe_every, PROBE_EVERY)
    state.probe_due = now + max(state.probe_every, <int64_t>(PROBE_SHARE * (now - state.probe_begun)))


# ------------------------------------------------------------------------------------------------------------ for tests

cdef class Adaptive:
    """A limit on its own."""
    cdef Limit state

    def __init__(self, double limit, int64_t now):
        start(&self.state, limit, now)

    def look(self, int64_t now, int64_t answers, double seconds, int64_t in_flight, double age=0.0):
        """Do a look if it is due; return the limit. Arguments as in Counted."""
        cdef Counted counted
        if claim(&self.state, now):
            counted.answers = answers
            counted.seconds = seconds
            counted.in_flight = in_flight
            counted.age = age
            adjust(&self.state, &counted, now)
        return self.state.limit

    @property
    def base(self):
        """The base in seconds."""
        return self.state.base

    @property
    def why(self):
        """A name of WHYS."""
        return WHYS[self.state.why]
