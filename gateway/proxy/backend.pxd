from libc.stdint cimport int64_t, uint32_t, uint64_t
from gateway.balance.affinity cimport Affinity
from gateway.balance.policy cimport Members, PickArgs, Policy
from gateway.proxy.overload cimport Overload
from gateway.proxy.queue cimport WaitQueue
from gateway.proxy.retry cimport Retries
from gateway.proxy.server cimport Server
from gateway.rules.view cimport View
from gateway.wire.head cimport Head

cdef class ServerProtocol

cdef class Backend:
    """A backend of one snapshot: its servers, its policy, its timeouts."""
    cdef readonly str name
    cdef bytes log_name
    cdef int traffic                    # its row of the Board
    cdef readonly list servers
    cdef readonly Members members
    cdef Policy policy
    cdef readonly Retries retries
    cdef readonly WaitQueue queue
    cdef Overload overload              # that of the queue, or None
    cdef Affinity affinity              # or None
    cdef ServerProtocol protocol        # protocol of its servers
    cdef int64_t connect_ms
    cdef int64_t response_ms
    cdef int64_t idle_ms
    cdef int64_t tunnel_ms
    cdef int proxy_version              # of the PROXY header that begins connections to its servers; 0: none does
    cdef bint orca                      # servers report their load in responses
    cdef readonly object settings       # what a route has of its own for it, hashable; None: it is the backend itself
    cdef dict varieties                 # by their settings: the same with these; None: there are none
    cdef bint reads_answers             # whether read_answer has anything to do
    cdef bint may_refuse                # its servers may refuse a request before they process it: bodies are kept

    cdef int look_at(self, PickArgs *args, const char *p, Head *h, View view, const char *asked, uint32_t n) except -2
    cdef uint64_t _key(self, const char *p, Head *h, View view) except? 0
    cdef int pick(self, PickArgs *args, int belongs) except -2
    cdef bint moves(self, int chosen, int belongs, int status) noexcept
    cdef bytes read_answer(self, Server server, int chosen, int belongs, const char *p, Head *h, const char *asked,
                           uint32_t n, int64_t now)
    cdef Backend like(self, Backend other)
    cdef int index_of(self, Server server) noexcept
    cdef int counterpart(self, Backend before, int i) except -2

cdef class ServerProtocol:
    """The protocol of a backend's servers: creates the Upstream for a connection. See transaction.pxd."""
    cdef bint may_refuse                # see Backend

    cdef object open(self, object conn)
