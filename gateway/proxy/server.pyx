"""Servers and the connections to them: connecting, pooling, closing. The handler does the protocol.

The states of a connection:

    S_CONNECTING ── connected ──► S_BUSY ── rest ──► S_IDLE ── borrow ──► S_BUSY …
                                     (rest_apart, take: the same for one client alone, outside of the pool)
         │ refused, timed out        │ close            │ closed by the server, idle for too long
         ▼                           ▼                  ▼
      S_CLOSED                    S_CLOSED           S_CLOSED

In TLS it is connected when the handshake is complete.
"""

import hashlib
import socket
import struct

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EADDRNOTAVAIL, EAFNOSUPPORT, ECONNREFUSED, EINPROGRESS, ENETUNREACH, errno
from libc.stdint cimport uint32_t
from posix.unistd cimport close as c_close

from gateway.proxy.conn cimport FOREVER, RECV_AGAIN, RECV_BROKEN, SENT_ALL, SENT_BROKEN
from gateway.proxy.openssl cimport SSL_session_reused
from gateway.board cimport CountRow
from gateway.outcome cimport TLS_REASON
from gateway.proxy.states cimport Machine, edges_of, step

from gateway.config.address import other_localhost

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_NOSIGNAL, SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC, SOL_SOCKET, SO_ERROR
    ssize_t c_send "send"(int fd, const void *buf, size_t n, int flags)
    int c_socket "socket"(int domain, int kind, int protocol)
    cdef struct sockaddr:
        pass
    int c_connect "connect"(int fd, const sockaddr *address, unsigned int n)
    int setsockopt(int fd, int level, int name, const void *value, unsigned int n)
    int getsockopt(int fd, int level, int name, void *value, unsigned int *n)

cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP, EPOLLET

cdef enum:
    MAX_IDLE = 1024         # connections kept per server and worker
    MAX_NAMES = 256         # that a server in TLS is called by clients at a time

cdef int AF_UNIX = socket.AF_UNIX
STATES = ("connecting", "busy", "idle", "closed")

cdef Machine _machine
_machine.next[<int>S_CONNECTING] = 1 << S_BUSY | 1 << S_CLOSED
_machine.next[<int>S_BUSY] = 1 << S_IDLE | 1 << S_CLOSED
_machine.next[<int>S_IDLE] = 1 << S_BUSY | 1 << S_CLOSED


def edges():
    """{(state, next state): number of transitions in this process} for every possible transition."""
    return edges_of(&_machine, STATES)


def sockaddr_of(address):
    """The C socket address of a (host, port) with a literal IP address, or of a Unix socket's path, as bytes."""
    if isinstance(address, str):
        return struct.pack("=H", socket.AF_UNIX) + address.encode() + b"\0"
    host, port = address
    if ":" in host:
        return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0) + socket.inet_pton(
            socket.AF_INET6, host) + struct.pack("=I", 0)
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def address_text(address):
    """An address in the notation of the site file."""
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


cdef class Server:
    """A server at `address`, in row `slot` of the board; reloads that do not change it keep the object.

    localhost: the configured name is localhost: if 127.0.0.1 fails, ::1 is tried, and vice versa. proxy_version: of the
    PROXY header that begins each connection, 0 for none.
    """

    def __init__(self, str backend, str name, address, Board board, int slot, int worker, bint localhost=False,
                 int proxy_version=0):
        self.backend = backend
        self.name = name
        self.log_name = name.encode()
        self.address = address
        self.board = board
        self.slot = slot
        self.worker = worker
        self.linked = board.link(slot, worker)
        self.proxy_version = proxy_version
        self.sockaddr = sockaddr_of(address)
        if localhost:
            self.other = sockaddr_of((other_localhost(address[0]), address[1]))
        self.said = {}
        # The same on every gateway of a site, and does not reveal a machine's name to the client.
        self.token = hashlib.blake2b(f"{backend}\0{name}".encode(), digest_size=8).digest()

    def __repr__(self):
        return f"<Server {self.backend}/{self.name} {self.idle} idle>"

    @property
    def opened(self):
        """Connections that this worker has begun."""
        return self.linked.opened

    @property
    def reused(self):
        """Requests of this worker that took an idle connection."""
        return self.linked.reused

    def retire(self):
        """The server is no longer in the site file: close idle connections, and pool none that come back."""
        cdef ServerConn conn
        self.gone = True
        while (conn := self.last) is not None:
            self.leave(conn)
            conn.close()

    cdef void rest(self, ServerConn conn) noexcept:
        """Add a connection to the pool. The pool is a chain: a list would shrink and grow with each request."""
        conn.resting = True
        conn.older = self.last
        if conn.older is not None:
            conn.older.newer = conn
        self.last = conn
        self.idle += 1

    cdef void leave(self, ServerConn conn) noexcept:
        """Remove a connection from the pool if it is there."""
        if not conn.resting:
            return
        conn.resting = False
        if conn.newer is not None:
            conn.newer.older = conn.older
        else:
            self.last = conn.older
        if conn.older is not None:
            conn.older.newer = conn.newer
        conn.older = conn.newer = None
        self.idle -= 1

    cdef ServerConn borrow(self, Work work):
        """The most recently used idle connection that is suitable for `work`, or None."""
        cdef ServerConn conn
        while (conn := self.last) is not None:
            self.leave(conn)
            if conn.fd >= 0:
                conn.become(S_BUSY)
                conn.deadline(FOREVER)
                self.linked.reused += 1
                return conn
        return None

    cdef bint turn(self, int error) noexcept:
        """A connection failed with `error`: whether there is another address, which is used from now on."""
        if self.other is None or error not in (ECONNREFUSED, EADDRNOTAVAIL, EAFNOSUPPORT, ENETUNREACH):
            return False
        self.sockaddr, self.other = self.other, self.sockaddr
        return True

    cdef ServerConn connect(self, Poller poller, Work work):
        """Start a connection for `work`, which is notified later; None if it failed at once: see `error`."""
        cdef const char *address = PyBytes_AS_STRING(self.sockaddr)
        cdef int family = (<unsigned short *>address)[0]
        cdef unsigned int length = <unsigned int>PyBytes_GET_SIZE(self.sockaddr)
        cdef int one = 1
        cdef ServerConn conn
        cdef int fd = c_socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if fd < 0:
            self.error = errno
            return None
        if family != AF_UNIX:
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        if c_connect(fd, <const sockaddr *>address, length) < 0 and errno != EINPROGRESS:
            self.error = errno
            c_close(fd)
            return None
        conn = ServerConn.__new__(ServerConn)
        conn.server = self
        conn.state = S_CONNECTING
        conn.work = work
        conn.fin = family == AF_UNIX
        if self.proxy_version:
            conn.introduced = work.introduction(self.proxy_version)
            conn.private = P_INTRODUCED
            conn.silent = 1
        try:
            conn.attach(poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
        except OSError as error:        # the kernel's limit on watches; the object closes the descriptor
            self.error = error.errno
            return None
        self.linked.opened += 1
        return conn


cdef class TlsServer(Server):
    """As Server, in TLS by `context`. called: the name that its certificate must be for; "": there is none; None: the
    host that each client asks for."""

    def __init__(self, ClientContext context, called, *args, bint localhost=False, int proxy_version=0):
        Server.__init__(self, *args, localhost=localhost, proxy_version=proxy_version)
        self.context = context
        self.called = called
        self.by_name = {}
        if called is not None:
            self.peer = Peer(context, called)

    cdef Peer peer_of(self, Work work):
        """By what name the server is spoken to for `work`; of names that clients choose, the oldest is forgotten."""
        cdef bytes name
        if self.called is not None:
            return self.peer
        name = work.server_name()
        peer = self.by_name.get(name)
        if peer is None:
            if len(self.by_name) >= MAX_NAMES:
                del self.by_name[next(iter(self.by_name))]
            peer = self.by_name[name] = Peer(self.context, name.decode("ascii", "replace"))
        return peer

    cdef ServerConn borrow(self, Work work):
        """One of another name was made for other clients, and may lead elsewhere."""
        cdef ServerConn conn = self.last
        cdef Peer peer
        if self.called is not None:
            return Server.borrow(self, work)
        peer = self.peer_of(work)
        while conn is not None and conn.tls is not peer:
            conn = conn.older
        if conn is None:
            return None
        self.leave(conn)
        self.rest(conn)                 # as the last one
        return Server.borrow(self, work)

    cdef ServerConn connect(self, Poller poller, Work work):
        cdef ServerConn conn = Server.connect(self, poller, work)
        cdef Peer peer
        if conn is not None:
            peer = self.peer_of(work)
            conn.start_tls(peer.open(), peer)
        return conn


cdef class ServerConn(Conn):
    cdef int become(self, int state) except -1:
        if not step(&_machine, self.state, state):
            raise RuntimeError(f"a connection to a server that is {STATES[self.state]} can't become {STATES[state]}")
        self.state = state
        return 0

    def __repr__(self):
        return f"<ServerConn {self.server.backend}/{self.server.name} {STATES[self.state]}>"

    cdef int event(self, uint32_t events) except -1:
        cdef Work work
        cdef int sent, error = 0
        cdef unsigned int n = sizeof(error)
        if self.state == S_BUSY:
            # A response may precede a reset: it is read first, and then the reset is seen.
            if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                self.ended = 1
                if not events & (EPOLLHUP | EPOLLERR):
                    self.fin = 1        # a reset is a hang-up, too
            if events & EPOLLOUT and self.out_len:
                sent = self.flush()
                if sent == SENT_ALL:
                    self.handler.on_drained(self)
                elif sent == SENT_BROKEN:
                    self.handler.on_send_failed(self)
            if self.state == S_BUSY and events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                self.readable = self.wire_readable = 1
                self.handler.on_input(self)
            return 0
        if self.state == S_CONNECTING:
            # In TLS it is `readable` once it is connected; then what was said before a reset is read first.
            if not self.readable and getsockopt(self.fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0:
                error = errno
            if error != 0:
                return self._connect_failed(error)
            if self.silent and events & EPOLLOUT and not self._introduce():
                return 0
            if self.ssl != NULL:
                self.readable = 1
                if events & (EPOLLRDHUP | EPOLLHUP):
                    self.ended = 1
                if events & EPOLLOUT and self.out_len and self.flush() == SENT_BROKEN:
                    return self._connect_failed(-TLS_REASON)
                self.wire_readable = 1
                return self._shake_hands()
            if events & EPOLLOUT:
                if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                    self.readable = self.wire_readable = 1
                    self.poller.turn_over(self)     # unsolicited input is read after the request has been written
                work = self.work
                self.work = None
                self.become(S_BUSY)
                work.on_connected(self)
            return 0
        # Idle: closed by the server, or unsolicited bytes (TLS messages without data are neither); or an event that is
        # older than the idle period: the client's event in the same turn of the loop has already read the data.
        if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            self.ended = 1              # no event follows: a part of a record before the end must not hide it
        self.wire_readable = 1
        if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
                and self.recv(self.poller.scratch, 1) != RECV_AGAIN):
            self.close()
        return 0

    cdef int on_input(self) except -1:
        return 0                        # queued, and borrowed and returned since

    cdef int _shake_hands(self) except -1:
        cdef Work work = self.work
        cdef CountRow *row
        cdef int how = self.handshake()
        if how == RECV_BROKEN:
            return self._connect_failed(self.tls_error)
        if how != SENT_ALL:
            return 0
        row = self.server.board.count(self.server.slot, self.server.worker)
        row.handshakes += 1
        row.resumed += SSL_session_reused(self.ssl)
        self.work = None
        # More may have come with the server's last words; it is read behind what we say.
        self.readable = self.wire_readable = 1
        self.poller.turn_over(self)
        self.become(S_BUSY)
        return work.on_connected(self)

    cdef bint _introduce(self) except -1:
        """Send the PROXY header, before TLS; False: the connection has failed. A new socket has room for all of it."""
        cdef Py_ssize_t n = PyBytes_GET_SIZE(self.introduced)
        self.silent = 0
        if c_send(self.fd, PyBytes_AS_STRING(self.introduced), n, MSG_NOSIGNAL) == n:
            return True
        self._connect_failed(errno)
        return False

    cdef int _connect_failed(self, int error) except -1:
        cdef Work work = self.work
        self.work = None
        self.close()
        return work.on_connect_failed(self, error)

    cdef int on_deadline(self) except -1:
        if self.state == S_IDLE:
            return self.close()
        return self.handler.on_deadline(self)

    cdef int on_broken(self) except -1:
        """An unexpected exception while nothing was in progress here."""
        return self.close()

    cdef int rest(self, int64_t ms) except -1:
        """No request is in progress any more: pool the connection for `ms`, if there is room for it."""
        if self.fd < 0 or self.private or self.server.gone or self.server.idle >= MAX_IDLE:
            return self.close()
        self.become(S_IDLE)
        self.server.rest(self)
        self.deadline(ms)
        return 0

    cdef int rest_apart(self, int64_t ms) except -1:
        """As `rest`, but outside of the pool: for the one client that owns it and takes it back by `take`."""
        if self.fd < 0 or self.server.gone:
            return self.close()
        self.become(S_IDLE)
        self.deadline(ms)
        return 0

    cdef bint take(self) except -1:
        """Use a private connection again; False: it has been closed."""
        if self.fd < 0 or self.state != S_IDLE:
            return False
        if self.server.gone:
            self.close()
            return False
        self.become(S_BUSY)
        self.deadline(FOREVER)
        self.server.linked.reused += 1
        return True

    cdef int close(self) except -1:
        self.server.leave(self)
        if self.ssl != NULL and self.state == S_IDLE:
            self.shutdown()             # with a close_notify: nothing was cut off
        if self.state != S_CLOSED:
            self.become(S_CLOSED)
        self.work = None
        return Conn.close(self)
