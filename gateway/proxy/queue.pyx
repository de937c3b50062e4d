"""Waiting: for room at a server now; for a class's turn or a session's place by the same means.

Work waits at a level; within a level who came first is first. Room that comes free calls the first one (`on_turn`),
which looks for a server again and, if other work was quicker, goes back to the head of its level. Work in other
workers waits in their queues: each tells on the Board since when its first one waits, and the longest wait is served
first over all workers. A worker is not told of room that another one made, so one with a queue looks every 2 ms.
"""

LOOK_AGAIN = 0.002          # seconds

cdef int64_t STUCK_NS = 1_000_000_000   # a wait that should have ended so long ago is of a worker that is stuck


cdef class WaitQueue:
    """limit: how many may wait in this worker (0: none). seconds: how long. slot: of the backend's first server, or -1.

    workers: how many workers' cells of the Board to look at.
    """

    def __init__(self, Poller poller, Board board, int slot, int worker, int workers, int limit, double seconds):
        self.poller = poller
        self.board = board
        self.slot = slot
        self.worker = worker
        self.workers = workers
        self.limit = limit
        self.wait_ns = max(1_000_000, <int64_t>(seconds * 1e9))
        self.first = [None] * LEVELS
        self.last = [None] * LEVELS

    def __repr__(self):
        return f"<WaitQueue {self.count} of {self.limit}>"

    cdef bint busy(self, int64_t now) noexcept:
        """Whether work waits already, here or in another worker: then new work waits behind it."""
        return self.count != 0 or self.called is not None or (self.limit != 0 and self._first_elsewhere(now) != 0)

    cdef int enter(self, Work work, int level, bint ahead) except -1:
        """Wait at a level, at its end or `ahead` of the others there."""
        cdef Work neighbour
        work.place = level
        if ahead:
            neighbour = self.first[level]
            work.behind = neighbour
            if neighbour is None:
                self.last[level] = work
            else:
                neighbour.before = work
            self.first[level] = work
        else:
            neighbour = self.last[level]
            work.before = neighbour
            if neighbour is None:
                self.first[level] = work
            else:
                neighbour.behind = work
            self.last[level] = work
        self.used |= 1u << level
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
        """There may be room: it is the turn of the first, unless other workers have longer waits."""
        cdef int64_t elsewhere
        cdef Work work
        if self.count == 0 or self.called is not None:
            return 0
        work = self._front()
        elsewhere = self._first_elsewhere(now)
        if elsewhere and elsewhere < work.since:
            return 0                    # they look again within milliseconds
        self._unlink(work)
        self._announce()
        self.called = work
        return self.poller.turn_of(work)

    cdef Work _front(self):
        cdef int level = 0
        while not self.used >> level & 1:
            level += 1
        return self.first[level]

    cdef int _unlink(self, Work work) except -1:
        cdef int level = work.place
        if work.before is None:
            self.first[level] = work.behind
        else:
            work.before.behind = work.behind
        if work.behind is None:
            self.last[level] = work.before
        else:
            work.behind.before = work.before
        work.before = work.behind = None
        work.place = -1
        self.count -= 1
        if self.first[level] is None:
            self.used &= ~(1u << level)
        return 0

    cdef int _announce(self) except -1:
        """Tell the other workers since when work waits here."""
        if self.slot >= 0:
            self.board.count(self.slot, self.worker).waiting_since = self._front().since if self.count else 0
        return 0

    cdef int64_t _first_elsewhere(self, int64_t now) noexcept:
        """Since when the longest waiting work of another worker waits; 0: there is none."""
        cdef int64_t since, first = 0
        cdef int worker
        if self.slot < 0:
            return 0
        for worker in range(self.workers):
            since = self.board.count(self.slot, worker).waiting_since
            if worker != self.worker and since and now - since < self.wait_ns + STUCK_NS:
                if first == 0 or since < first:
                    first = since
        return first

    def waiting(self):
        """The work that waits, first to last."""
        cdef int level
        cdef Work work
        found = []
        for level in range(LEVELS):
            work = self.first[level]
            while work is not None:
                found.append(work)
                work = work.behind
        return found

    def adopt(self, WaitQueue before, moved):
        """Take over from the queue of the snapshot before; `moved` is called with each piece of work."""
        cdef int level
        cdef Work work
        if before.called is not None:
            self.called = before.called     # it looks for room at the new servers
            before.called = None
            moved(self.called)
        for work in before.waiting():
            level = work.place
            before._unlink(work)
            moved(work)
            self.enter(work, level, False)
        before._announce()

    def _look_later(self):
        if self.timer is None:
            self.timer = self.poller.loop.call_later(LOOK_AGAIN, self._look)

    def _look(self):
        """Another worker may have made room."""
        self.timer = None
        if self.count:
            self._look_later()
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

    def enter(self, int level, *, bint ahead=False):
        self.queue.enter(self, level, ahead)

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
