"""Overload control of a backend. qos/concurrency.pyx and qos/delay.pxd have the policies, the Board has the counts."""

from gateway.board cimport MAX_WORKERS, TimeRow, TrafficRow
from qos.concurrency cimport Counted, adjust, claim, start

cdef double FIRST = 10.0                # initial limit per server


cdef class Overload:
    """traffic: the backend's row of the Board. workers: how many workers' cells of it to sum.

    concurrency: requests at once; None: adaptive; 0: no limit. target: seconds, or 0.0. newest_first: while waits are
    longer than the target, the newest request goes first. fair_by: a RequestKey, or None.
    """

    def __init__(self, Board board, Members members, int traffic, int worker, int workers, *, concurrency,
                 double target=0.0, bint newest_first=False, RequestKey fair_by=None):
        self.board = board
        self.members = members
        self.traffic = traffic
        self.worker = worker
        self.workers = min(workers, MAX_WORKERS)
        self.adaptive = concurrency is None
        self.concurrency = concurrency or 0
        self.target = <int64_t>(target * 1e9)
        self.newest_first = newest_first
        self.fair_by = fair_by

    cdef bint full(self, int64_t now) noexcept:
        """Whether the servers have reached the concurrency limit. Adjusts the limit if that is due."""
        cdef Limit *state
        if not self.adaptive:
            return self.concurrency != 0 and self.in_flight() >= self.concurrency
        state = &self.board.limits[self.traffic]
        if claim(state, now):
            self._look(state, now)
        return self.in_flight() >= <int64_t>self.places()

    cdef double places(self) noexcept:
        """The concurrency limit; 0: no limit."""
        cdef double limit
        if not self.adaptive:
            return self.concurrency
        limit = self.board.limits[self.traffic].limit
        return limit if limit >= 1 else FIRST

    cdef bint probing(self) noexcept:
        """Whether the limit is held low for a measurement: waits then do not mean overload."""
        return self.adaptive and self.board.limits[self.traffic].probe_ends != 0

    cdef int64_t in_flight(self) noexcept:
        """Requests at the servers, over all workers."""
        cdef int64_t total = 0
        cdef int i
        for i in range(self.workers):
            total += self.board.traffic(self.traffic, i).open
        return total

    cdef void enter(self) noexcept:
        """A request goes to a server."""
        self.board.traffic(self.traffic, self.worker).open += 1

    cdef void leave(self) noexcept:
        """A request is done."""
        self.board.traffic(self.traffic, self.worker).open -= 1

    cdef void answered(self, int64_t took, bint failed) noexcept:
        """A response has begun, `took` ns after the server had the whole request. A fast failure is no measurement."""
        cdef TrafficRow *row
        cdef double seconds = took * 1e-9
        if self.adaptive and not (failed and seconds < self.board.limits[self.traffic].base):
            row = self.board.traffic(self.traffic, self.worker)
            row.timed += 1
            row.timed_seconds += seconds

    cdef void _look(self, Limit *state, int64_t now) noexcept:
        cdef Counted counted
        cdef TrafficRow *row
        cdef TimeRow *times
        cdef unsigned long long started = 0
        cdef int64_t unanswered = 0
        cdef int i, k
        if state.limit < 1:
            start(state, FIRST * max(1, self.members.count), now)
        counted.answers = 0
        counted.seconds = 0
        for i in range(self.workers):
            row = self.board.traffic(self.traffic, i)
            counted.answers += row.timed
            counted.seconds += row.timed_seconds
            for k in range(self.members.count):
                times = self.board.timing(self.members.member[k].slot, i)
                unanswered += times.unanswered
                started += times.started
        counted.in_flight = self.in_flight()
        counted.age = 0
        if unanswered > 0:
            counted.age = <int64_t>(<unsigned long long>unanswered * <unsigned long long>now - started) * 1e-9
            counted.age /= unanswered
        adjust(state, &counted, now)


def entered(Overload overload, int change):
    """A request goes to a server (1), or is done (-1); for tests."""
    if change > 0:
        overload.enter()
    else:
        overload.leave()
