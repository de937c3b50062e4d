from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from gateway.balance.affinity cimport Affinity
from gateway.balance.policy cimport Members, Policy
from gateway.board cimport Board
from gateway.proxy.conn cimport Conn, Poller
from gateway.proxy.exchange cimport Exchange
from gateway.rules.view cimport View
from gateway.wire.chunked cimport Chunked
from gateway.wire.head cimport Head

# How an upstream connection failed.
cdef enum Failure:
    FAIL_CONNECT = 1        # no connection was made: nothing was sent
    FAIL_CONNECT_TIMEOUT
    FAIL_RESET              # closed or reset before a byte of an answer
    FAIL_RESET_REUSED       # the same, on a connection that had served before: most likely it was idle too long
    FAIL_TIMEOUT            # no answer in time
    FAIL_BAD                # the answer is not HTTP as we know it
    FAIL_TRUNCATED          # the answer broke off after its head

cdef class Server:
    """One server of a backend: its address, its idle connections, its row on the Board."""
    cdef readonly str backend
    cdef readonly str name
    cdef readonly object address        # (host, port), or a path
    cdef bytes log_name
    cdef readonly bytes token           # stands for the server in affinity cookies
    cdef readonly int slot
    cdef readonly uint64_t opened
    cdef readonly uint64_t reused
    cdef int idle                       # connections without a request
    cdef Upstream last                  # the one used last; the others follow
    cdef Board board
    cdef int worker
    cdef bytes sockaddr
    cdef bint gone                      # not in the site file any more: pool nothing

    cdef void rest(self, Upstream u) noexcept
    cdef void leave(self, Upstream u) noexcept
    cdef Upstream borrow(self)
    cdef Upstream connect(self, Poller poller, Receiver receiver, int64_t timeout_ms)

cdef class Backend:
    """A backend of one snapshot: its servers, how to pick one, how long to wait."""
    cdef readonly str name
    cdef bytes log_name
    cdef int traffic                    # its row of the Board
    cdef readonly list servers
    cdef readonly Members members
    cdef Policy policy
    cdef int64_t connect_ms
    cdef int64_t response_ms
    cdef int64_t idle_ms
    cdef int64_t tunnel_ms
    cdef readonly object retries        # retry.Retries
    cdef int queue_limit                # 0: nobody waits
    cdef int64_t queue_ms
    cdef object waiting                 # (since when in ns, Receiver), first come first served
    cdef bint called                    # it is somebody's turn who has not yet looked for room
    cdef object waker
    cdef Affinity affinity              # or None

    cdef bint orca                      # servers say their load with their answers
    cdef bint reads_answers             # read_answer always has something to do

    cdef bint moves(self, Exchange ex, int status) noexcept
    cdef bytes read_answer(self, Exchange ex, const char *p, Head *h, int64_t now)
    cdef int look_at(self, Exchange ex, const char *p, Head *h, View view) except -1
    cdef int pick(self, Exchange ex) except -2
    cdef int counterpart(self, Backend before, int i) except -2
    cdef int wake(self) except -1
    cdef int announce(self) except -1
    cdef int64_t first_elsewhere(self, int64_t now) noexcept

cdef class Receiver(Conn):
    """What an upstream connection reports to: the client's side of the exchange."""
    cdef int on_turn(self) except -1
    cdef int on_moved(self, Backend backend) except -1
    cdef int on_connected(self, Upstream u) except -1
    cdef int on_interim(self, Upstream u, const char *p, Head *h) except -1
    cdef int on_head(self, Upstream u, const char *p, Head *h, int framing) except -1
    cdef int on_upgrade(self, Upstream u, const char *p, Head *h) except -1
    cdef int on_body(self, Upstream u, const char *p, size_t n) except -1
    cdef int on_relayed(self, Upstream u, size_t n) except -1
    cdef int on_trailers(self, Upstream u, const char *p, size_t n) except -1
    cdef int on_tunnel_end(self, Upstream u) except -1
    cdef int on_read_end(self, Upstream u) except -1
    cdef int on_end(self, Upstream u) except -1
    cdef int on_failure(self, Upstream u, int failure) except -1
    cdef int on_upstream_drained(self, Upstream u) except -1
    cdef int on_blocked(self) except -1

cdef class Upstream(Conn):
    cdef readonly Server server
    cdef Upstream older, newer          # idle connections to the same server
    cdef bint resting                   # among them
    cdef Receiver receiver              # None while idle
    cdef uint8_t state
    cdef uint8_t served                 # how many answers it has given, up to 255
    cdef uint8_t method                 # of the request under way
    cdef uint8_t framing                # of the response's body
    cdef uint8_t keep                   # may be used again after this response
    cdef uint8_t interims
    cdef uint8_t request_done           # the whole request has been handed over
    cdef uint8_t send_failed
    cdef uint16_t status
    cdef int64_t left                   # of a body of known length
    cdef int64_t response_ms
    cdef int64_t idle_ms
    cdef Chunked chunked
    cdef char *partial                  # an incomplete response head
    cdef uint32_t partial_len
    cdef uint32_t partial_capacity
    cdef uint32_t seen

    cdef int begin(self, Receiver receiver, Exchange ex, Backend backend) except -1
    cdef int drive(self) except -1
    cdef bint is_connecting(self) noexcept
    cdef int patience(self) except -1
    cdef int abandon(self) except -1
    cdef int _drop(self) except -1
    cdef int fail(self, int failure) except -1
    cdef int send_broken(self) except -1
    cdef int _input(self, const char *p, size_t n) except -1
    cdef int _head(self, const char *p, size_t n, size_t *used) except -1
    cdef int _body(self, const char *p, size_t n, size_t *used) except -1
    cdef int _end(self, size_t excess) except -1
    cdef int _keep_partial(self, const char *p, size_t n) except -1
