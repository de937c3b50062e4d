"""The state of the site that rules can query, from the Board: loads, available servers, sessions, other sites."""

from random import random
from time import monotonic, monotonic_ns

from libc.stdint cimport int64_t

from gateway.board cimport Board
from gateway.proxy.backend cimport Backend
from gateway.rules.view cimport Resources

cdef int64_t COUNT_AGAIN = 1_000_000_000  # ns for which a count of sessions is reused: counting reads 4 KiB per server


cdef class Availability(Resources):
    cdef dict backends
    cdef Board board
    cdef int session_count
    cdef int64_t counted            # time of the count; 0: none yet

    def __init__(self, backends, Board board):
        self.backends = dict(backends)
        self.board = board

    cdef object load(self, str backend):
        return (<Backend>self.backends[backend]).members.load()

    cdef int up(self, str backend) except -1:
        return (<Backend>self.backends[backend]).members.up()

    cdef int sessions(self) except -1:
        cdef Backend backend
        cdef int64_t now = monotonic_ns()
        if self.counted == 0 or now - self.counted > COUNT_AGAIN:
            self.counted = now
            self.session_count = 0
            for backend in self.backends.values():
                if backend.affinity is not None:
                    self.session_count += backend.members.sessions(now)
        return self.session_count

    cdef object site_load(self, str site):
        return self.board.site_load(site, monotonic())

    cdef double site_spill(self, str site) except -1:
        return self.board.site_spill(site, monotonic())

    cdef double draw(self) except -1:
        return random()

    def facts(self):
        """(load() by backend, up() by backend); for explain."""
        return {name: self.load(name) for name in self.backends}, {name: self.up(name) for name in self.backends}
