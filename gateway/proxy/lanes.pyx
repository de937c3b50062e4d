"""Classes of requests in the queue of a backend. Each has a lane; qos/turns.pxd says which lane goes first."""

from gateway.board cimport ADMIN_READY, STATE_DOWN, ServerRow
from qos.turns cimport PRIORITIES, rank_of

cdef enum:
    PRIORITY = 7            # of work without a class, as config.qos has it

cdef double WITHOUT_END = 1e18


cdef class Lanes:
    """workers: how many workers' cells of the Board to sum.

    classes: in the order of the site file, each with its share of the backend's capacity (0: none) and the row of the
    Board that counts its requests at this backend (-1: they are not counted).
    """

    def __init__(self, Board board, Members members, int worker, int workers, classes, Overload overload=None):
        cdef int lane
        self.board = board
        self.members = members
        self.overload = overload
        self.worker = worker
        self.workers = workers
        self.classes = [klass for klass, _, _ in classes]
        self.lane_by_name = {klass.name: lane for lane, klass in enumerate(self.classes)}
        for lane in range(MOST_LANES):
            self.rows[lane] = -1
            self.shares[lane] = 0
        for lane, (_, share, row) in enumerate(classes):
            self.shares[lane] = share
            self.rows[lane] = row

    cdef int rank(self, int lane) noexcept:
        """Rank of the lane's first work, below qos.turns.RANKS; the smallest goes first. -1: the lane is closed now."""
        cdef QosClass klass
        cdef int64_t in_flight = 0
        cdef int i
        if lane == NO_CLASS:
            return PRIORITIES + PRIORITY
        klass = <QosClass>self.classes[lane]
        if klass.full() and not klass.dry_run:
            return -1
        if self.rows[lane] < 0:
            return PRIORITIES + klass.priority
        for i in range(self.workers):
            in_flight += self.board.traffic(self.rows[lane], i).open
        return rank_of(klass.priority, in_flight, self._places(lane))

    cdef double _places(self, int lane) noexcept:
        """The number of requests at the backend that the class's share entitles it to."""
        cdef Members members = self.members
        cdef ServerRow *row
        cdef double room = 0, most = self.overload.places() if self.overload is not None else 0
        cdef int i
        if most == 0:
            most = WITHOUT_END
        for i in range(members.count):
            row = self.board.server(members.member[i].slot)
            if row.state == STATE_DOWN or row.admin != ADMIN_READY:
                continue
            if members.limit(i) == 0:
                room = WITHOUT_END
                break
            room += members.limit(i)
        return self.shares[lane] * min(room, most)

    cdef int lane_of(self, str name) except -1:
        """The lane of a class by its name, or None."""
        return self.lane_by_name.get(name, NO_CLASS)

    cdef QosClass klass(self, int lane):
        """The class of a lane, or None."""
        return <QosClass>self.classes[lane] if lane != NO_CLASS else None

    cdef void count(self, int lane, int change) noexcept:
        """A request of the class goes to a server of the backend (1), or is done there (-1)."""
        if self.rows[lane] >= 0:
            self.board.traffic(self.rows[lane], self.worker).open += change

    # For tests.

    def rank_now(self, int lane):
        """The same as `rank`."""
        return self.rank(lane)

    def counted(self, int lane, int change):
        """The same as `count`."""
        self.count(lane, change)

    def entered(self, int lane, int change):
        """A request of the class goes to a server (1), or is done (-1), at any backend."""
        cdef QosClass klass = self.klass(lane)
        if change > 0:
            klass.enter()
        else:
            klass.leave()
