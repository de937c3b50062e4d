"""The room that a backend's servers have, from the Board; qos/headroom.pyx says for how many sessions."""

from gateway.balance.policy cimport Members, in_rotation
from gateway.board cimport CountRow, ServerRow
from gateway.proxy.queue cimport WaitQueue

cdef double WEIGHT = 50.0               # requests: weight of the previous average against those of one measurement
cdef double TARGET = 0.02               # seconds that requests may wait where `target_delay` does not say it


cdef class ServerRoom:

    def __init__(self, Backend backend):
        self.backend = backend

    cdef int measure(self, Busy *busy) except -1:
        """Measure now; busy.places is 0 if there is no limit, or no server in service."""
        cdef Members members = self.backend.members
        cdef WaitQueue queue = self.backend.queue
        cdef ServerRow *row
        cdef bint limited = True, primary = False
        cdef int i, worker
        self._learn_seconds()
        busy.places = busy.at_servers = busy.waiting = 0
        busy.seconds = self.seconds
        busy.target = TARGET if queue.overload is None or queue.overload.target == 0 else queue.overload.target * 1e-9
        for i in range(members.count):
            row = members.board.server(members.member[i].slot)
            if not in_rotation(row):
                continue
            if members.member[i].tier == 0 and not primary:
                primary = True              # backup servers get no requests: count from the first primary on
                busy.places = busy.at_servers = 0
                limited = True
            if members.member[i].tier == 0 or not primary:
                limited = limited and members.limit(i) > 0
                busy.places += members.limit(i)
                busy.at_servers += members.in_flight(i)
        if queue.overload is not None and busy.places + busy.at_servers > 0 and queue.overload.places() > 0:
            busy.places = min(busy.places, queue.overload.places()) if limited else queue.overload.places()
        elif not limited:
            busy.places = 0
        for worker in range(queue.workers):
            busy.waiting += queue.board.traffic(queue.traffic, worker).queued if queue.traffic >= 0 else 0
        return 0

    cdef int _learn_seconds(self) except -1:
        cdef Members members = self.backend.members
        cdef CountRow *row
        cdef uint64_t requests = 0
        cdef double seconds = 0, n, mean
        cdef int i, worker
        for i in range(members.count):
            for worker in range(members.workers):
                row = members.board.count(members.member[i].slot, worker)
                requests += row.requests
                seconds += row.busy_seconds
        if self.requests and requests > self.requests and seconds >= self.busy_seconds:
            n = <double>(requests - self.requests)
            mean = (seconds - self.busy_seconds) / n
            self.seconds += (n / (n + WEIGHT) if self.seconds > 0 else 1.0) * (mean - self.seconds)
        self.requests = requests
        self.busy_seconds = seconds
        return 0
