from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from gateway.proxy.openssl cimport SSL

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef enum:
    SCRATCH = 128 * 1024        # bytes read at a time; also limits what one connection can have pending
    GATHER = 64 * 1024          # small pieces of one write are copied together up to this size
    PIECES = 256                # pieces of one write
    RELAY = 128 * 1024          # bytes moved at a time from socket to socket
    HEAD = 32 * 1024            # bytes read where a head begins: most of a large body that follows need not be copied
    WORTH = 32 * 1024           # remaining bytes of a body for which relaying is worth its system calls
    TAIL = 1024                 # the end of a body is copied: only a read shows whether more arrived than was announced

cdef enum:
    FOREVER = 0x7FFFFFFFFFFFFFFF

# Results of recv other than a count
cdef enum:
    RECV_END = 0
    RECV_AGAIN = -1
    RECV_BROKEN = -2

    RECV_FULL = -3              # of relay: earlier data has not been taken yet

# Results of flush and commit
cdef enum Sent:
    SENT_ALL = 0
    SENT_PART = 1
    SENT_BROKEN = 2

cdef class Timed:
    """An object with a deadline: a connection, or work in progress. One deadline at a time."""
    cdef Poller poller
    cdef int slot                       # index in the poller's table of deadlines; -1: none yet

    cdef int take_slot(self, Poller poller) except -1
    cdef void drop_slot(self) noexcept
    cdef void deadline(self, int64_t ms) noexcept
    cdef int on_deadline(self) except -1

cdef class Handler:
    """Handles the events of a connection: a protocol, or a tunnel. Has no state of its own."""
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
    cdef PyObject **timed               # by slot: the owner (borrowed; the owner releases the slot)
    cdef int slots                      # in use so far
    cdef int slot_capacity
    cdef int *spare                     # released slots
    cdef int spares
    cdef readonly int count
    cdef int highest
    cdef uint32_t generation
    cdef int64_t now                    # monotonic, in ns; read once per event
    cdef int64_t skipped                # ns by which a test has advanced the clock
    cdef list again                     # connections with more input, and work that is called
    cdef list graveyard                 # objects closed or replaced during the current event
    cdef Work ended                     # head of a chain: work that has ended meanwhile
    cdef public bint interrupted        # the event loop has something to do
    cdef char *scratch                  # every read goes here first: an idle connection has no buffer
    cdef char *cipher                   # TLS output
    cdef size_t cipher_len
    cdef size_t cipher_capacity
    cdef int pipe[2]                    # between two sockets: empty except within relay
    cdef bint cut                       # the read below TLS has found the peer's FIN
    cdef void *composer                 # the connection (borrowed) that composes the current write, or NULL
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
    """Work that needs a server: a request; later, a TCP connection. The interface for Attempt, WaitQueue and Tunnel.

    on_connected and on_connect_failed are called once for each connection that Attempt.go has requested; the work then
    clears attempt.connecting. on_turn may be called for work that has left its queue meanwhile: it must check. Work
    that has ended is recycled only after the current event: code that is still using it finds it ended.
    """
    cdef Work next_ended
    cdef Work before, behind            # in a WaitQueue
    cdef int place                      # in the queue: its lane; -1: it does not wait; -2: it has been shed
    cdef int64_t since                  # order in the queue: a time in ns, or a round (WaitQueue.order)
    cdef int64_t entered                # start of the wait, monotonic, in ns
    cdef uint64_t fair                  # hash of the key for fairness
    cdef bint kept                      # of an admitted session: overload control does not shed it

    cdef int recycle(self) except -1
    cdef int on_turn(self) except -1
    cdef int on_connected(self, Conn conn) except -1
    cdef int on_connect_failed(self, Conn conn, int error) except -1
    cdef int on_tunnel_end(self, int how) except -1
    cdef bytes server_name(self)
    cdef bytes introduction(self, int version)
    cdef int on_bug(self) except -1

cdef class Conn(Timed):
    cdef int fd
    cdef uint32_t generation
    cdef Handler handler                # None: the subclass handles its events itself
    cdef uint8_t readable               # there may be more to read
    cdef uint8_t wire_readable          # with TLS: the kernel may have more for the lower layer
    cdef uint8_t ended                  # the peer has sent its FIN
    cdef uint8_t finished               # the gateway has sent its FIN
    cdef uint8_t queued                 # waiting in poller.again
    cdef int more                       # MSG_MORE while the end of the output follows at once, else 0
    cdef char *out                      # buffered output, not yet taken by the kernel
    cdef uint32_t out_at
    cdef uint32_t out_len
    cdef uint32_t out_capacity
    cdef uint8_t truncated              # under TLS: its FIN came without a close_notify
    cdef int tls_error                  # what TLS has failed with, as Outcome has it; 0: nothing
    cdef object tls                     # what `ssl` was made of and needs for as long as it lives; or None
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
    cdef int start_tls(self, SSL *ssl, object owner) except -1
    cdef int handshake(self) except? -9
    cdef int _write(self, int count) except -1
    cdef int _write_tls(self, int count) except -1
    cdef int _flush_tls(self) except -1
    cdef int _note_tls_error(self) except -1
    cdef ssize_t _recv_tls(self, char *to, size_t n) except? -9
    cdef int _keep(self, const char *p, size_t n) except -1
    cdef int _send(self, const char *p, size_t n) except -1

    # for subclasses without a handler
    cdef int on_input(self) except -1
    cdef int on_drained(self) except -1
    cdef int on_broken(self) except -1
    cdef int on_send_failed(self) except -1
