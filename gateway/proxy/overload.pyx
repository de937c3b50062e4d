"""Overload control of a backend. The policies are in qos/concurrency.pyx and qos/delay.pxd, the counts on the Board."""

from gateway.board cimport MAX_WORKERS, TimeRow, TrafficRow
from qos.concurrency cimport Counted, adjust, claim, start

cdef double FIRST = 10.0                # requests at once per server, while nothing is known


cdef class Overload:
    """traffic: the backend's row of the Board. workers: how many workers' cells of it to look at.

    concurrency: requests at once; None: as measured; 0: any number. target: seconds, or 0.0. newest_first: whether the
    newest request goes first while longer waits than that are the rule. fair_by: a RequestKey, or None.
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
        """Whether the servers have as many requests as they should. Looks whether that is still the right number."""
        cdef Limit *state
        if not self.adaptive:
            return self.concurrency != 0 and self.in_flight() >= self.concurrency
        state = &self.board.limits[self.traffic]
        if claim(state, now):
            self._look(state, now)
        return self.in_flight() >= <int64_t>self.places()

    cdef double places(self) noexcept:
        """How many requests the servers should have at once; 0: any number."""
        cdef double limit
        if not self.adaptive:
            return self.concurrency
        limit = self.board.limits[self.traffic].limit
        return limit if limit >= 1 else FIRST

    cdef bint probing(self) noexcept:
        """Whether the servers are kept short of work for a moment, to measure: waits are no overload then."""
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
        """It has done with it."""
        self.board.traffic(self.traffic, self.worker).open -= 1

    cdef void answered(self, int64_t took, bint failed) noexcept:
        """An answer has begun, so many ns after the server had the whole request. A quick failure says nothing."""
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
    """A request goes to a server (1), or has done with it (-1); for tests."""
    if change > 0:
        overload.enter()
    else:
        overload.leave()
