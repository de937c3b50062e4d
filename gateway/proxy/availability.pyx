"""What rules may ask about backends: load and servers that are up, from the Board."""

from gateway.balance.policy cimport Members
from gateway.board cimport ADMIN_READY, EJECTED, STATE_DOWN, ServerRow
from gateway.proxy.upstream cimport Backend
from gateway.rules.view cimport Resources


cdef class Availability(Resources):
    cdef dict backends

    def __init__(self, backends):
        self.backends = dict(backends)

    cdef object load(self, str backend):
        """The mean over the servers that can take requests, by weight: what each has reported lately, or else its
        requests in flight as a share of max_connections; servers with neither have no say. Full if there is none."""
        cdef Members members = (<Backend>self.backends[backend]).members
        cdef ServerRow *row
        cdef double total = 0, weights = 0, load
        cdef int i, usable = 0
        for i in range(members.count):
            row = members.board.server(members.member[i].slot)
            if not _usable(row):
                continue
            usable += 1
            if row.reported:
                load = row.reported - 1
            elif members.member[i].max_connections:
                load = members.in_flight(i) / <double>members.member[i].max_connections
            else:
                continue
            total += load * members.member[i].weight
            weights += members.member[i].weight
        if not usable:
            return 1.0
        return total / weights if weights else None

    cdef int up(self, str backend) except -1:
        """How many servers are not down, ejected, draining or in maintenance."""
        cdef Members members = (<Backend>self.backends[backend]).members
        cdef ServerRow *row
        cdef int i, count = 0
        for i in range(members.count):
            row = members.board.server(members.member[i].slot)
            count += _usable(row)
        return count

    def loads(self):
        """load() of every backend; for explaining."""
        return {name: self.load(name) for name in self.backends}

    def ups(self):
        """up() of every backend; for explaining."""
        return {name: self.up(name) for name in self.backends}


cdef bint _usable(ServerRow *row) noexcept nogil:
    return row.state != STATE_DOWN and row.admin == ADMIN_READY and row.ejected != EJECTED
