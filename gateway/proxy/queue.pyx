"""Waiting: for room at a server now; for a class's turn or a session's place by the same means.

Work waits in a lane; within a lane who came first is first. Room that comes free calls the first one (`on_turn`), which
looks for a server again and, if other work was quicker, goes back to the head of its lane. Lanes have a rank, which may
change while work waits, and may be closed for now. Work in other workers waits in their queues: each tells on the Board
the rank of its first one and since when it waits; over all workers the least rank is served first, in it the longest
wait. A worker is not told of room that another one made, so one with a queue looks every 2 ms.
"""

from gateway.proxy.lanes cimport MOST_LANES
from qos.turns cimport RANKS

cdef enum:
    SINCE_BITS = 57         # of a moment in ns: four years

cdef extern from * nogil:
    int __builtin_ctzll(unsigned long long number)

LOOK_AGAIN = 0.002          # seconds

cdef int64_t SINCE = (<int64_t>1 << SINCE_BITS) - 1
cdef int64_t STUCK_NS = 1_000_000_000   # a wait that should have ended so long ago is of a worker that is stuck


cdef class WaitQueue:
    """limit: how many may wait in this worker (0: none). seconds: how long. slot: of the backend's first server, or -1.

    workers: how many workers' cells of the Board to look at. lanes: None, or what ranks the lanes.
    """

    def __init__(self, Poller poller, Board board, int slot, int worker, int workers, int limit, double seconds,
                 Lanes lanes=None):
        self.poller = poller
        self.board = board
        self.slot = slot
        self.worker = worker
        self.workers = workers
        self.limit = limit
        self.lanes = lanes
        self.wait_ns = max(1_000_000, <int64_t>(seconds * 1e9))
        self.first = [None] * MOST_LANES
        self.last = [None] * MOST_LANES

    def __repr__(self):
        return f"<WaitQueue {self.count} of {self.limit}>"

    cdef bint busy(self, int64_t now) noexcept:
        """Whether work waits already, here or in another worker: then new work waits behind it."""
        cdef int64_t key
        return (self.called is not None or (self.count != 0 and self._front(&key) is not None)
                or (self.limit != 0 and self._first_elsewhere(now) != 0))

    cdef int enter(self, Work work, int lane, bint ahead) except -1:
        """Wait in a lane, at its end or `ahead` of the others there."""
        cdef Work neighbour
        work.place = lane
        if ahead:
            neighbour = self.first[lane]
            work.behind = neighbour
            if neighbour is None:
                self.last[lane] = work
            else:
                neighbour.before = work
            self.first[lane] = work
        else:
            neighbour = self.last[lane]
            work.before = neighbour
            if neighbour is None:
                self.first[lane] = work
            else:
                neighbour.behind = work
            self.last[lane] = work
        self.used |= <uint64_t>1 << lane
        self.count += 1
        self._announce()
        self._look_later()
        return 0

    cdef int leave(self, Work work) except -1:
        """Wait no longer: the client has left, or the time is over. Does nothing for work that does not wait here."""
        if work.place >= 0:
            self._unlink(work)
            return self._announce()
        return self.turn_taken(work)

    cdef int turn_taken(self, Work work) except -1:
        """The work whose turn it was has looked for room, or has no need of it any more: others may be called."""
        if self.called is work:
            self.called = None
        return 0

    cdef int wake(self, int64_t now) except -1:
        """There may be room: it is the turn of the first, unless work in other workers comes before it."""
        cdef int64_t elsewhere, key
        cdef Work work
        if self.count == 0 or self.called is not None:
            return 0
        work = self._front(&key)
        if work is None:
            return 0                    # no lane is open
        elsewhere = self._first_elsewhere(now)
        if elsewhere and elsewhere < key:
            return 0                    # they look again within milliseconds
        self._unlink(work)
        self._announce()
        self.called = work
        return self.poller.turn_of(work)

    cdef Work _front(self, int64_t *key):
        """The work that goes first, or None: no lane that has some is open. key: its order, the least first."""
        cdef int lane, rank, best = RANKS
        cdef Work work, front = None
        cdef uint64_t left = self.used
        while left:
            lane = __builtin_ctzll(left)
            left &= left - 1
            rank = lane if self.lanes is None else self.lanes.rank(lane)
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
        self.count -= 1
        if self.first[lane] is None:
            self.used &= ~(<uint64_t>1 << lane)
        return 0

    cdef int _announce(self) except -1:
        """Tell the other workers which work here goes first."""
        cdef int64_t key = 0
        if self.slot >= 0:
            if self.count:
                self._front(&key)
            self.board.count(self.slot, self.worker).waiting = key
        return 0

    cdef int64_t _first_elsewhere(self, int64_t now) noexcept:
        """What the work of other workers that goes first compares by; 0: there is none."""
        cdef int64_t key, first = 0
        cdef int worker
        if self.slot < 0:
            return 0
        for worker in range(self.workers):
            key = self.board.count(self.slot, worker).waiting
            if worker != self.worker and key and now - (key & SINCE) < self.wait_ns + STUCK_NS:
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
        """Take over from the queue of the snapshot before; `moved` is called with each piece of work, and
        says in which lane it waits now; None: in the one of before.
        """
        cdef int lane
        cdef Work work
        if before.called is not None:
            self.called = before.called     # it looks for room at the new servers
            before.called = None
            moved(self.called)
        for work in before.waiting():
            lane = work.place
            before._unlink(work)
            now_in = moved(work)
            self.enter(work, lane if now_in is None else now_in, False)
        before._announce()

    def _look_later(self):
        if self.timer is None:
            self.timer = self.poller.loop.call_later(LOOK_AGAIN, self._look)

    def _look(self):
        """Another worker may have made room."""
        self.timer = None
        if self.count:
            self._look_later()
            self._announce()            # ranks may have changed
            self.wake(self.poller.clock())


# ------------------------------------------------------------------------------------------------------------ for tests

cdef class Waiter(Work):
    """Work that does nothing but wait, for a test. turn: called with it when it is its turn. since: in ns."""
    cdef WaitQueue queue
    cdef object turn

    def __init__(self, WaitQueue queue, turn, int64_t since):
        self.queue = queue
        self.turn = turn
        self.since = since

    cdef int on_turn(self) except -1:
        self.turn(self)
        return 0

    def enter(self, int lane, *, bint ahead=False):
        self.queue.enter(self, lane, ahead)

    def leave(self):
        self.queue.leave(self)

    def turn_taken(self):
        self.queue.turn_taken(self)

    def moved(self, WaitQueue queue):
        """It waits in that queue from now on."""
        self.queue = queue

    @property
    def called(self):
        """Whether it is its turn."""
        return self.queue.called is self


def busy(WaitQueue queue):
    """Whether new work waits behind others; see WaitQueue.busy."""
    return queue.busy(queue.poller.time())


def wake(WaitQueue queue):
    """Tell the queue that there may be room."""
    queue.wake(queue.poller.time())
