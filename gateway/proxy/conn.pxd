from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from gateway.proxy.openssl cimport SSL
from gateway.proxy.tls cimport ServerContext

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef enum:
    SCRATCH = 128 * 1024        # bytes read at a time; also bounds what one connection can have pending
    GATHER = 64 * 1024          # small pieces of one write are copied together here
    PIECES = 256                # pieces of one write
    RELAY = 128 * 1024          # bytes moved at a time from socket to socket
    HEAD = 32 * 1024            # bytes read where a head begins: what follows of a large body need not be copied
    WORTH = 32 * 1024           # bytes left of a body for which relaying is worth its calls
    TAIL = 1024                 # what ends a body is copied: only a read tells whether more comes than was announced

cdef enum:
    FOREVER = 0x7FFFFFFFFFFFFFFF

# What recv returns beside a count
cdef enum:
    RECV_END = 0
    RECV_AGAIN = -1
    RECV_BROKEN = -2

    RECV_FULL = -3              # of relay: what was sent before has not been taken yet

# What flush and commit return
cdef enum Sent:
    SENT_ALL = 0
    SENT_PART = 1
    SENT_BROKEN = 2

cdef class Timed:
    """Something that a deadline can pass for: a connection, or work in progress. One deadline at a time."""
    cdef Poller poller
    cdef int slot                       # in the poller's table of deadlines; -1: none yet

    cdef int take_slot(self, Poller poller) except -1
    cdef void drop_slot(self) noexcept
    cdef void deadline(self, int64_t ms) noexcept
    cdef int on_deadline(self) except -1

cdef class Handler:
    """What the events of a connection are for: a protocol, a tunnel. Has no state of its own."""
    cdef int on_input(self, Conn conn) except -1
    cdef int on_drained(self, Conn conn) except -1
    cdef int on_broken(self, Conn conn) except -1
    cdef int on_send_failed(self, Conn conn) except -1
    cdef int on_deadline(self, Conn conn) except -1
    cdef int on_bug(self, Conn conn) except -1
    cdef int on_stopped(self, Conn conn) except -1
    cdef int on_draining(self, Conn conn) except -1
    cdef int retire(self, Conn conn) except -1

cdef class Poller:
    cdef readonly int fd
    cdef readonly object loop
    cdef PyObject **table               # by descriptor: the connection registered for it (owned)
    cdef int capacity
    cdef int64_t *due                   # by slot: a deadline, in ns of the monotonic clock
    cdef PyObject **timed               # by slot: whose it is (borrowed; its owner gives the slot back)
    cdef int slots                      # in use so far
    cdef int slot_capacity
    cdef int *spare                     # slots that were given back
    cdef int spares
    cdef readonly int count
    cdef int highest
    cdef uint32_t generation
    cdef int64_t now                    # monotonic, in ns; read once per event
    cdef int64_t skipped                # ns that a test has let pass
    cdef list again                     # connections that have something to go on with, and work whose turn it is
    cdef list graveyard                 # what was closed or replaced while the present event was handled
    cdef Work ended                     # the first of a chain: work that ended meanwhile
    cdef public bint interrupted        # the event loop has something to do
    cdef char *scratch                  # every read goes here first: an idle connection holds no buffer
    cdef char *cipher                   # what TLS wants to send
    cdef size_t cipher_len
    cdef size_t cipher_capacity
    cdef int pipe[2]                    # between two sockets: empty but within relay
    cdef bint cut                       # the read under TLS has met the peer's FIN
    cdef void *composer                 # the connection (borrowed) whose write is being composed, or NULL
    cdef char *gather
    cdef size_t gathered
    cdef iovec pieces[PIECES]
    cdef int piece_count
    cdef object sweep_timer

    cdef int add(self, Conn conn, uint32_t events) except -1
    cdef int remove(self, Conn conn) except -1
    cdef int turn_over(self, Conn conn) except -1
    cdef int turn_of(self, Work work) except -1
    cdef int watch(self, Conn conn, uint32_t events) except -1
    cdef int forget(self, Conn conn) except -1
    cdef int settle(self) except -1
    cdef void forget_pieces(self) noexcept
    cdef int bury(self, object thing) except -1
    cdef void _close_descriptors(self) noexcept
    cdef int _grow(self, int fd) except -1
    cdef int _wake(self, Conn conn, uint32_t events) except -1
    cdef int _expire(self, Timed what) except -1
    cdef int _failed(self, Conn conn) except -1
    cdef int _gave_up(self, Work work) except -1
    cdef int _settle_down(self) except -1
    cdef int _go_on(self) except -1
    cdef int _call(self, Work work) except -1
    cdef int64_t time(self) noexcept
    cpdef sweep(self)

cdef class Work(Timed):
    """What needs a server: a request; later, a TCP connection. Attempt, WaitQueue and Tunnel speak to this.

    on_connected and on_connect_failed come once for each connection that Attempt.go has asked for, and the work then
    forgets it (attempt.connecting). on_turn may come for work that has left its queue meanwhile: it looks first.
    Work that has ended is recycled only after the event in which it ended: code that is in the middle of it may still
    read it, and finds it ended.
    """
    cdef Work next_ended
    cdef Work before, behind            # in a WaitQueue
    cdef int place                      # there: its lane; -1: it does not wait; -2: it is not to wait any more
    cdef int64_t since                  # what a queue orders by: a moment in ns, or a round (WaitQueue.order)
    cdef int64_t entered                # since when it waits, monotonic, in ns
    cdef uint64_t fair                  # hash of what fairness goes by

    cdef int recycle(self) except -1
    cdef int on_turn(self) except -1
    cdef int on_connected(self, Conn conn) except -1
    cdef int on_connect_failed(self, Conn conn, int error) except -1
    cdef int on_tunnel_end(self, int how) except -1
    cdef int on_bug(self) except -1

cdef class Conn(Timed):
    cdef int fd
    cdef uint32_t generation
    cdef Handler handler                # None: the kind of connection looks after its events itself
    cdef uint8_t readable               # there may be more to read
    cdef uint8_t wire_readable          # under TLS: the kernel may have more for the layer below
    cdef uint8_t ended                  # the peer has sent its FIN
    cdef uint8_t finished               # we have sent ours
    cdef uint8_t queued                 # waiting in poller.again
    cdef int more                       # MSG_MORE once the end of what is sent follows at once, else 0
    cdef char *out                      # accepted from us, not yet by the kernel
    cdef uint32_t out_at
    cdef uint32_t out_len
    cdef uint32_t out_capacity
    cdef ServerContext tls              # or None
    cdef SSL *ssl

    cdef int attach(self, Poller poller, int fd, uint32_t events) except -1
    cdef int event(self, uint32_t events) except -1
    cdef int hand_to(self, Handler handler) except -1
    cdef ssize_t recv(self, char *to, size_t n) except? -9
    cdef ssize_t relay(self, Conn source, size_t left) except? -9
    cdef int put(self, const char *p, size_t n) except -1
    cdef int put_soon(self, const char *p, size_t n) except -1
    cdef int commit(self) except -1
    cdef int commit_last(self) except -1
    cdef int flush(self) except -1
    cdef int64_t unacknowledged(self) noexcept
    cdef int shutdown(self) except -1
    cdef int close(self) except -1
    cdef int reset(self) except -1
    cdef int start_tls(self, ServerContext context) except -1
    cdef int _write(self, int count) except -1
    cdef int _write_tls(self, int count) except -1
    cdef int _flush_tls(self) except -1
    cdef ssize_t _recv_tls(self, char *to, size_t n) except? -9
    cdef int _keep(self, const char *p, size_t n) except -1
    cdef int _send(self, const char *p, size_t n) except -1

    # for kinds of connection without a handler to fill in
    cdef int on_input(self) except -1
    cdef int on_drained(self) except -1
    cdef int on_broken(self) except -1
    cdef int on_send_failed(self) except -1
