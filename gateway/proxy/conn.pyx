"""A non-blocking socket, and the poller that watches it: the I/O layer below clients, servers and listeners.

The poller is one epoll set in the place of the event loop's selector (loop.py): a connection needs no transport, no
handle and no bytes object. Registration is edge-triggered and happens once per connection; to pause is not to read, so
back-pressure needs no system call. All reads go through one scratch buffer per process; a connection owns memory only
while it holds bytes that its peer has not taken.

Four rules make it safe to write bytes read from one connection to another without a copy:

1. All output goes through `put`, which composes a write of one connection at a time. The write is committed before
anything else could come between: before another connection composes, before the scratch buffer is read into again,
before bytes are relayed past it, before the connection is shut down, and at the end of the event at the latest.
2. No connection makes another one read. To let the other side continue, its connection is queued (`turn_over`) and
reads after the current event; so no read loop runs within another, or within itself.
3. Nothing is freed while it may be running. Objects that are closed, replaced or ended during an event are kept until
the event is over (`bury`, `Work.recycle`).
4. A closed connection has no descriptor (`fd` is -1): every loop checks that after each step.
"""

import logging

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_INCREF, Py_DECREF
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close as c_close

from gateway.outcome cimport TLS_REASON
from gateway.proxy.openssl cimport (
    BIO, BIO_CTRL_FLUSH, BIO_METHOD, BIO_TYPE_SOURCE_SINK, BIO_clear_retry_flags, BIO_get_data, BIO_get_new_index,
    BIO_meth_new, BIO_meth_set_ctrl, BIO_meth_set_read, BIO_meth_set_write, BIO_new, BIO_set_data, BIO_set_init,
    BIO_set_retry_read, ERR_GET_LIB, ERR_GET_REASON, ERR_LIB_SSL, ERR_clear_error, ERR_get_error, SSL_ERROR_WANT_READ,
    SSL_ERROR_ZERO_RETURN, SSL_SENT_SHUTDOWN, SSL_do_handshake, SSL_free, SSL_get_error, SSL_get_verify_result,
    SSL_read, SSL_set_bio, SSL_set_shutdown, SSL_shutdown, SSL_write, X509_V_OK,
)


cdef extern from "<sys/epoll.h>" nogil:
    cdef union epoll_data_t:
        unsigned long long u64

    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data

    enum:
        EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int count, int timeout)

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    cdef struct linger:
        int l_onoff
        int l_linger
    enum:
        MSG_MORE, MSG_NOSIGNAL, SHUT_WR, SOL_SOCKET, SO_LINGER
    int setsockopt(int fd, int level, int name, const void *value, unsigned int n)
    int c_shutdown "shutdown"(int fd, int how)
    ssize_t c_recv "recv"(int fd, void *buf, size_t n, int flags)
    ssize_t c_send "send"(int fd, const void *buf, size_t n, int flags)
    ssize_t sendmsg(int fd, const msghdr *msg, int flags)

cdef extern from "<fcntl.h>" nogil:
    enum:
        O_CLOEXEC, O_NONBLOCK, F_SETPIPE_SZ, SPLICE_F_MOVE, SPLICE_F_NONBLOCK
    int fcntl(int fd, int command, int value)
    ssize_t splice(int source, void *_, int to, void *__, size_t n, unsigned int flags)

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, int *value)

cdef extern from "<linux/sockios.h>" nogil:
    enum:
        SIOCOUTQ

cdef extern from "<unistd.h>" nogil:
    int pipe2(int *fds, int flags)
    ssize_t c_read "read"(int fd, void *to, size_t n)

cdef enum:
    EVENTS = 256
    SWEEP_MS = 100              # resolution of deadlines
    SMALL = 4096                # up to this size, pieces are copied together instead of being gathered by the kernel
    FILE = 0                    # in place of a generation: not a connection
    RECORD = 16 * 1024          # largest payload of a TLS record (RFC 8446 section 5.1)

log = logging.getLogger(__name__)


cdef inline int64_t monotonic_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec * <int64_t>1000000000 + t.tv_nsec


cdef class Poller:
    """Watches connections, and files of an event loop, from `start` until `stop`."""

    def __cinit__(self):
        self.fd = epoll_create1(EPOLL_CLOEXEC)
        if self.fd < 0:
            raise OSError(errno, "cannot create an epoll set")
        self.capacity = self.slot_capacity = 1024
        self.table = <PyObject **>malloc(self.capacity * sizeof(PyObject *))
        self.due = <int64_t *>malloc(self.slot_capacity * sizeof(int64_t))
        self.timed = <PyObject **>malloc(self.slot_capacity * sizeof(PyObject *))
        self.spare = <int *>malloc(self.slot_capacity * sizeof(int))
        # Sixteen extra bytes: the scanners read eight bytes at a time.
        self.scratch = <char *>malloc(SCRATCH + 16)
        self.cipher_capacity = SCRATCH + 4096
        self.cipher = <char *>malloc(self.cipher_capacity)
        self.gather = <char *>malloc(GATHER)
        if (self.table == NULL or self.due == NULL or self.timed == NULL or self.spare == NULL
                or self.scratch == NULL or self.cipher == NULL or self.gather == NULL):
            raise MemoryError
        memset(self.table, 0, self.capacity * sizeof(PyObject *))
        self.highest = -1
        if pipe2(self.pipe, O_CLOEXEC | O_NONBLOCK) < 0:
            raise OSError(errno, "cannot create a pipe")
        # If the user's limit on pipe pages does not allow this size, the pipe stays smaller and needs more rounds.
        fcntl(self.pipe[1], F_SETPIPE_SZ, 2 * RELAY)

    def __init__(self):
        self.again = []
        self.graveyard = []
        self.now = monotonic_ns()

    def start(self, loop):
        """Check deadlines with the loop's timers; connections find the loop here."""
        self.loop = loop
        self.sweep_timer = loop.call_later(SWEEP_MS / 1000.0, self.sweep)

    def close(self):
        """Close the descriptors, and drop the loop, which refers to this poller: once, after `stop`."""
        self.loop = self.sweep_timer = None
        self._close_descriptors()

    cdef void _close_descriptors(self) noexcept:
        if self.fd >= 0:
            c_close(self.fd)
            self.fd = -1
        if self.pipe[1] > 0:
            c_close(self.pipe[0])
            c_close(self.pipe[1])
            self.pipe[1] = 0

    def __dealloc__(self):
        free(self.table)
        free(self.due)
        free(self.timed)
        free(self.spare)
        free(self.scratch)
        free(self.cipher)
        free(self.gather)
        self._close_descriptors()

    def stop(self):
        """Close every connection."""
        cdef int fd
        cdef Conn conn
        if self.sweep_timer is not None:
            self.sweep_timer.cancel()
        for fd in range(self.highest + 1):
            if fd <= self.highest and self.table[fd] != NULL:
                conn = <Conn>self.table[fd]
                if conn.handler is not None:
                    conn.handler.on_stopped(conn)
                conn.close()
        self._settle_down()

    def skip(self, ms):
        """Advance time, in a test: every clock reading from now on is `ms` later; deadlines that have then passed are
        handled at once."""
        self.skipped += <int64_t>(ms * 1000000)
        self._expire_due()

    cdef int _grow(self, int fd) except -1:
        cdef int wanted = self.capacity
        cdef void *grown
        while wanted <= fd:
            wanted *= 2
        grown = realloc(self.table, wanted * sizeof(PyObject *))
        if grown == NULL:
            raise MemoryError
        self.table = <PyObject **>grown
        memset(self.table + self.capacity, 0, (wanted - self.capacity) * sizeof(PyObject *))
        self.capacity = wanted
        return 0

    cdef int add(self, Conn conn, uint32_t events) except -1:
        cdef epoll_event event
        if conn.fd >= self.capacity:
            self._grow(conn.fd)
        self.generation += 1
        if self.generation == FILE:
            self.generation += 1
        conn.generation = self.generation
        event.events = events
        event.data.u64 = (<unsigned long long>self.generation << 32) | <uint32_t>conn.fd
        if epoll_ctl(self.fd, EPOLL_CTL_ADD, conn.fd, &event) < 0:
            raise OSError(errno, "cannot watch a connection")
        Py_INCREF(conn)
        self.table[conn.fd] = <PyObject *>conn
        self.count += 1
        if conn.fd > self.highest:
            self.highest = conn.fd
        return 0

    cdef int remove(self, Conn conn) except -1:
        # The kernel drops a closed descriptor by itself; the table's generation protects against its late events.
        self.table[conn.fd] = NULL
        self.count -= 1
        while self.highest >= 0 and self.table[self.highest] == NULL:
            self.highest -= 1
        self.bury(conn)
        Py_DECREF(conn)
        return 0

    cdef int bury(self, object thing) except -1:
        """Keep an object that may still be running until the current event is over."""
        self.graveyard.append(thing)
        return 0

    cdef int turn_over(self, Conn conn) except -1:
        """The connection has more to read, but others are waiting: continue it in the next round."""
        if not conn.queued:
            conn.queued = 1
            self.again.append(conn)
        return 0

    cdef int turn_of(self, Work work) except -1:
        """Call the work's on_turn after the current event."""
        self.again.append(work)
        return 0

    cdef int64_t time(self) noexcept:
        """Monotonic time in ns."""
        return monotonic_ns() + self.skipped

    def clock(self):
        """The same, for Python."""
        return self.time()

    cdef int watch(self, Conn conn, uint32_t events) except -1:
        """Change the events that a connection is watched for."""
        cdef epoll_event event
        event.events = events
        event.data.u64 = (<unsigned long long>conn.generation << 32) | <uint32_t>conn.fd
        epoll_ctl(self.fd, EPOLL_CTL_MOD, conn.fd, &event)
        return 0

    cdef int forget(self, Conn conn) except -1:
        """Stop watching a connection whose descriptor stays open."""
        epoll_ctl(self.fd, EPOLL_CTL_DEL, conn.fd, NULL)
        return self.remove(conn)

    cdef int settle(self) except -1:
        """Commit the write being composed, if there is one."""
        if self.composer != NULL:
            (<Conn>self.composer).commit()
        return 0

    cdef void forget_pieces(self) noexcept:
        """Discard the write being composed."""
        self.composer = NULL
        self.piece_count = 0
        self.gathered = 0

    def watch_file(self, int fd, uint32_t wanted):
        """Report a file from `wait` while it has these events. Raises OSError."""
        cdef epoll_event event
        event.events = wanted
        event.data.u64 = <unsigned long long>FILE << 32 | <uint32_t>fd
        if epoll_ctl(self.fd, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(errno, "cannot watch a file")

    def forget_file(self, int fd):
        """Stop reporting a file. Raises OSError."""
        if epoll_ctl(self.fd, EPOLL_CTL_DEL, fd, NULL) < 0:
            raise OSError(errno, "cannot forget a file")

    def wait(self, timeout):
        """Handle connections for `timeout` seconds (None: without limit), or until the loop has something else to do.

        That is a ready file, or a callback that a connection has scheduled in the loop (`interrupted`). Returns
        (descriptor, events) of the files.
        """
        cdef epoll_event events[EVENTS]
        cdef int64_t end = FOREVER, left = 0
        cdef int count, i, fd, ms
        cdef uint32_t generation
        cdef list files = []
        if timeout is not None:
            end = monotonic_ns() + <int64_t>(<double>timeout * 1e9)
        self.interrupted = False
        while True:
            if self.again:
                self._go_on()
            ms = 0
            if not self.again and not self.interrupted:
                ms = -1
                if end != FOREVER:
                    left = (end - monotonic_ns() + 999999) // 1000000
                    ms = 0 if left <= 0 else <int>min(left, <int64_t>3600000)
            if ms == 0:
                count = epoll_wait(self.fd, events, EVENTS, 0)
            else:
                with nogil:
                    count = epoll_wait(self.fd, events, EVENTS, ms)
            if count < 0:
                if errno != EINTR:
                    raise OSError(errno, "cannot wait for events")
                PyErr_CheckSignals()
            for i in range(count):
                fd = <int>(<uint32_t>events[i].data.u64)
                generation = <uint32_t>(events[i].data.u64 >> 32)
                if generation == FILE:
                    files.append((fd, events[i].events))
                elif self.table[fd] != NULL and (<Conn>self.table[fd]).generation == generation:
                    self.now = self.time()
                    self._wake(<Conn>self.table[fd], events[i].events)
            if files or self.interrupted or (end != FOREVER and monotonic_ns() >= end):
                return files

    cdef int _go_on(self) except -1:
        """Continue the connections and work that have yielded to others."""
        cdef list again = self.again
        cdef Conn conn
        self.again = []
        for thing in again:
            self.now = self.time()
            if isinstance(thing, Conn):
                conn = <Conn>thing
                conn.queued = 0
                if conn.fd >= 0:
                    self._wake(conn, 0)
            else:
                self._call(<Work>thing)
        return 0

    cdef int _call(self, Work work) except -1:
        try:
            work.on_turn()
            self.settle()
        except Exception:
            log.exception("unexpected error on a turn: ending the request")
            self._gave_up(work)
        if self.ended is not None or self.graveyard:
            self._settle_down()
        return 0

    cdef int _wake(self, Conn conn, uint32_t events) except -1:
        """Handle one event of a connection; without `events` it continues with the data it has."""
        try:
            if events:
                conn.event(events)
            elif conn.handler is not None:
                conn.handler.on_input(conn)
            else:
                conn.on_input()
            if self.composer != NULL:
                self.settle()
        except Exception:
            self._failed(conn)
        if self.ended is not None or self.graveyard:
            self._settle_down()
        return 0

    cdef int _failed(self, Conn conn) except -1:
        """An exception is a bug of the gateway, not of a peer: log it, close the connection, keep the process."""
        log.exception("unexpected error on a connection: closing it")
        self.forget_pieces()
        if conn.fd >= 0:
            try:
                if conn.handler is not None:
                    conn.handler.on_bug(conn)
            except Exception:
                log.exception("unexpected error while closing a connection")
            self.forget_pieces()
            conn.close()
        return 0

    cdef int _gave_up(self, Work work) except -1:
        self.forget_pieces()
        try:
            work.on_bug()
        except Exception:
            log.exception("unexpected error while ending a request")
        self.forget_pieces()
        return 0

    cdef int _settle_down(self) except -1:
        """The event is over: free closed objects, recycle ended work."""
        cdef Work work
        cdef list buried
        while self.ended is not None:
            work = self.ended
            self.ended = work.next_ended
            work.next_ended = None
            work.recycle()
        if self.graveyard:
            buried = self.graveyard
            self.graveyard = []
            for thing in buried:
                if isinstance(thing, Conn):
                    (<Conn>thing).handler = None        # which refers to the connection: the cycle would never be freed
        return 0

    cpdef sweep(self):
        """Find expired deadlines, ten times a second."""
        self.sweep_timer = self.loop.call_later(SWEEP_MS / 1000.0, self.sweep)
        self._expire_due()

    def _expire_due(self):
        """A linear scan: 10,000 connections are 80 KB of integers."""
        cdef int slot
        cdef int64_t now = self.time()
        self.now = now
        for slot in range(self.slots):
            if self.due[slot] <= now:
                self.due[slot] = FOREVER
                if self.timed[slot] != NULL:
                    self._expire(<Timed>self.timed[slot])

    cdef int _expire(self, Timed what) except -1:
        cdef Timed held = what          # the table has only a borrowed reference
        try:
            held.on_deadline()
            self.settle()
        except Exception:
            log.exception("unexpected error on a deadline: ending what it was for")
            self.forget_pieces()
            if isinstance(held, Conn):
                (<Conn>held).close()
            else:
                self._gave_up(<Work>held)
        if self.ended is not None or self.graveyard:
            self._settle_down()
        return 0


cdef class Timed:
    def __cinit__(self):
        self.slot = -1

    def __dealloc__(self):
        self.drop_slot()

    cdef int take_slot(self, Poller poller) except -1:
        """Reserve an entry in the table of deadlines."""
        cdef int wanted
        cdef void *grown
        self.poller = poller
        if poller.spares:
            poller.spares -= 1
            self.slot = poller.spare[poller.spares]
        else:
            if poller.slots == poller.slot_capacity:
                wanted = 2 * poller.slot_capacity
                grown = realloc(poller.timed, wanted * sizeof(PyObject *))
                if grown == NULL:
                    raise MemoryError
                poller.timed = <PyObject **>grown
                grown = realloc(poller.due, wanted * sizeof(int64_t))
                if grown == NULL:
                    raise MemoryError
                poller.due = <int64_t *>grown
                grown = realloc(poller.spare, wanted * sizeof(int))
                if grown == NULL:
                    raise MemoryError
                poller.spare = <int *>grown
                poller.slot_capacity = wanted
            self.slot = poller.slots
            poller.slots += 1
        poller.due[self.slot] = FOREVER
        poller.timed[self.slot] = <PyObject *>self
        return 0

    cdef void drop_slot(self) noexcept:
        """Release the entry."""
        cdef Poller poller = self.poller
        if self.slot >= 0 and poller is not None:
            poller.due[self.slot] = FOREVER
            poller.timed[self.slot] = NULL
            poller.spare[poller.spares] = self.slot
            poller.spares += 1
            self.slot = -1

    cdef void deadline(self, int64_t ms) noexcept:
        """Call on_deadline `ms` from now (FOREVER: never); replaces the previous deadline."""
        if self.slot >= 0:
            self.poller.due[self.slot] = FOREVER if ms == FOREVER else self.poller.now + ms * 1000000

    cdef int on_deadline(self) except -1:
        raise NotImplementedError


cdef class Work(Timed):
    def __cinit__(self):
        self.place = -1

    cdef int recycle(self) except -1:
        """The work has ended, and so has the event in which it ended."""
        return 0

    cdef int on_turn(self) except -1:
        """It is this work's turn: a server may have room. Called between two events."""
        raise NotImplementedError

    cdef int on_connected(self, Conn conn) except -1:
        """The requested connection is established."""
        raise NotImplementedError

    cdef int on_connect_failed(self, Conn conn, int error) except -1:
        """The connection could not be made: `error` is the kernel's errno. It is closed."""
        raise NotImplementedError

    cdef int on_tunnel_end(self, int how) except -1:
        """The tunnel made for this work has ended: one of End."""
        raise NotImplementedError

    cdef bytes server_name(self):
        """What a server is to be called in TLS by those who call it as the client does: a host in lower case."""
        return b""

    cdef bytes introduction(self, int version):
        """The PROXY header, of this version, by which a new connection tells a server about the client."""
        raise NotImplementedError

    cdef int on_bug(self) except -1:
        """Handling this work raised an exception: end it."""
        return 0


cdef class Handler:
    cdef int on_input(self, Conn conn) except -1:
        """There may be something to read, or the other side takes data again."""
        raise NotImplementedError

    cdef int on_drained(self, Conn conn) except -1:
        """The peer has taken all buffered data."""
        return 0

    cdef int on_broken(self, Conn conn) except -1:
        """The connection was reset, or has failed."""
        raise NotImplementedError

    cdef int on_send_failed(self, Conn conn) except -1:
        """Committed data cannot be sent. The connection gets an event of its own, too; only record the failure here."""
        return 0

    cdef int on_deadline(self, Conn conn) except -1:
        """The connection's deadline has passed."""
        return conn.close()

    cdef int on_bug(self, Conn conn) except -1:
        """Handling an event raised an exception: end the current work. The connection is closed afterwards."""
        return 0

    cdef int on_stopped(self, Conn conn) except -1:
        """The worker ends: end the current work. The connection is closed afterwards."""
        return 0

    cdef int on_draining(self, Conn conn) except -1:
        """The worker is about to drain: tell the peer, if the protocol can."""
        return 0

    cdef int retire(self, Conn conn) except -1:
        """The worker drains: close as soon as nothing is in progress."""
        return 0


cdef class Conn:
    """One socket. Its handler receives its events; subclasses without a handler implement on_input, on_drained,
    on_broken, on_send_failed and on_deadline."""

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        free(self.out)
        SSL_free(self.ssl)
        if self.fd >= 0:
            c_close(self.fd)

    cdef int attach(self, Poller poller, int fd, uint32_t events) except -1:
        self.take_slot(poller)
        self.fd = fd
        poller.add(self, events)
        return 0

    cdef int hand_to(self, Handler handler) except -1:
        """Let another handler receive the events from now on."""
        if self.handler is not None:
            self.poller.bury(self.handler)      # it may be running
        self.handler = handler
        return 0

    cdef int event(self, uint32_t events) except -1:
        cdef int sent
        if events & (EPOLLRDHUP | EPOLLHUP):
            self.ended = 1
        # If a failed send has consumed the error of a reset, only a hang-up is reported; but the peer's FIN after our
        # own
        # looks the same, and then the data before it must still be read.
        if events & EPOLLERR or (events & EPOLLHUP and not (self.finished and events & EPOLLIN)):
            return self.handler.on_broken(self)
        if events & EPOLLOUT and self.out_len:
            sent = self.flush()
            if sent == SENT_BROKEN:
                return self.handler.on_broken(self)
            if sent == SENT_ALL:
                self.handler.on_drained(self)
        if self.fd >= 0 and events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP):
            self.readable = self.wire_readable = 1
            self.handler.on_input(self)
        return 0

    cdef ssize_t recv(self, char *to, size_t n) except? -9:
        """Read at most n bytes: their count, RECV_END, RECV_AGAIN or RECV_BROKEN. Clears `readable` when drained.

        A write being composed is committed first: it may refer to the buffer that is read into.
        """
        cdef ssize_t got
        if self.poller.composer != NULL:
            self.poller.settle()
        if self.fd < 0:
            return RECV_BROKEN
        if self.ssl != NULL:
            return self._recv_tls(to, n)
        while True:
            got = c_recv(self.fd, to, n, 0)
            if got > 0:
                # A short read drains the socket; only a FIN can remain, and an event reports that.
                if <size_t>got < n and not self.ended:
                    self.readable = 0
                return got
            if got == 0:
                self.readable = 0
                self.ended = 1
                return RECV_END
            if errno == EINTR:
                continue
            self.readable = 0
            return RECV_AGAIN if errno == EAGAIN else RECV_BROKEN

    cdef int start_tls(self, SSL *ssl, object owner) except -1:
        """All from here on is TLS by `ssl`, which is this connection's now, beginning with the handshake: a client's is
        carried by the first reads, one with a server by `handshake`. `owner` lives as long as `ssl`."""
        cdef BIO *bio = BIO_new(_bio_method)
        if bio == NULL:
            SSL_free(ssl)
            raise MemoryError
        self.ssl = ssl
        self.tls = owner
        BIO_set_data(bio, <void *>self)
        BIO_set_init(bio, 1)
        SSL_set_bio(self.ssl, bio, bio)
        return 0

    cdef int handshake(self) except? -9:
        """Go on with a handshake: SENT_ALL when it is complete, RECV_AGAIN, or RECV_BROKEN, and then `tls_error`."""
        cdef int why = 0, got
        self.poller.cut = False
        got = SSL_do_handshake(self.ssl)
        if got != 1:
            why = SSL_get_error(self.ssl, got)
            if why != SSL_ERROR_WANT_READ:
                self._note_tls_error()
                if SSL_get_verify_result(self.ssl) != X509_V_OK:
                    self.tls_error = -<int>SSL_get_verify_result(self.ssl)
        if self.poller.cipher_len and self._flush_tls() == SENT_BROKEN and not self.tls_error:
            self.tls_error = -TLS_REASON
        if self.tls_error:
            return RECV_BROKEN
        return SENT_ALL if got == 1 else RECV_AGAIN

    cdef int _note_tls_error(self) except -1:
        """Keep the reason of OpenSSL's newest failure; a connection that just ended has none."""
        cdef unsigned long error = ERR_get_error()
        self.tls_error = -TLS_REASON
        if error and not self.poller.cut and ERR_GET_LIB(error) == ERR_LIB_SSL:
            self.tls_error -= ERR_GET_REASON(error)
        ERR_clear_error()
        return 0

    cdef ssize_t _recv_tls(self, char *to, size_t n) except? -9:
        """As recv: as many records as are available and fit. Handshake messages are sent from here."""
        cdef Poller o = self.poller
        cdef size_t at = 0
        cdef int got, why
        o.cut = False
        while at < n:
            got = SSL_read(self.ssl, to + at, <int>(n - at))
            if got > 0:
                at += got
                continue
            why = SSL_get_error(self.ssl, got)
            if why != SSL_ERROR_WANT_READ:
                if why == SSL_ERROR_ZERO_RETURN or o.cut:
                    ERR_clear_error()
                elif not self.tls_error:
                    self._note_tls_error()
            if o.cipher_len and self._flush_tls() == SENT_BROKEN:       # may be the alert with the reason
                why = -1
            if at:
                if why == SSL_ERROR_WANT_READ:
                    self.readable = 0
                return at                   # a later call reports the rest
            self.readable = 0
            if why == SSL_ERROR_WANT_READ:
                return RECV_AGAIN
            # A FIN without close_notify is an end, too: the framing of the messages shows whether anything is missing.
            if why == SSL_ERROR_ZERO_RETURN or o.cut:
                self.ended = 1
                self.truncated = why != SSL_ERROR_ZERO_RETURN
                return RECV_END
            return RECV_BROKEN
        if o.cipher_len:
            self._flush_tls()
        return at

    cdef int _write_tls(self, int count) except -1:
        """Encrypt and send the pieces; as commit. All records but the last are full, independent of the pieces."""
        cdef Poller o = self.poller
        cdef char record[RECORD]
        cdef const char *p = <const char *>o.pieces[0].iov_base
        cdef size_t n = o.pieces[0].iov_len, step, at = 0
        cdef bint good = True
        cdef int i
        if count == 1:
            good = SSL_write(self.ssl, p, <int>n) > 0
        else:
            for i in range(count):
                p = <const char *>o.pieces[i].iov_base
                n = o.pieces[i].iov_len
                while n and good:
                    if at == 0 and n >= RECORD:
                        step = n - n % RECORD
                        good = SSL_write(self.ssl, p, <int>step) > 0
                    else:
                        step = min(n, RECORD - at)
                        memcpy(record + at, p, step)
                        at += step
                        if at == RECORD:
                            good = SSL_write(self.ssl, record, RECORD) > 0
                            at = 0
                    p += step
                    n -= step
            if at and good:
                good = SSL_write(self.ssl, record, <int>at) > 0
        if not good:
            ERR_clear_error()
            o.cipher_len = 0
            return SENT_BROKEN
        return self._flush_tls()

    cdef int _flush_tls(self) except -1:
        cdef Poller o = self.poller
        cdef size_t n = o.cipher_len
        o.cipher_len = 0
        return self._send(o.cipher, n)

    cdef ssize_t relay(self, Conn source, size_t left) except? -9:
        """Move bytes from the source's socket to this one, without copying them; returns as source.recv, or RECV_FULL.

        `left`: remaining bytes of the body, more than WORTH; its last part is not moved, because it is copied.
        Neither side may use TLS, and nothing may be buffered here. Bytes that this socket does not take at once are
        buffered, so the pipe between the two (splice(2)) is empty again, and one per process is enough.
        """
        cdef Poller o = self.poller
        cdef ssize_t got, sent, rest
        cdef size_t n = min(<size_t>RELAY, left - TAIL)
        if o.composer != NULL:
            o.settle()                      # nothing may overtake earlier output
        if self.fd < 0 or source.fd < 0 or self.out_len:
            return RECV_FULL
        while True:
            got = splice(source.fd, NULL, o.pipe[1], NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
            if got >= 0 or errno != EINTR:
                break
        if got <= 0:
            source.readable = 0
            if got == 0:
                source.ended = 1
                return RECV_END
            return RECV_AGAIN if errno == EAGAIN else RECV_BROKEN
        rest = got
        while rest:
            sent = splice(o.pipe[0], NULL, self.fd, NULL, rest, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
            if sent > 0:
                rest -= sent
            elif errno != EINTR:
                break                       # full, or broken, which has an event of its own
        while rest:
            sent = c_read(o.pipe[0], o.gather, min(rest, GATHER))
            if sent > 0:
                self._keep(o.gather, sent)
                rest -= sent
            elif errno != EINTR:
                raise OSError(errno, "a pipe has lost its bytes")
        return got

    cdef int put(self, const char *p, size_t n) except -1:
        """Append n bytes at p to the write being composed; they must stay valid until it is committed."""
        cdef Poller o = self.poller
        cdef iovec *last
        if n == 0 or self.fd < 0:
            return 0
        if o.composer != <void *>self:
            if o.composer != NULL:
                o.settle()
            o.composer = <void *>self
        if n <= SMALL:
            if o.gathered + n > GATHER:
                self.commit()
                o.composer = <void *>self
            memcpy(o.gather + o.gathered, p, n)
            p = o.gather + o.gathered
            o.gathered += n
            if o.piece_count:
                last = &o.pieces[o.piece_count - 1]
                if <const char *>last.iov_base + last.iov_len == p:
                    last.iov_len += n
                    return 0
        if o.piece_count == PIECES:
            if o.gathered and p >= o.gather and p < o.gather + GATHER:
                # Committing empties the gather buffer; these bytes are its newest and must be kept.
                o.gathered -= n
                self.commit()
                o.composer = <void *>self
                memcpy(o.gather, p, n)
                p = o.gather
                o.gathered = n
            else:
                self.commit()
                o.composer = <void *>self
        o.pieces[o.piece_count].iov_base = <void *>p
        o.pieces[o.piece_count].iov_len = n
        o.piece_count += 1
        return 0

    cdef int put_soon(self, const char *p, size_t n) except -1:
        """As put, for bytes that will not stay valid: those that are not copied are committed at once."""
        self.put(p, n)
        return self.commit() if n > SMALL else 0

    cdef int commit(self) except -1:
        """Send the composed write: SENT_ALL, SENT_PART (the rest is buffered and sent later) or SENT_BROKEN."""
        cdef Poller o = self.poller
        cdef int sent, count = o.piece_count
        if o.composer != <void *>self:
            return SENT_PART if self.out_len else SENT_ALL
        o.composer = NULL
        o.piece_count = 0
        o.gathered = 0
        sent = self._write(count)
        if sent == SENT_BROKEN:
            if self.handler is not None:
                self.handler.on_send_failed(self)
            else:
                self.on_send_failed()
        return sent

    cdef int commit_last(self) except -1:
        """As commit, before a shutdown: data, close_notify and FIN leave in one segment instead of three."""
        self.more = MSG_MORE
        return self.commit()

    cdef int _write(self, int count) except -1:
        """Send the first `count` pieces; as commit."""
        cdef Poller o = self.poller
        cdef msghdr msg
        cdef ssize_t sent = 0
        cdef size_t total = 0
        cdef int i
        if self.fd < 0 or self.finished:
            return SENT_BROKEN
        if self.ssl != NULL:
            return self._write_tls(count)
        if count == 1:
            return self._send(<char *>o.pieces[0].iov_base, o.pieces[0].iov_len)
        if not self.out_len:
            for i in range(count):
                total += o.pieces[i].iov_len
            memset(&msg, 0, sizeof(msg))
            msg.msg_iov = o.pieces
            msg.msg_iovlen = count
            sent = sendmsg(self.fd, &msg, MSG_NOSIGNAL | self.more)
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    return SENT_BROKEN
                sent = 0
            if <size_t>sent == total:
                return SENT_ALL
        for i in range(count):
            if <size_t>sent >= o.pieces[i].iov_len:
                sent -= o.pieces[i].iov_len
            else:
                self._keep(<char *>o.pieces[i].iov_base + sent, o.pieces[i].iov_len - sent)
                sent = 0
        return SENT_PART

    cdef int _send(self, const char *p, size_t n) except -1:
        cdef ssize_t sent
        if self.out_len == 0:
            sent = c_send(self.fd, p, n, MSG_NOSIGNAL | self.more)
            if sent == <ssize_t>n:
                return SENT_ALL
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    return SENT_BROKEN
                sent = 0
            p += sent
            n -= sent
        self._keep(p, n)
        return SENT_PART

    cdef int _keep(self, const char *p, size_t n) except -1:
        cdef size_t wanted = self.out_at + self.out_len + n
        cdef void *grown
        if wanted > self.out_capacity:
            wanted = (wanted + 4095) & ~<size_t>4095
            grown = realloc(self.out, wanted)
            if grown == NULL:
                raise MemoryError
            self.out = <char *>grown
            self.out_capacity = <uint32_t>wanted
        memcpy(self.out + self.out_at + self.out_len, p, n)
        self.out_len += <uint32_t>n
        return 0

    cdef int flush(self) except -1:
        """Send buffered bytes; as commit."""
        cdef ssize_t sent
        while self.out_len:
            sent = c_send(self.fd, self.out + self.out_at, self.out_len, MSG_NOSIGNAL)
            if sent < 0:
                if errno == EAGAIN or errno == EINTR:
                    return SENT_PART
                return SENT_BROKEN
            self.out_at += <uint32_t>sent
            self.out_len -= <uint32_t>sent
        free(self.out)
        self.out = NULL
        self.out_at = self.out_capacity = 0
        return SENT_ALL

    cdef int shutdown(self) except -1:
        """Send a FIN; under TLS a close_notify first."""
        if self.fd < 0 or self.finished:
            return 0
        self.more = MSG_MORE
        if self.poller.composer != NULL:
            self.poller.settle()
        if self.ssl != NULL:
            SSL_shutdown(self.ssl)
            ERR_clear_error()
            if self.poller.cipher_len:
                self._flush_tls()
        self.finished = 1
        c_shutdown(self.fd, SHUT_WR)
        return 0

    cdef int close(self) except -1:
        """Close the socket; no callback follows."""
        cdef int fd = self.fd
        if fd >= 0:
            if self.poller.composer == <void *>self:
                self.poller.forget_pieces()
            self.poller.remove(self)
            self.drop_slot()
            self.fd = -1
            c_close(fd)
            if self.ssl != NULL:
                # Whatever ends a connection, its session may go on in another one (RFC 5246 section 7.2.1).
                SSL_set_shutdown(self.ssl, SSL_SENT_SHUTDOWN)
                SSL_free(self.ssl)
                self.ssl = NULL
            self.out_len = 0
        return 0

    cdef int reset(self) except -1:
        """Reset the connection, so that the peer cannot mistake a part for the whole; unsent bytes are dropped."""
        cdef linger off
        off.l_onoff = 1
        off.l_linger = 0
        if self.fd >= 0:
            setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off))
        return self.close()

    cdef int64_t unacknowledged(self) noexcept:
        """Bytes that the peer's kernel has not acknowledged, or that could not be sent yet."""
        cdef int unsent = 0
        if self.fd >= 0:
            ioctl(self.fd, SIOCOUTQ, &unsent)
        return unsent + <int64_t>self.out_len

    cdef int on_input(self) except -1:
        raise NotImplementedError

    cdef int on_drained(self) except -1:
        return 0

    cdef int on_broken(self) except -1:
        return self.close()

    cdef int on_send_failed(self) except -1:
        return 0

    cdef int on_deadline(self) except -1:
        if self.handler is not None:
            return self.handler.on_deadline(self)
        return self.close()


# The BIO of OpenSSL: reads a connection's socket, and writes to the buffer that is sent after each step.

cdef int _bio_read(BIO *bio, char *to, int n) noexcept:
    cdef Conn conn = <Conn>BIO_get_data(bio)
    cdef ssize_t got
    BIO_clear_retry_flags(bio)
    while conn.wire_readable:
        got = c_recv(conn.fd, to, n, 0)
        if got > 0:
            if got < n and not conn.ended:
                conn.wire_readable = 0
            return <int>got
        if got == 0:
            conn.poller.cut = True          # and again on every later read
            return 0
        if errno != EINTR:
            conn.wire_readable = 0
            if errno != EAGAIN:
                return -1
    BIO_set_retry_read(bio)
    return -1


cdef int _bio_write(BIO *bio, const char *p, int n) noexcept:
    cdef Poller o = (<Conn>BIO_get_data(bio)).poller
    cdef size_t wanted = o.cipher_len + n
    cdef void *grown
    if wanted > o.cipher_capacity:
        wanted += SCRATCH
        grown = realloc(o.cipher, wanted)
        if grown == NULL:
            return -1
        o.cipher = <char *>grown
        o.cipher_capacity = wanted
    memcpy(o.cipher + o.cipher_len, p, n)
    o.cipher_len += n
    return n


cdef long _bio_control(BIO *bio, int command, long value, void *data) noexcept:
    return 1 if command == BIO_CTRL_FLUSH else 0


cdef BIO_METHOD *_bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection")
if (_bio_method == NULL or not BIO_meth_set_read(_bio_method, _bio_read)
        or not BIO_meth_set_write(_bio_method, _bio_write) or not BIO_meth_set_ctrl(_bio_method, _bio_control)):
    raise MemoryError
