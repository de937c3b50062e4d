"""Tries servers: picks one, reuses or opens a connection, counts requests in flight, times the response, moves on.

    pick ─► go ─► (connection) ─► answered ─► release
      ▲      │                        │
      └──────┴──── give_up ◄──────────┘       the server failed the work: it is not tried again for it

Counts on the Board are correct by construction: `go` increments, `release` (which `give_up` includes) decrements, and
both do nothing when called a second time.
"""

from gateway.balance.estimate cimport answer, begin as _begin, give_up as _give_up
from gateway.balance.policy cimport MAX_TRIED
from gateway.board cimport MAX_WORKERS
from gateway.proxy.conn cimport Conn, Handler
from gateway.proxy.server cimport S_CONNECTING


cdef class Attempt:
    def __repr__(self):
        where = f"{self.backend.name}/{self.server.name}" if self.server is not None else "no server"
        return f"<Attempt {self.tries} at {where}>"

    cdef void reset(self) noexcept:
        self.backend = None
        self.server = None
        self.connecting = None
        self.belongs = self.bound = -1
        self.args.tried.count = 0
        self.args.key = 0
        self.tries = 0
        self.picked = self.asked = 0
        self.turned = False
        self.counted = self.timed = False
        self.cause = -1

    cdef int begin(self, Backend backend) except -1:
        self.backend = backend
        backend.retries.earn()
        return 0

    cdef int move(self, Backend backend) except -1:
        """The snapshot has changed before a server was picked: use the new backend."""
        self.belongs = backend.counterpart(self.backend, self.belongs)
        self.bound = backend.counterpart(self.backend, self.bound)
        self.backend = backend
        self.args.tried.count = 0
        return 0

    cdef int pick(self, int64_t now) except -2:
        """The index of the next server to try, or -1: none can take the work now."""
        self.args.now = now
        return self.backend.pick(&self.args, self.belongs if self.bound < 0 else self.bound)

    cdef ServerConn go(self, int i, bint fresh, ServerConn own, Poller poller, Work work):
        """Go to server i. `fresh`: not over an idle connection. own: the client's private connection, or None; it is
        used if it leads to that server.

        The connection is S_BUSY, or S_CONNECTING, and then notifies `work`; None if it failed at once: see
        server.error.
        """
        cdef ServerConn conn = None
        self.server = <Server>self.backend.servers[i]
        self.chosen = i
        self.picked = self.asked = poller.now
        self.tries += 1
        if self.cause >= 0:
            self.server.board.traffic(self.backend.traffic, self.server.worker).causes[self.cause] += 1
            self.cause = -1
        self._count()
        if not fresh:
            conn = own if own is not None and own.server is self.server and own.take() else self.server.borrow(work)
        if conn is None:
            conn = self.server.connect(poller, work)
            self.connecting = conn
        return conn

    cdef bint turn(self, int error, int64_t now) except -1:
        """The connection could not be made: whether to try the same server again at its other address."""
        if self.turned or not self.server.turn(error):
            self.turned = False
            return False
        self.turned = True
        self.release(now)
        self.tries -= 1
        return True

    cdef int _count(self) except -1:
        cdef Server server = self.server
        self.ahead = server.board.total_in_flight(server.slot, self.backend.members.workers)
        server.board.in_flight_cells[server.slot * MAX_WORKERS + server.worker] += 1
        _begin(server.board.timing(server.slot, server.worker), self.picked)
        self.counted = self.timed = True
        if self.backend.overload is not None:
            self.backend.overload.enter()
        return 0

    cdef int answered(self, bint failed, int64_t now) except -1:
        """The server has begun to respond, or has failed: record the time that it took."""
        cdef Server server = self.server
        if self.timed:
            self.timed = False
            answer(server.board.timing(server.slot, server.worker), now, self.picked, self.ahead, failed)
            if self.backend.overload is not None:
                self.backend.overload.answered(now - self.asked, failed)
        return 0

    cdef int count_failure(self) except -1:
        """The server failed the work."""
        self.server.board.count(self.server.slot, self.server.worker).failures += 1
        return 0

    cdef int give_up(self, int64_t now) except -1:
        """The chosen server failed the work: do not try it again for this work."""
        self.release(now)
        if self.args.tried.count == MAX_TRIED:
            self.args.tried.count -= 1      # the oldest entry is overwritten
        self.args.tried.index[self.args.tried.count] = self.chosen
        self.args.tried.count += 1
        return 0

    cdef int stay(self) except -1:
        """No other server can take the work: keep this server, and do not time it a second time."""
        self.args.tried.count -= 1
        self.server.board.in_flight_cells[self.server.slot * MAX_WORKERS + self.server.worker] += 1
        self.counted = True
        if self.backend.overload is not None:
            self.backend.overload.enter()
        return 0

    cdef int release(self, int64_t now) except -1:
        """The work is no longer in flight: the queue may have room for the next."""
        cdef Server server = self.server
        cdef ServerConn conn = self.connecting
        if conn is not None:
            self.connecting = None
            conn.close()
        if self.counted:
            self.counted = False
            if self.timed:
                self.timed = False
                _give_up(server.board.timing(server.slot, server.worker), now, self.picked, self.ahead)
            server.board.in_flight_cells[server.slot * MAX_WORKERS + server.worker] -= 1
            if self.backend.overload is not None:
                self.backend.overload.leave()
            if self.backend.queue.count:
                self.backend.queue.wake(now)
        return 0


# ------------------------------------------------------------------------------------------------------------ for tests

cdef class _Silent(Handler):
    cdef int on_input(self, Conn conn) except -1:
        return 0


cdef class Task(Work):
    """Work that does the steps of an Attempt one at a time, for tests. heard: the events of its connections."""
    cdef readonly Attempt attempt
    cdef readonly list heard
    cdef ServerConn conn

    def __init__(self, Poller poller, Backend backend):
        self.take_slot(poller)
        self.heard = []
        self.attempt = Attempt()
        self.attempt.reset()
        self.attempt.begin(backend)

    cdef int on_connected(self, Conn conn) except -1:
        self.attempt.connecting = None
        conn.handler = _Silent()
        self.conn = <ServerConn>conn
        self.heard.append("connected")
        return 0

    cdef int on_connect_failed(self, Conn conn, int error) except -1:
        self.attempt.connecting = None
        self.heard.append(error)
        return 0

    def pick(self):
        """The index of the next server, or -1."""
        return self.attempt.pick(self.poller.time())

    def go(self, int i, *, bint fresh=False):
        """Go to server i; True: over an existing connection. None: it failed at once."""
        cdef ServerConn conn = self.attempt.go(i, fresh, None, self.poller, self)
        if conn is None:
            return None
        if conn.state == S_CONNECTING:
            return False
        self.conn = conn
        return True

    def answered(self, *, bint failed=False):
        self.attempt.answered(failed, self.poller.time())

    def give_up(self):
        self.attempt.give_up(self.poller.time())

    def release(self):
        self.attempt.release(self.poller.time())

    def rest(self):
        """Give the connection back to the pool, for an hour."""
        self.conn.rest(3600000)

    @property
    def tries(self):
        return self.attempt.tries

    @property
    def connecting(self):
        """Whether a connection is being opened."""
        return self.attempt.connecting is not None
