from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from qos.headroom cimport Busy, Headroom, Sessions
from qos.tickets cimport Ticket

# The result for a request that needs a session.
cdef enum Admitted:
    A_LIVE = 0              # it belongs to a session
    A_RENEWED               # the same, and the response replaces its ticket
    A_ADOPTED               # the same, for a session that another gateway, or this one before a restart, had admitted
    A_NEW                   # it begins a session; the response has its ticket
    A_WAITS                 # it has a place in the queue; the response has its ticket
    A_EARLY                 # it came before the opening; the response has its ticket
    A_ASSET                 # it has no ticket and must not get one: it is admitted if `room`
    A_FULL                  # neither a session nor a place is free

# The limits of sessions, from the site file.
cdef struct Terms:
    uint64_t max            # sessions
    uint32_t idle           # seconds until a session ends after its last request
    uint64_t places         # in the queue; 0: no queue
    uint32_t refresh        # seconds between two requests of a client that waits
    int64_t opens           # seconds since 1970; 0: at once
    bint measured           # `max` is that of the last measurement, and the servers must have room besides

# Details of the result.
cdef struct Answer:
    Ticket ticket
    bint changed            # the response must send the ticket
    bint room               # of A_ASSET
    uint64_t place          # of A_WAITS: number of clients before this one

cdef class SessionTable:
    """Sessions and the queue for them, shared by every process that maps the same memory."""
    cdef object memory
    cdef uint64_t *head
    cdef uint32_t *prefix
    cdef uint64_t *slots
    cdef uint64_t *ring
    cdef Headroom *headroom
    cdef uint64_t slot_count
    cdef uint64_t ring_count
    cdef uint32_t own       # distinguishes tickets of this table from others
    cdef uint64_t[2] secret

    cdef int live(self, const Terms *terms, const Ticket *ticket, int64_t now, int64_t wall,
                  Answer *answer) noexcept nogil
    cdef int admit(self, const Terms *terms, const Ticket *ticket, bint asset, int64_t now, int64_t wall,
                   Answer *answer) noexcept nogil
    cdef uint64_t waiting(self) noexcept nogil
    cdef double advance_rate(self) noexcept nogil
    cdef bint to_measure(self, int64_t now) noexcept nogil
    cdef void measure(self, const Terms *terms, const Busy *busy, int64_t now) noexcept nogil
    cdef uint64_t measured(self) noexcept nogil
    cdef bint _servers_have_room(self, const Terms *terms) noexcept nogil

    cdef bint _due(self, int word, int64_t now, int64_t every) noexcept nogil
    cdef bint _session(self, const Terms *terms, const Ticket *ticket, uint32_t second, int64_t wall,
                       Answer *answer, int *what) noexcept nogil
    cdef bint _touch(self, const Terms *terms, uint64_t slot, uint32_t id, uint32_t second,
                     bint *first) noexcept nogil
    cdef int64_t _adopt(self, const Terms *terms, uint32_t id, uint32_t second) noexcept nogil
    cdef int64_t _free_slot(self, const Terms *terms, uint64_t word, uint32_t second) noexcept nogil
    cdef int64_t _enter(self, const Terms *terms, uint64_t place, uint32_t second, uint32_t *id) noexcept nogil
    cdef bint _queued(self, const Terms *terms, uint64_t n, uint32_t second, int64_t wall, Answer *answer,
                      int *what) noexcept nogil
    cdef uint64_t _place(self, uint64_t n, const Terms *terms, uint32_t second) noexcept nogil
    cdef int _opening(self, const Terms *terms, int64_t now, int64_t wall) noexcept nogil
    cdef int _open(self, const Terms *terms, uint64_t state, int64_t now) noexcept nogil
    cdef int64_t _draw(self, uint64_t number) noexcept nogil
    cdef void _census(self, const Terms *terms, int64_t now) noexcept nogil
    cdef void _count_sessions(self, const Terms *terms, uint32_t second, int64_t now) noexcept nogil
    cdef void _count_queue(self, const Terms *terms, uint32_t second) noexcept nogil
    cdef void _measure(self, int64_t now) noexcept nogil
    cdef uint64_t _lap(self, uint64_t n) noexcept nogil
    cdef uint64_t _span(self, const Terms *terms) noexcept nogil
    cdef void _reach(self, uint64_t slot) noexcept nogil
    cdef bint _present(self, uint64_t n, const Terms *terms, uint32_t second) noexcept nogil
    cdef int _arrive(self, Answer *answer) noexcept nogil
