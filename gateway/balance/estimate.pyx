"""How long each server takes to respond, learned from its responses. Pure: Board rows and a clock are passed in.

A server's response time is modelled as a straight line over the number of requests that were in flight there when a
request was picked: `base` is the service time, `slope` the wait that each request ahead adds. A server that works on
one request at a time has all its time in the slope, one with unlimited concurrency all in the base; nothing has to be
configured. The line is a least-squares fit with exponential forgetting (LINE seconds). In addition, `drift` is the
ratio of the last response times (RECENT seconds, RECENT_ANSWERS) to the line's predictions for them, as far as it
exceeds chance, so that a server that becomes slow is noticed within a few responses. Where times and predictions differ
widely, in either direction, the line is forgotten at once and learned anew. Overdue requests count before their
response arrives: otherwise a server that has stopped responding would yield no measurements.

The certainty: `variance` is the variance of one response time around its mean, `surprise` the evidence of the last
responses that the server has just become slow (a log-likelihood ratio, CUSUM). Both use the logarithms of times over
predictions, because response times are nearer to log-normal than to normal.

A failure counts as PENALTY times the expected time, however fast it was. Otherwise a server that refuses every request
within a millisecond would look best.

Least squares with exponential forgetting: e.g. Ljung, "System Identification", 11.2. Counting unfinished requests
with their age is the usual estimate of an exponential mean from censored data (total time on test).
"""

from libc.math cimport exp, log, sqrt
from gateway.board cimport MAX_WORKERS

cdef double SLOW = 5.0              # times slower than before: the assumption about a server that has become slow
cdef double LOG_SLOW = log(SLOW)
cdef double LINE = 10.0             # seconds
cdef double RECENT = 1.0            # seconds
cdef double RECENT_ANSWERS = 32.0   # at most, per worker
cdef double WORTH = 30.0            # seconds in which a line without new responses loses its weight
cdef double KEPT = 0.95  # part of the line that is kept after one response, however long ago the last one was
cdef double KEPT_IN_DOUBT = 0.2     # the same while the server is suspected to have changed
cdef double IN_DOUBT = 4.5          # surprise from which a server is suspected
cdef double KEPT_RECENT = 0.75      # of the recent answers
cdef double PENALTY = 10.0  # times the expected time: the value of a failure, and the longest response time counted
cdef double CHANGED = 2.0           # times slower or faster than predicted: the server has changed
cdef double RELEARN_AFTER = 4.0     # responses, unless they are a surprise
cdef double RELEARN = 0.3           # part of the line that is kept then
cdef double SLOPE_PRIOR = 8.0       # in favour of slope 0, as a sum of squares of requests
cdef double DRIFT_PRIOR = 4.0       # responses as expected, in favour of no drift
cdef double NOISE = 1.5             # a ratio that a few responses reach by chance
cdef double SCATTER = 0.5           # initially assumed variance of the logarithm of times
cdef double SCATTER_SUSPECTED = 1.0  # the same for the decision whether a server has become slow
cdef double SCATTER_PRIOR = 4.0     # weight of that assumption, in responses
cdef double SCATTER_LEAST = 0.15
cdef double OUTLYING = 2.5          # standard deviations; values beyond do not widen them further
cdef double SURPRISE_STEP = 5.0     # largest effect of one response
cdef double SURPRISE_WIDER = 4.0    # responses: effect of the uncertainty of a prediction, which later ones share
cdef double SURPRISE_SLOW = 8.0     # largest sum of slow responses
cdef double SURPRISE_WORTH = 900.0  # seconds in which surprise fades without new responses
cdef double SURPRISE_FAILED = 15.0  # largest sum of failures
cdef double SURPRISE_NOISE = 0.7    # per worker, by chance
cdef double NS = 1e-9


cdef inline double _fade(double seconds, double memory) noexcept nogil:
    return exp(-seconds / memory) if seconds > 0 else 1.0


cdef void _fit(const TimeRow *sums, Estimate *line) noexcept nogil:
    """Fit base and slope to sums with at least one response; neither is ever negative."""
    cdef double mean_ahead = sums.ahead / sums.answers
    cdef double mean_time = sums.time / sums.answers
    cdef double spread = sums.ahead_squared - mean_ahead * sums.ahead
    cdef double slope = (sums.time_ahead - mean_ahead * sums.time) / (spread + SLOPE_PRIOR)
    if slope < 0:
        slope = 0
    if slope * (mean_ahead + 1) > mean_time:
        slope = mean_time / (mean_ahead + 1)        # a request ahead adds no more than its own service time
    line.slope = slope
    line.base = mean_time - slope * mean_ahead
    line.answers = sums.answers


cdef void _forget(TimeRow *row, int64_t now) noexcept nogil:
    """Age the sums to `now`."""
    cdef double seconds = (now - row.observed) * NS
    cdef double keep = max(KEPT if row.surprise < IN_DOUBT else KEPT_IN_DOUBT, _fade(seconds, LINE))
    cdef double keep_recent = min(1 - 1 / RECENT_ANSWERS, max(KEPT_RECENT, _fade(seconds, RECENT)))
    row.answers *= keep
    row.ahead *= keep
    row.ahead_squared *= keep
    row.time *= keep
    row.time_ahead *= keep
    row.logs *= keep
    row.log_squares *= keep
    row.recent *= keep_recent
    row.expected *= keep_recent
    row.observed = max(row.observed, now)


cdef double _promise(const TimeRow *row, int ahead, double seconds) noexcept nogil:
    """This worker's own prediction; the actual time, while it has none."""
    cdef Estimate line
    if row.answers <= 0:
        return seconds
    _fit(row, &line)
    return line.base + line.slope * ahead


cdef void _relearn(TimeRow *row) noexcept nogil:
    """The line no longer holds: replace it with the next responses."""
    row.answers *= RELEARN
    row.ahead *= RELEARN
    row.ahead_squared *= RELEARN
    row.time *= RELEARN
    row.time_ahead *= RELEARN
    row.logs *= RELEARN
    row.log_squares *= RELEARN
    row.recent = row.expected = 0


cdef double _scatter(const TimeRow *sums, double assumed) noexcept nogil:
    """Variance of the logarithms of times over predictions."""
    cdef double squares = sums.log_squares
    if sums.answers > 0:
        squares -= sums.logs * sums.logs / sums.answers
    return max(SCATTER_LEAST, (squares + SCATTER_PRIOR * assumed) / (sums.answers + SCATTER_PRIOR))


cdef void _see(TimeRow *row, double ratio) noexcept nogil:
    """Record a response that took `ratio` times its prediction.

    Page's CUSUM (Biometrika 1954) of the log-likelihood ratio of two log-normal distributions, SLOW times slower
    against unchanged; the prediction's own uncertainty widens both.
    """
    cdef double scatter = _scatter(row, SCATTER_SUSPECTED)
    cdef double usual = row.logs / row.answers if row.answers > 0 else 0
    cdef double beyond = log(ratio) - usual
    cdef double most = OUTLYING * sqrt(scatter)
    cdef double step = LOG_SLOW / (scatter * (1 + SURPRISE_WIDER / (row.answers + 0.2))) * (beyond - LOG_SLOW / 2)
    if step < 0:
        row.surprise = max(0.0, row.surprise + max(-SURPRISE_STEP, step))
    elif row.surprise < SURPRISE_SLOW:
        row.surprise = min(SURPRISE_SLOW, row.surprise + min(SURPRISE_STEP, step))
    beyond = usual + max(-most, min(most, beyond))
    row.logs += beyond
    row.log_squares += beyond * beyond


cdef void begin(TimeRow *row, int64_t now) noexcept nogil:
    """A request was assigned to the server."""
    row.unanswered += 1
    row.started += <unsigned long long>now


cdef inline void _end(TimeRow *row, int64_t picked) noexcept nogil:
    row.unanswered -= 1
    row.started -= <unsigned long long>picked


cdef void answer(TimeRow *row, int64_t now, int64_t picked, int ahead, bint failed) noexcept nogil:
    """The response to a request has arrived, or has failed; `ahead` others were in flight at `picked`."""
    cdef double seconds = max(1e-6, (now - picked) * NS)
    cdef double promised, ratio
    cdef bint trusted
    _end(row, picked)
    _forget(row, now)
    promised = _promise(row, ahead, seconds)
    row.expected += promised
    if failed:
        row.recent += PENALTY * promised
        row.surprise = min(SURPRISE_FAILED, row.surprise + SURPRISE_STEP)
        if row.streak < 1000000:
            row.streak += 1
        return
    seconds = min(seconds, PENALTY * promised)      # one response that never ends does not make a server slow
    row.recent += seconds
    row.streak = 0
    _see(row, seconds / promised)
    ratio = (promised + row.recent) / (promised + row.expected)
    trusted = row.surprise >= IN_DOUBT or row.expected > RELEARN_AFTER * promised
    if ratio < 1 / CHANGED or (ratio > CHANGED and trusted):
        _relearn(row)
    row.answers += 1
    row.ahead += ahead
    row.ahead_squared += <double>ahead * ahead
    row.time += seconds
    row.time_ahead += seconds * ahead


cdef void give_up(TimeRow *row, int64_t now, int64_t picked, int ahead) noexcept nogil:
    """The client disconnected before the response: if the response was overdue, its age counts."""
    cdef double seconds = (now - picked) * NS
    cdef double promised
    _end(row, picked)
    promised = _promise(row, ahead, seconds)
    if seconds > promised:
        _forget(row, now)
        row.recent += seconds
        row.expected += promised


cdef Estimate look(Board board, int slot, int workers, int64_t now) noexcept nogil:
    """The combined knowledge of all workers. Each worker's sums are aged to the newest response of any worker, not to
    `now`: a server without requests is assumed unchanged. Only the weight of the knowledge decays."""
    cdef TimeRow sums
    cdef TimeRow *row
    cdef Estimate line
    cdef int i
    cdef int64_t newest = 0
    cdef double keep, age, due, prior, most = SURPRISE_SLOW
    cdef unsigned long long started = 0
    line.base = line.slope = line.answers = line.surprise = 0
    line.drift = 1
    for i in range(workers):
        newest = max(newest, board.timing(slot, i).observed)
    sums.answers = sums.ahead = sums.ahead_squared = sums.time = sums.time_ahead = sums.recent = sums.expected = 0
    sums.logs = sums.log_squares = 0
    sums.unanswered = 0
    for i in range(workers):
        row = board.timing(slot, i)
        sums.unanswered += row.unanswered
        started += row.started
        if row.observed == 0:
            continue
        keep = _fade((newest - row.observed) * NS, LINE)
        sums.answers += keep * row.answers
        sums.ahead += keep * row.ahead
        sums.ahead_squared += keep * row.ahead_squared
        sums.time += keep * row.time
        sums.time_ahead += keep * row.time_ahead
        sums.logs += keep * row.logs
        sums.log_squares += keep * row.log_squares
        line.surprise += max(0.0, row.surprise - SURPRISE_NOISE)
        most = max(most, row.surprise)
        keep = _fade((newest - row.observed) * NS, RECENT)
        sums.recent += keep * row.recent
        sums.expected += keep * row.expected
    line.surprise = min(line.surprise, most) * _fade((now - newest) * NS, SURPRISE_WORTH)
    line.variance = exp(_scatter(&sums, SCATTER)) - 1
    if sums.answers > 0.01:
        _fit(&sums, &line)
        due = line.base + line.slope * (sums.ahead / sums.answers)
        if sums.unanswered > 0:
            age = <int64_t>(<unsigned long long>sums.unanswered * <unsigned long long>now - started) * NS
            sums.recent += max(0.0, age - sums.unanswered * due)
        line.answers *= _fade((now - newest) * NS, WORTH)
        prior = DRIFT_PRIOR * due
        line.drift = max(1.0, (prior + sums.recent) / (prior + sums.expected) / NOISE)
    elif sums.expected > 0:
        line.drift = sums.recent / sums.expected        # only failures so far
    return line


def picked(Board board, int slot, int worker, int64_t now):
    """Count a request as workers do when they pick; return how many were ahead. `now` in ns; for tests and bench."""
    cdef int ahead = board.total_in_flight(board._slot(slot), MAX_WORKERS)
    begin(board.timing(slot, worker), now)
    board.in_flight_cells[slot * MAX_WORKERS + worker] += 1
    return ahead


def answered(Board board, int slot, int worker, int64_t now, int64_t since, int ahead, *, bint failed=False):
    """Record its response; `since` is when it was picked, both in ns."""
    answer(board.timing(board._slot(slot), worker), now, since, ahead, failed)
    board.in_flight_cells[slot * MAX_WORKERS + worker] -= 1


def expected(Board board, int slot, int workers, int64_t now, int ahead=0):
    """Seconds to the response for a request with `ahead` others at the server; 0.0 while nothing is known."""
    cdef Estimate line = look(board, board._slot(slot), workers, now)
    return line.drift * (line.base + line.slope * ahead)


def drift(Board board, int slot, int workers, int64_t now):
    """How much slower than usual the server is now, as a factor."""
    return look(board, board._slot(slot), workers, now).drift
