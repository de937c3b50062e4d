from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from qos.tickets cimport Ticket

# What becomes of a request that needs a session.
cdef enum Admitted:
    A_LIVE = 0              # it is of a session
    A_RENEWED               # the same, and its ticket is to be replaced by that of the answer
    A_ADOPTED               # the same, of a session that another gateway, or the same before its restart, had admitted
    A_NEW                   # it begins a session; the answer has its ticket
    A_WAITS                 # it has a place in the queue; the answer has its ticket
    A_EARLY                 # it came before the opening; the answer has its ticket
    A_ASSET                 # it has no ticket and must not get one: it goes if `room`
    A_FULL                  # neither a session nor a place is free

# What sessions may have, by a site file.
cdef struct Terms:
    uint64_t max            # sessions
    uint32_t idle           # seconds that a session lives after its last request
    uint64_t places         # in the queue; 0: no queue
    uint32_t refresh        # seconds between two requests of a client that waits
    int64_t opens           # seconds since 1970; 0: at once

# More about it.
cdef struct Answer:
    Ticket ticket
    bint changed            # the ticket is to be sent
    bint room               # of A_ASSET
    uint64_t place          # of A_WAITS: how many go first

cdef class SessionTable:
    """Sessions and the queue for them, shared by every process that maps the same memory."""
    cdef object memory
    cdef uint64_t *head
    cdef uint32_t *prefix
    cdef uint64_t *slots
    cdef uint64_t *ring
    cdef uint64_t slot_count
    cdef uint64_t ring_count
    cdef uint32_t own       # tells tickets of this table from others
    cdef uint64_t[2] secret

    cdef int live(self, const Terms *terms, const Ticket *ticket, int64_t now, int64_t wall,
                  Answer *answer) noexcept nogil
    cdef int admit(self, const Terms *terms, const Ticket *ticket, bint asset, int64_t now, int64_t wall,
                   Answer *answer) noexcept nogil
    cdef uint64_t waiting(self) noexcept nogil
    cdef double advance_rate(self) noexcept nogil
    cdef bint to_measure(self, int64_t now) noexcept nogil
    cdef void measure(self, double use) noexcept nogil
    cdef uint64_t measured(self) noexcept nogil

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
    cdef void _count_sessions(self, const Terms *terms, uint32_t second) noexcept nogil
    cdef void _count_queue(self, const Terms *terms, uint32_t second) noexcept nogil
    cdef void _measure(self, int64_t now) noexcept nogil
    cdef uint64_t _lap(self, uint64_t n) noexcept nogil
    cdef uint64_t _span(self, const Terms *terms) noexcept nogil
    cdef void _reach(self, uint64_t slot) noexcept nogil
    cdef bint _present(self, uint64_t n, const Terms *terms, uint32_t second) noexcept nogil
    cdef int _arrive(self, Answer *answer) noexcept nogil
