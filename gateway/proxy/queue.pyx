"""Waiting for room at a server; or for a class's turn or a session, by the same means.

Work waits in a lane; within a lane the smallest order is first. The order is the time of arrival or, with fairness, a
round: start-time fair queueing (Goyal, Vin & Cheng 1996) over buckets of sources. The work of one bucket gets
consecutive rounds, beginning with the current one; so each bucket has a turn before any has a second one. When a server
has room again, the first work is called (`on_turn`), which tries to pick a server again and, if other work was faster,
returns to the head of its lane. Lanes have a rank, which may change while work waits, and may be closed for now. Other
workers have queues of their own: each publishes on the Board the rank and the order of its first work; over all workers
the smallest rank is served first, and within it the smallest order. A worker is not notified of room that another one
made, so one with a queue checks every 2 ms.

With overload control (overload.pyx), there is room only while the servers are below the concurrency limit, and work
that has waited too long is shed: it is called with the place SHED. A request of an admitted session is not: it waits as
long as the queue allows, because its session would end with it.
"""

from libc.stdlib cimport calloc, free

from gateway.proxy.lanes cimport MOST_LANES, NO_CLASS
from gateway.proxy.qos_class cimport QosClass
from qos.delay cimport overloaded, too_late
from qos.turns cimport RANKS

cdef enum:
    SINCE_BITS = 57         # of a time in ns: four years
    BUCKETS = 1024          # of sources, in each lane; sources in the same bucket share turns

cdef extern from * nogil:
    int __builtin_ctzll(unsigned long long number)

LOOK_AGAIN = 0.002          # seconds

cdef int64_t SINCE = (<int64_t>1 << SINCE_BITS) - 1
cdef int64_t STUCK_NS = 1_000_000_000   # a worker that has published nothing for this long is stuck


cdef class WaitQueue:
    """limit: how much work may wait, over all workers (0: none). seconds: how long. slot: of the backend's first
    server, or -1.

    workers: how many workers' cells of the Board to look at. lanes: None, or what ranks the lanes. overload: None, or
    the overload control of the backend. traffic: the backend's row of the Board, or -1.
    """

    def __init__(self, Poller poller, Board board, int slot, int worker, int workers, int limit, double seconds,
                 Lanes lanes=None, Overload overload=None, int traffic=-1):
        self.poller = poller
        self.board = board
        self.slot = slot
        self.traffic = traffic
        self.worker = worker
        self.workers = workers
        self.limit = limit
        self.lanes = lanes
        self.overload = overload
        if overload is not None and overload.fair_by is not None:
            self.last_rounds = <int64_t *>calloc(MOST_LANES * BUCKETS, sizeof(int64_t))
            if self.last_rounds == NULL:
                raise MemoryError
        self.wait_ns = max(1_000_000, <int64_t>(seconds * 1e9))
        self.first = [None] * MOST_LANES
        self.last = [None] * MOST_LANES

    def __dealloc__(self):
        free(self.last_rounds)

    def __repr__(self):
        return f"<WaitQueue {self.count} of {self.limit}>"

    cdef bint busy(self, int64_t now) noexcept:
        """Whether work waits already, here or in another worker: then new work must queue behind it."""
        cdef int64_t key
        return (self.called is not None or (self.count != 0 and self._front(&key) is not None)
                or (self.limit != 0 and self._first_elsewhere(now) != 0))

    cdef int64_t order(self, Work work, int lane, int64_t came, int64_t now) noexcept:
        """The order of new work in a lane (Work.since); without fairness `came`, in ns."""
        cdef int64_t elsewhere
        if self.last_rounds == NULL:
            return came
        elsewhere = self._first_elsewhere(now)
        if elsewhere and elsewhere >> SINCE_BITS == self._rank(lane):
            self.rounds[lane] = max(self.rounds[lane], elsewhere & SINCE)   # keeps the workers' rounds in step
        return max(1, self.rounds[lane], self._last_round(work, lane)[0] + 1)

    cdef int64_t *_last_round(self, Work work, int lane) noexcept:
        return &self.last_rounds[lane * BUCKETS + work.fair % BUCKETS]

    cdef int enter(self, Work work, int lane, bint ahead) except -1:
        """Wait in a lane: ordered by `since`, or `ahead` of the others there."""
        cdef Work neighbour
        if self.first[lane] is None:
            self.in_time[lane] = self.poller.now
        if ahead:
            work.place = lane
            neighbour = self.first[lane]
            work.behind = neighbour
            if neighbour is None:
                self.last[lane] = work
            else:
                neighbour.before = work
            self.first[lane] = work
        else:
            self._link(work, lane)
        if self.last_rounds != NULL:
            self._last_round(work, lane)[0] = max(work.since, self._last_round(work, lane)[0])
        self.used |= <uint64_t>1 << lane
        self._count(lane, 1)
        self._announce()
        self._look_later()
        return 0

    cdef int _link(self, Work work, int lane) noexcept:
        """Insert the work behind the last one that precedes it in order."""
        cdef Work before = self.last[lane]
        cdef Work behind = None
        while before is not None and before.since > work.since and self.last_rounds != NULL:
            behind = before
            before = before.before
        work.place = lane
        work.before = before
        work.behind = behind
        if before is None:
            self.first[lane] = work
        else:
            before.behind = work
        if behind is None:
            self.last[lane] = work
        else:
            behind.before = work
        return 0

    cdef int leave(self, Work work) except -1:
        """Stop waiting: the client has disconnected, or the time is over. Does nothing for work that is not here."""
        if work.place >= 0:
            if self.last_rounds != NULL:
                self._last_round(work, work.place)[0] -= 1     # it has not had its turn
            self._unlink(work)
            return self._announce()
        return self.turn_taken(work)

    cdef int turn_taken(self, Work work) except -1:
        """The called work has tried to pick a server, or no longer needs one: others may be called."""
        if self.called is work:
            self.called = None
        return 0

    cdef int wake(self, int64_t now) except -1:
        """There may be room: call the first work, unless work in other workers precedes it."""
        cdef int64_t elsewhere, key
        cdef Work work
        if self.count == 0 or self.called is not None:
            return 0
        if self.overload is not None and self.overload.full(now):
            return 0
        work = self._next(now, &key)
        if work is None:
            return 0                    # no lane is open
        elsewhere = self._first_elsewhere(now)
        if elsewhere and elsewhere < key:
            return 0                    # they check again within milliseconds
        if self.last_rounds != NULL:
            self.rounds[work.place] = max(self.rounds[work.place], work.since)
        self._unlink(work)
        self._announce()
        self.called = work
        return self.poller.turn_of(work)

    cdef Work _next(self, int64_t now, int64_t *key):
        """The work to call, or None; key: as of _front. Work at the head of its lane that is too late is shed."""
        cdef Overload overload = self.overload
        cdef Work work
        cdef int lane
        while True:
            work = self._front(key)
            if work is None or overload is None or overload.target == 0:
                return work
            lane = work.place
            if now - work.entered <= overload.target or overload.probing():
                self.in_time[lane] = now
            if not overloaded(self.in_time[lane], now):
                return work
            if work.kept:
                return work
            if too_late(now - work.entered, overload.target):
                self._shed(work)
            else:
                return <Work>self.last[lane] if overload.newest_first else work

    cdef bint make_room(self, Work work, int lane) except -1:
        """The queue is full: whether work that would follow this one (since, lane) has been shed to make room."""
        cdef int other, rank, worst = self._rank(lane)
        cdef int64_t latest = work.since
        cdef Work last, found = None
        cdef uint64_t left = self.used
        if self.overload is None:
            return False
        while left:
            other = __builtin_ctzll(left)
            left &= left - 1
            rank = self._rank(other)
            last = self.last[other]
            if 0 <= rank and (rank > worst or (rank == worst and last.since > latest and not last.kept)):
                worst = rank
                latest = last.since
                found = last
        if found is None:
            return False
        self._shed(found)
        return True

    cdef bint full(self) noexcept:
        """Whether as much work waits as may, in all workers together. Each of the others may add one meanwhile."""
        cdef int64_t count = self.count
        cdef int worker
        if self.traffic >= 0:
            for worker in range(self.workers):
                if worker != self.worker:
                    count += self.board.traffic(self.traffic, worker).queued
        return count >= self.limit

    cdef int _shed(self, Work work) except -1:
        """The work has waited too long: its place tells it so when it is called."""
        self.leave(work)
        work.place = SHED
        return self.poller.turn_of(work)

    cdef int _shed_late(self, int64_t now) except -1:
        """Shed all work in overloaded lanes that has waited too long."""
        cdef Overload overload = self.overload
        cdef Work work, behind
        cdef int lane
        cdef uint64_t left = self.used
        while left:
            lane = __builtin_ctzll(left)
            left &= left - 1
            if overload.probing():
                self.in_time[lane] = now
            if not overloaded(self.in_time[lane], now):
                continue
            work = self.first[lane]
            while work is not None:
                behind = work.behind
                if not too_late(now - work.entered, overload.target):
                    if self.last_rounds == NULL:
                        break           # those behind have waited less
                elif not work.kept:
                    self._shed(work)
                work = behind
        return 0

    cdef int _rank(self, int lane) noexcept:
        return lane if self.lanes is None else self.lanes.rank(lane)

    cdef Work _front(self, int64_t *key):
        """The first work, or None if no lane with work is open. key: its order, smallest first."""
        cdef int lane, rank, best = RANKS
        cdef Work work, front = None
        cdef uint64_t left = self.used
        while left:
            lane = __builtin_ctzll(left)
            left &= left - 1
            rank = self._rank(lane)
            work = self.first[lane]
            if 0 <= rank < best or (rank == best and work.since < front.since):
                best = rank
                front = work
        if front is not None:
            key[0] = <int64_t>best << SINCE_BITS | front.since
        return front

    cdef int _unlink(self, Work work) except -1:
        cdef int lane = work.place
        if work.before is None:
            self.first[lane] = work.behind
        else:
            work.before.behind = work.behind
        if work.behind is None:
            self.last[lane] = work.before
        else:
            work.behind.before = work.before
        work.before = work.behind = None
        work.place = -1
        self._count(lane, -1)
        if self.first[lane] is None:
            self.used &= ~(<uint64_t>1 << lane)
        return 0

    cdef void _count(self, int lane, int change) noexcept:
        """Work has begun (1) or stopped (-1) waiting in a lane."""
        cdef QosClass klass
        self.count += change
        if self.traffic >= 0:
            self.board.traffic(self.traffic, self.worker).queued += change
        if self.lanes is not None and lane != NO_CLASS:
            klass = self.lanes.klass(lane)
            self.board.traffic(klass.traffic, self.worker).queued += change

    cdef int _announce(self) except -1:
        """Publish the order of this worker's first work."""
        cdef int64_t key = 0
        if self.slot >= 0:
            if self.count:
                self._front(&key)
            self.board.count(self.slot, self.worker).announced = self.poller.now
            self.board.count(self.slot, self.worker).waiting = key
        return 0

    cdef int64_t _first_elsewhere(self, int64_t now) noexcept:
        """The smallest order of the other workers' first work; 0: there is none."""
        cdef int64_t key, first = 0
        cdef int worker
        if self.slot < 0:
            return 0
        for worker in range(self.workers):
            key = self.board.count(self.slot, worker).waiting
            if worker != self.worker and key and now - self.board.count(self.slot, worker).announced < STUCK_NS:
                if first == 0 or key < first:
                    first = key
        return first

    def waiting(self):
        """The work that waits, first to last."""
        cdef int lane
        cdef Work work
        found = []
        for lane in range(MOST_LANES):
            work = self.first[lane]
            while work is not None:
                found.append(work)
                work = work.behind
        return found

    def adopt(self, WaitQueue before, moved):
        """Take over the queue of the previous snapshot; `moved` is called with each work and returns the lane in which
        it waits now; None: the same as before.
        """
        cdef int lane
        cdef int64_t came
        cdef Work work
        if before.called is not None:
            self.called = before.called     # it picks among the new servers
            before.called = None
            moved(self.called)
        for work in before.waiting():
            lane = work.place
            before._unlink(work)
            now_in = moved(work)
            if now_in is not None:
                lane = now_in
            came = work.since if before.last_rounds == NULL else work.entered
            work.since = self.order(work, lane, came, self.poller.now)
            self.enter(work, lane, False)
        before._announce()

    def _look_later(self):
        if self.timer is None:
            self.timer = self.poller.loop.call_later(LOOK_AGAIN, self._look)

    def _look(self):
        """Another worker may have made room."""
        cdef int64_t now
        self.timer = None
        if self.count:
            self._look_later()
            now = self.poller.clock()
            if self.overload is not None and self.overload.target != 0:
                self._shed_late(now)
            self._announce()            # ranks may have changed
            self.wake(now)


# ------------------------------------------------------------------------------------------------------------ for tests

cdef class Waiter(Work):
    """Work that only waits, for tests. turn: called with it at its turn. since: in ns."""
    cdef WaitQueue queue
    cdef object turn

    def __init__(self, WaitQueue queue, turn, int64_t since, *, uint64_t fair=0, bint kept=False):
        self.kept = kept
        self.queue = queue
        self.turn = turn
        self.since = self.entered = since
        self.fair = fair

    cdef int on_turn(self) except -1:
        self.turn(self)
        return 0

    def enter(self, int lane, *, bint ahead=False):
        if not ahead:
            self.since = self.queue.order(self, lane, self.since, self.queue.poller.time())
        self.queue.enter(self, lane, ahead)

    def make_room(self, int lane):
        """Whether a full queue has shed other work for this one."""
        self.since = self.queue.order(self, lane, self.since, self.queue.poller.time())
        return self.queue.make_room(self, lane)

    def leave(self):
        self.queue.leave(self)

    def turn_taken(self):
        self.queue.turn_taken(self)

    def moved(self, WaitQueue queue):
        """It waits in `queue` from now on."""
        self.queue = queue

    @property
    def shed(self):
        """Whether it has been shed."""
        return self.place == SHED

    @property
    def called(self):
        """Whether it has been called."""
        return self.queue.called is self


def busy(WaitQueue queue):
    """Whether new work must queue behind others; see WaitQueue.busy."""
    return queue.busy(queue.poller.time())


def wake(WaitQueue queue, *, int64_t later=0):
    """Tell the queue, `later` ns from now, that there may be room."""
    queue.wake(queue.poller.time() + later)


def shed_late(WaitQueue queue, *, int64_t later):
    """Let the queue shed the work that will have waited too long `later` ns from now."""
    queue._shed_late(queue.poller.time() + later)


def announced(WaitQueue queue, int64_t moment):
    """Assume that the queue's worker published its first work at that time, in ns, and nothing since."""
    queue.board.count(queue.slot, queue.worker).announced = moment
