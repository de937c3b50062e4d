"""How many requests the servers of a backend should have at once, learned from how long they take to answer. Pure.

Up to some number of requests at once (the knee: throughput × time of an answer without queueing, Little 1961) servers
work side by side; each request beyond it only waits there, where no priority counts and no one can take it back. The
limit follows the gradient of Netflix's concurrency-limits (Gradient2Limit): it is multiplied by
`TOLERANCE × base / recent`, at least 0.5 and at most 1, and grows by its square root while that is 1. In equilibrium it
is a little above TOLERANCE times the knee: servers are never short of work, and answers take hardly longer than that.

Unlike there, the base is not a long-term average, which an overload that lasts would pull up, and the limit with it.
It is the time that answers take while few requests are at the servers. When the limit has been used up for a while, no
such moment comes by itself: then the limit is held at half the knee until the servers have worked off what they had,
and for one look more (BBR's ProbeRTT, draft-cardwell-iccrg-bbr-congestion-control, does the same). That costs less than
1 % of the throughput. A limit that is at half the knee already needs no probe: if answers are still slow there, it is
the servers that have become slower, and the base follows.

Looks are PERIOD apart, further with few answers. Any process may take one: by `claim`, exactly one does.
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
cdef int64_t LONGEST = 500_000_000          # without enough answers
cdef int64_t FIRST_PROBE = 1_000_000_000    # the first probes come soon: a start under overload knows no good base
cdef int64_t PROBE_EVERY = 10_000_000_000
cdef double PROBE_SHARE = 60.0              # a probe takes one part in so many of the time, at most
cdef int ENOUGH = 10                        # answers, for a look
cdef int PROBED = 50                        # the same, for a probe
cdef double ANSWERED = 1.5                  # times the base: until answers show what the last look has changed
cdef double WEIGHT = 20.0                   # answers: of the average before, against those of one look
cdef double TOLERANCE = 1.2
cdef double LEAST = 2.0
cdef double MOST = 1_000_000.0
cdef double STEP = 0.5                      # of the way to the limit aimed at, in one look
cdef double SPEED_MEMORY = 10.0             # seconds
cdef double BASE_MEMORY = 1.0               # seconds
cdef double FEW = 0.7                       # of the knee: with fewer requests than that, they do not wait at servers
cdef double FASTER = 0.8                    # of the base: faster than that is not chance

WHYS = ("start", "unused", "growing", "latency", "probe", "fixed")
"""Names of Why, as shown."""


cdef void start(Limit *state, double limit, int64_t now) noexcept nogil:
    """A limit about which nothing is known yet."""
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
    """Whether this process is to look now: one of those that ask, as soon as a look is due."""
    cdef int64_t due = state.due
    return now >= due and concurrency_claim(&state.due, due, now + PERIOD)


cdef inline void _begin(Limit *state, const Counted *counted, int64_t now) noexcept nogil:
    state.begun = now
    state.answers = counted.answers
    state.seconds = counted.seconds
    state.pending = counted.in_flight * counted.age


cdef inline double _least(const Limit *state) noexcept nogil:
    """Half the knee: below it, servers are short of work."""
    cdef double half = 0.5 * state.best_speed * state.base
    return half if half > LEAST else LEAST


cdef void adjust(Limit *state, const Counted *counted, int64_t now) noexcept nogil:
    """Take a look that was claimed."""
    cdef double span = (now - state.begun) * 1e-9
    cdef double n, mean, weight
    if state.begun == 0 or counted.answers < state.answers:
        _begin(state, counted, now)             # the first look, or what a worker counted was cleared
        return
    n = <double>(counted.answers - state.answers)
    if state.probe_ends:
        if now >= state.probe_ends + (0 if n >= PROBED else LONGEST):
            _end_probe(state, n, counted.seconds - state.seconds, now)
            if state.probe_ends == 0:
                _begin(state, counted, now)
        return
    if n < ENOUGH and now - state.begun < LONGEST:
        return
    if n > 0:
        mean = (counted.seconds - state.seconds) / n
        if state.base == 0:                     # only the quickest of the first requests are done: count all of them
            mean = max(mean, (counted.seconds - state.seconds + counted.in_flight * counted.age - state.pending) / n)
        weight = n / (n + WEIGHT) if state.recent > 0 else 1.0
        state.recent += weight * (mean - state.recent)
        state.speed += weight * (n / span - state.speed)
        state.best_speed = max(state.speed, state.best_speed * exp(-span / SPEED_MEMORY))
        _learn_base(state, span)
    elif counted.in_flight > 0 and counted.age > state.recent > 0:
        state.recent = counted.age              # not one answer came
    _begin(state, counted, now)
    state.due = now + max(PERIOD, min(LONGEST, <int64_t>(1e9 * ANSWERED * state.base)))
    if state.recent > 0:
        _aim(state, counted.in_flight, now)


cdef void _learn_base(Limit *state, double span) noexcept nogil:
    """Take answers for unhindered if few requests were at the servers, or if they are faster than ever."""
    cdef double at_once = state.speed * state.recent
    cdef double before = state.base
    if before == 0:
        state.base = state.recent
    elif at_once <= FEW * state.best_speed * before or at_once <= 1:
        state.base += (1 - exp(-span / BASE_MEMORY)) * (state.recent - before)
        if state.base > before:
            state.best_speed *= before / state.base     # as many side by side as before, each more slowly
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
        state.why = WHY_UNUSED                  # slow or not, it is not for the requests that this limit lets through
        state.probe_every = min(PROBE_EVERY, state.probe_every + state.probe_every // 10)  # the base is known without
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
    """Hold the limit low. Answers count from when the servers have worked off what they have now."""
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
    """n: answers that came meanwhile. seconds: sum of the times they took."""
    cdef double before = state.base
    if n > 0:
        state.base += n / (n + WEIGHT / 2) * (seconds / n - before)
        if state.base < FASTER * before:        # there was still a queue at half of what seemed to be the knee
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
    """A limit by itself."""
    cdef Limit state

    def __init__(self, double limit, int64_t now):
        start(&self.state, limit, now)

    def look(self, int64_t now, int64_t answers, double seconds, int64_t in_flight, double age=0.0):
        """Look, if it is time: the limit. Arguments as in Counted."""
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
        """Seconds."""
        return self.state.base

    @property
    def why(self):
        """A name of WHYS."""
        return WHYS[self.state.why]
