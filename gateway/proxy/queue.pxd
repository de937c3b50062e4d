from libc.stdint cimport int64_t, uint64_t
from gateway.board cimport Board
from gateway.proxy.conn cimport Poller, Work
from gateway.proxy.lanes cimport MOST_LANES, Lanes
from gateway.proxy.overload cimport Overload

cdef enum:
    SHED = -2               # the place of shed work

cdef class WaitQueue:
    """Work that waits for room at the servers of a backend, in this worker."""
    cdef Poller poller
    cdef Board board
    cdef int slot                       # of the Board: where workers publish their first work; -1: none
    cdef int traffic                    # of the Board: the backend's row for the number of waiting requests; -1: none
    cdef int worker
    cdef int workers
    cdef readonly int limit             # 0: no waiting
    cdef readonly int64_t wait_ns       # how long work may wait
    cdef readonly int count
    cdef Work called                    # its turn has come, but it has not yet tried to pick
    cdef readonly Overload overload     # or None
    cdef readonly Lanes lanes           # their ranks; None: the lane with the smallest number goes first
    cdef list first                     # by lane, or None
    cdef list last
    cdef uint64_t used                  # a bit for each lane with work in it
    cdef int64_t[MOST_LANES] in_time    # by lane: see qos/delay.pxd
    cdef int64_t[MOST_LANES] rounds     # by lane: round of the work called last; see `order`
    cdef int64_t *last_rounds           # by lane and bucket: round of the newest work; NULL: no fairness
    cdef object timer

    cdef bint busy(self, int64_t now) noexcept
    cdef int enter(self, Work work, int lane, bint ahead) except -1
    cdef int leave(self, Work work) except -1
    cdef int turn_taken(self, Work work) except -1
    cdef int wake(self, int64_t now) except -1
    cdef int64_t order(self, Work work, int lane, int64_t came, int64_t now) noexcept
    cdef bint full(self) noexcept
    cdef bint make_room(self, Work work, int lane) except -1
    cdef int _shed(self, Work work) except -1
    cdef int _shed_late(self, int64_t now) except -1
    cdef int _rank(self, int lane) noexcept
    cdef void _count(self, int lane, int change) noexcept
    cdef int64_t *_last_round(self, Work work, int lane) noexcept
    cdef Work _next(self, int64_t now, int64_t *key)
    cdef int _link(self, Work work, int lane) noexcept
    cdef Work _front(self, int64_t *key)
    cdef int _unlink(self, Work work) except -1
    cdef int _announce(self) except -1
    cdef int64_t _first_elsewhere(self, int64_t now) noexcept
