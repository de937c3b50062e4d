"""Listeners accept clients, count them for their frontend and their source, and hand each connection to the
protocol of the frontend."""

import ipaddress
import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, errno

from gateway.board cimport MAX_WORKERS, SOURCE_ROWS
from gateway.outcome cimport HANDSHAKE_CLOSED, HANDSHAKE_TIMEOUT, TLS_REASON
from gateway.proxy.conn cimport Poller
from gateway.proxy.failed_handshake cimport reason_of
from gateway.proxy.openssl cimport SSL_is_init_finished
from gateway.proxy.tls cimport ServerContext
from gateway.proxy.server cimport S_IDLE
from gateway.wire.siphash cimport siphash64

from gateway.outcome import HANDSHAKES
from gateway.wire.proxy_protocol import MAX_V2 as _MAX_V2, BadHeader, parse as parse_proxy

cdef extern from "<sys/socket.h>" nogil:
    enum:
        SOCK_NONBLOCK, SOCK_CLOEXEC, AF_INET, AF_INET6, MSG_PEEK
    ssize_t c_recv "recv"(int fd, void *buf, size_t n, int flags)
    cdef struct sockaddr:
        unsigned short sa_family
    cdef struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int fd, sockaddr *address, unsigned int *n, int flags)

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *address, char *to, unsigned int n)

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLET

cdef enum:
    ACCEPTS = 64            # connections accepted per event
    PAUSE_MS = 1000         # pause of accepting when there is no room

log = logging.getLogger(__name__)

cdef size_t MAX_V2 = _MAX_V2
cdef int64_t LOG_PERIOD_NS = 10_000_000_000          # between two log lines about refused clients
cdef int64_t HANDSHAKE_PERIOD_NS = 60_000_000_000   # between two about handshakes that failed for the same reason
cdef dict _failed = {}                              # (frontend, Handshake) -> (time of the last line, number since)


cdef class Listener(Conn):
    """Accepts clients on a listening, non-blocking socket until `stop`."""

    def __init__(self, WorkerContext context, Frontend frontend, sock):
        self.context = context
        self.frontend = frontend
        self.socket = sock
        where = sock.getsockname()
        self.name = "localhost" if isinstance(where, str) else "%s:%s" % where[:2]     # a Unix socket has no host
        # Level-triggered: clients not accepted this time are reported again.
        self.attach(context.poller, sock.fileno(), EPOLLIN)

    cdef int event(self, uint32_t events) except -1:
        return self.on_input()

    cdef int on_input(self) except -1:
        cdef int _
        for _ in range(ACCEPTS):
            if self.fd < 0 or not self._accept_one():
                break
        return 0

    cdef int _accept_one(self) except -1:
        """Accept one client; return whether there may be another one."""
        cdef sockaddr_storage peer
        cdef unsigned int n = sizeof(peer)
        cdef char text[64]
        cdef ClientConn client
        cdef int fd
        if self.context.clients >= self.context.most_clients:
            # Each client may need a descriptor for a server, too: if those run out, healthy servers seem to fail.
            return self._pause("limit of %d clients reached" % self.context.clients)
        fd = accept4(self.fd, <sockaddr *>&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EMFILE or errno == ENFILE:
                return self._pause("no file descriptors left")
            return errno == EINTR or errno == ECONNABORTED
        client = ClientConn.__new__(ClientConn)
        client.context = self.context
        client.listener = self
        text[0] = 0
        if peer.ss_family == AF_INET:
            inet_ntop(AF_INET, <char *>&peer + 4, text, 64)
        elif peer.ss_family == AF_INET6:
            inet_ntop(AF_INET6, <char *>&peer + 8, text, 64)
        if peer.ss_family == AF_INET or peer.ss_family == AF_INET6:
            client.port = (<uint8_t *>&peer)[2] << 8 | (<uint8_t *>&peer)[3]
        client.address = text
        client.gauge = self.frontend.gauge
        client.gauge.row.connections += 1
        client.gauge.row.open += 1
        self.context.clients += 1
        try:
            client.attach(self.poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
        except OSError as error:
            log.error("cannot watch a new client: %s", error)
            client.fd = fd              # closed together with the object
            client._uncount()
            return False
        client.deadline(self.frontend.header_ms)
        if self.context.board.short_until[0] > self.poller.now * 1e-9:
            self.turn_away(client, "too little memory is free")
        elif self.frontend.gauge.row.open > self.frontend.connections:
            self.turn_away(client, "the frontend has reached its limit of %d connections" % self.frontend.connections)
        elif self.frontend.proxy_protocol:
            if self.frontend.trusts(client.address.decode()):
                client.handler = ProxyHeader()
            else:
                self.turn_away(client, "it is not in trusted_proxies")
        else:
            client.admit()
        return True

    cdef int _pause(self, str why) except -1:
        """Pause accepting; clients wait in the kernel's queue. Returns False."""
        self.frontend.gauge.row.pauses += 1
        if not self.said or self.poller.now - self.said > LOG_PERIOD_NS:
            self.said = self.poller.now
            log.error("out of file descriptors: %s: %s; new clients wait; raise the limit (LimitNOFILE, ulimit -n)",
                      self.frontend.name, why)
        self.poller.watch(self, 0)
        self.deadline(PAUSE_MS)
        return False

    cdef int turn_away(self, ClientConn client, str why) except -1:
        """Close a client's connection at once; log this, but not for each one. Returns False."""
        cdef Gauge gauge = self.frontend.gauge
        gauge.row.turned_away += 1
        if self.poller.now - gauge.said > LOG_PERIOD_NS:
            gauge.said = self.poller.now
            log.warning("%s: %s refused: %s", self.frontend.name, client.address.decode(), why)
        client.reset()
        return False

    cdef int on_deadline(self) except -1:
        """The pause has ended."""
        self.poller.watch(self, EPOLLIN)
        return 0

    def accept_waiting(self):
        """Accept the clients that wait in the kernel's queue, before the socket is closed."""
        cdef int _
        for _ in range(100000):
            if self.fd < 0 or not self._accept_one():
                return

    def stop(self):
        """Stop accepting. The socket object stays with its owner."""
        if self.fd >= 0:
            self.poller.forget(self)
            self.drop_slot()
            self.fd = -1


cdef class ClientConn(Conn):
    def __repr__(self):
        return f"<ClientConn {self.address.decode()}:{self.port} {self.handler!r}>"

    cdef int admit(self) except -1:
        """The client's address is known: count it for its source, and start its protocol. False: it was refused."""
        cdef Frontend frontend = self.listener.frontend
        if frontend.tls is not None and frontend.handshake_rate.interval and not self._may_negotiate():
            return self.listener.turn_away(self, "its source begins too many TLS handshakes")
        if not self._count_source():
            return self.listener.turn_away(
                self, "its source has reached the limit of %d connections" % frontend.connections_per_source)
        if frontend.tls is not None:
            self.start_tls((<ServerContext>frontend.tls).accept(self.gauge.row), frontend.tls)
        self.hand_to(frontend.protocol.open(self, self.context))
        return True

    cdef bytes _source(self):
        """What is counted as one source, or None: all clients of a Unix socket or trusted proxy would count as one."""
        cdef bytes source = self.address
        if not source or self.listener.frontend.trusts(source.decode()):
            return None
        # A client with one IPv6 address usually has its /64.
        return ipaddress.ip_address(source.decode()).packed[:8] if b":" in source else source

    cdef bint _may_negotiate(self) except -1:
        """Count a TLS handshake for its source; False, and not counted, if the source is over its rate."""
        cdef Frontend frontend = self.listener.frontend
        cdef bytes source = self._source()
        cdef uint64_t key
        if source is None:
            return True
        key = siphash64(<const uint8_t *>PyBytes_AS_STRING(frontend.handshake_key),
                        <const uint8_t *>PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source))
        return self.context.admission.rates.take(key, &frontend.handshake_rate, self.poller.now, 0) == 0

    cdef int _count_source(self) except -1:
        """Count this connection for its source; False, and not counted, if the source has reached its limit."""
        cdef bytes source = self._source()
        cdef int row
        if source is None:
            return True
        for row in range(SOURCE_ROWS):
            self.cells[row] = self.context.board.source_cell(row, PyBytes_AS_STRING(source),
                                                             <uint32_t>PyBytes_GET_SIZE(source))
        if self.context.board.from_source(self.cells) >= self.listener.frontend.connections_per_source:
            return False
        for row in range(SOURCE_ROWS):
            self.context.board.source_cells[self.cells[row] * MAX_WORKERS + self.context.worker] += 1
        self.source_counted = True
        return True

    cdef int _uncount(self) except -1:
        cdef int row
        if self.gauge is not None:
            self.gauge.row.open -= 1
            self.gauge = None
            self.context.clients -= 1
        if self.source_counted:
            self.source_counted = False
            for row in range(SOURCE_ROWS):
                self.context.board.source_cells[self.cells[row] * MAX_WORKERS + self.context.worker] -= 1
        return 0

    cdef int close(self) except -1:
        cdef ServerConn own = self.own
        if own is not None:
            self.own = None
            if own.state == S_IDLE:     # else a request or a tunnel uses it
                own.close()
        if self.ssl != NULL and self.gauge is not None and not SSL_is_init_finished(self.ssl):
            self._note_failed_handshake()
        self._uncount()
        return Conn.close(self)

    cdef int _note_failed_handshake(self) except -1:
        """Count it by its reason, and log one in a minute of those that failed for the same."""
        cdef int why = HANDSHAKE_CLOSED if self.ended else HANDSHAKE_TIMEOUT
        cdef int64_t now = self.poller.now, last
        cdef str frontend = self.listener.frontend.name
        if self.tls_error and not (self.ended and self.tls_error == -TLS_REASON):
            why = reason_of(self.tls_error)
        elif not self.ended and self.context.draining:
            return 0
        self.gauge.row.failed_handshakes[why] += 1
        last, more = _failed.get((frontend, why), (0, 0))
        if last and now - last < HANDSHAKE_PERIOD_NS:
            _failed[frontend, why] = last, more + 1
            return 0
        _failed[frontend, why] = now, 0
        log.info("%s: TLS handshake of %s failed: %s: %s%s", frontend, self.address.decode(), *HANDSHAKES[why],
                 f" ({more} similar ones since)" if more else "")
        return 0


cdef class ProxyHeader(Handler):
    cdef int on_input(self, Conn conn) except -1:
        cdef ClientConn client = <ClientConn>conn
        cdef char *scratch = client.poller.scratch
        cdef ssize_t got = c_recv(client.fd, scratch, MAX_V2, MSG_PEEK)
        if got < 0 and (errno == EAGAIN or errno == EINTR):
            client.readable = 0
            return 0
        try:
            header = parse_proxy(scratch[:got]) if got > 0 else None
        except BadHeader as error:
            return client.listener.turn_away(client, f"no PROXY header: {error}")
        if header is None:
            client.readable = 0
            if got <= 0 or client.ended:
                client.close()
            return 0
        c_recv(client.fd, scratch, header.length, 0)
        if header.source is not None:
            client.address = header.source.encode()
            client.port = header.port
        if client.admit():
            client.readable = client.wire_readable = 1
            client.handler.on_input(client)
        return 0

    cdef int on_broken(self, Conn conn) except -1:
        return conn.close()


def announce_drain(Poller poller):
    """Tell every client connection that the worker is about to drain."""
    cdef int fd
    cdef Conn conn
    for fd in range(poller.highest + 1):
        if fd <= poller.highest and poller.table[fd] != NULL and isinstance(<object>poller.table[fd], ClientConn):
            conn = <Conn>poller.table[fd]
            if conn.handler is not None:
                conn.handler.on_draining(conn)
    poller.settle()


def retire_clients(Poller poller):
    """Tell every client connection that the worker drains; return how many remain."""
    cdef int fd, left = 0
    cdef Conn conn
    for fd in range(poller.highest + 1):
        if fd <= poller.highest and poller.table[fd] != NULL and isinstance(<object>poller.table[fd], ClientConn):
            conn = <Conn>poller.table[fd]
            if conn.handler is not None:
                conn.handler.retire(conn)
            if conn.fd >= 0:
                left += 1
    poller.settle()
    return left
