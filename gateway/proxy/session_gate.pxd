from libc.stdint cimport int64_t, uint32_t
from gateway.rules.actions cimport Step
from gateway.rules.view cimport View
from qos.sessions cimport Answer, SessionTable, Terms
from qos.tickets cimport Ticket, Tickets

# The result of `qos: sessions:` for a request.
cdef enum Gate:
    G_GO = 0                # to a server; `line` is for its response
    G_REDIRECT              # to the same address with its ticket
    G_WAIT                  # the waiting page
    G_ASSET                 # 503 without a page
    G_FULL

cdef class SessionGate:
    """Admits a limited number of sessions, in one worker and snapshot."""
    cdef readonly SessionTable table
    cdef Tickets tickets
    cdef Terms terms
    cdef bytes name                     # of the cookie or parameter
    cdef bint by_url
    cdef tuple rooms                    # a ServerRoom for each backend; None: the number is fixed
    cdef object page                    # waiting_page.WaitingPage
    cdef int full_status
    cdef tuple full                     # header lines, page
    cdef Step elsewhere                 # redirects to another site with room, or None
    cdef bytes retry                    # header lines
    cdef public tuple assumed           # of a test: ticket, sessions, clients that wait, place
    # Results for the last request:
    cdef int what                       # of qos/sessions.pxd
    cdef Answer answer
    cdef bytes line                     # a Set-Cookie line, or None
    cdef bytes text                     # of its new ticket, or None

    cdef int ask(self, View v, const char *target, uint32_t n, int64_t now) except -1
    cdef tuple reply(self, int gate, View v, const char *target, uint32_t n, str klass)
    cdef int find(self, View v, const char *target, uint32_t n, Ticket *ticket) except -1
    cdef int foresee(self, View v) except -1
    cdef int settle(self, View v) except -1
    cdef int _measure(self, int64_t now) except -1
    cdef object estimate(self)
    cdef bytes _header(self, View v, bytes name)
    cdef bint _is_asset(self, View v) except -1
    cdef bytes _address(self, const char *target, uint32_t n)
