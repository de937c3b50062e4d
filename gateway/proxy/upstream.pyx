"""The servers' side: servers with their pooled connections, and the reading of responses.

An Upstream reads one response at a time, strictly, and reports it to its Receiver in pieces. It goes back to the
pool only if nothing about the connection is in doubt.
"""

import hashlib
import socket
import struct
import time
from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EINPROGRESS, errno
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove
from posix.unistd cimport close as c_close

from gateway.proxy.conn cimport FOREVER, HEAD, RECV_AGAIN, RECV_BROKEN, SCRATCH, SENT_ALL, SENT_BROKEN, WORTH
from gateway.wire.chunked cimport CHUNK_DATA, CHUNK_END, CHUNK_MORE, CHUNK_TRAILER, chunk_next, chunk_start
from gateway.wire.edit cimport FRAME_CHUNKED, FRAME_CLOSE, FRAME_LENGTH, FRAME_NONE
from gateway.wire.head cimport F_OTHER, M_HEAD, MAX_FIELDS, R_MORE, R_OK, Bounds, find_end, same_any, scan_response

from gateway.load.orca import load as _orca_load

cdef extern from "<sys/socket.h>" nogil:
    enum:
        SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC, SOL_SOCKET, SO_ERROR
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

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, int *value)

cdef extern from "<linux/sockios.h>" nogil:
    enum:
        SIOCOUTQ

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP, EPOLLET

cdef enum UpstreamState:
    U_CONNECTING = 0
    U_IDLE = 1
    U_HEAD = 2              # busy: the response's head has not come yet
    U_BODY = 3              # busy: within the response's body
    U_TUNNEL = 4            # busy: bytes go both ways, and mean nothing to us
    U_CLOSED = 5

cdef enum:
    MAX_HEAD = 64 * 1024    # of a response
    MAX_INTERIMS = 16       # 1xx responses to one request
    TURN = 4                # reads in a row before others get their turn
    MAX_IDLE = 1024         # connections kept per server and worker

LOOK_AGAIN = 0.002          # seconds, while somebody waits

cdef Head _head
cdef Bounds _bounds
_bounds.head = MAX_HEAD
_bounds.fields = MAX_FIELDS


def sockaddr_of(address):
    """The C socket address of a (host, port) with a literal IP address, or of a Unix socket's path, as bytes."""
    if isinstance(address, str):
        return struct.pack("=H", socket.AF_UNIX) + address.encode() + b"\0"
    host, port = address
    if ":" in host:
        return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0) + socket.inet_pton(
            socket.AF_INET6, host) + struct.pack("=I", 0)
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


cdef class Server:
    """A server at `address`, in row `slot` of the board; lives on over reloads that do not change it."""

    def __init__(self, str backend, str name, address, Board board, int slot, int worker):
        self.backend = backend
        self.name = name
        self.log_name = name.encode()
        self.address = address
        self.board = board
        self.slot = slot
        self.worker = worker
        self.sockaddr = sockaddr_of(address)
        # The same on every gateway of a site, and no name of a machine for the client to read.
        self.token = hashlib.blake2b(f"{backend}\0{name}".encode(), digest_size=8).digest()

    def __repr__(self):
        return f"<Server {self.backend}/{self.name} {self.idle} idle>"

    def retire(self):
        """The server is no longer in the site file: close what idles, keep nothing that comes back."""
        cdef Upstream u
        self.gone = True
        while (u := self.last) is not None:
            self.leave(u)
            u.close()

    cdef void rest(self, Upstream u) noexcept:
        """A connection is idle from now on. They are a chain: a list would shrink and grow with each request."""
        u.resting = True
        u.older = self.last
        if u.older is not None:
            u.older.newer = u
        self.last = u
        self.idle += 1

    cdef void leave(self, Upstream u) noexcept:
        """It is no more, if it was."""
        if not u.resting:
            return
        u.resting = False
        if u.newer is not None:
            u.newer.older = u.older
        else:
            self.last = u.older
        if u.older is not None:
            u.older.newer = u.newer
        u.older = u.newer = None
        self.idle -= 1

    cdef Upstream borrow(self):
        """The idle connection used last, or None."""
        cdef Upstream u
        while (u := self.last) is not None:
            self.leave(u)
            if u.fd >= 0:
                self.reused += 1
                return u
        return None

    cdef Upstream connect(self, Poller poller, Receiver receiver, int64_t timeout_ms):
        """A connection under way that will report on_connected or on_failure; None if it failed at once."""
        cdef const char *address = PyBytes_AS_STRING(self.sockaddr)
        cdef int family = (<unsigned short *>address)[0]
        cdef unsigned int length = <unsigned int>PyBytes_GET_SIZE(self.sockaddr)
        cdef int one = 1
        cdef Upstream u
        cdef int fd = c_socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if fd < 0:
            return None
        if family != AF_UNIX:
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        if c_connect(fd, <const sockaddr *>address, length) < 0 and errno != EINPROGRESS:
            c_close(fd)
            return None
        u = Upstream.__new__(Upstream)
        u.server = self
        u.state = U_CONNECTING
        u.receiver = receiver
        try:
            u.attach(poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
        except OSError:
            return None                 # the kernel's limit on watches; the descriptor goes with the object
        u.deadline(timeout_ms)
        self.opened += 1
        return u


cdef int AF_UNIX = socket.AF_UNIX


cdef class Backend:
    """The servers of a backend with its policy.

    servers: Server objects in the order of the site file; members: the same for the policy.
    timeouts: (connect, response, idle, tunnel) in seconds. affinity: None, or an Affinity of `members`.
    retries: retry.Retries. queue: None, or (limit, seconds). orca: whether servers say their load with their answers.
    traffic: the backend's row of the Board.
    """

    def __init__(self, str name, list servers, Members members, Policy policy, timeouts, affinity, retries, queue,
                 *, int traffic, bint orca=False):
        self.name = name
        self.log_name = name.encode()
        self.traffic = traffic
        self.servers = servers
        self.members = members
        self.policy = policy
        self.connect_ms, self.response_ms, self.idle_ms, self.tunnel_ms = (max(1, round(t * 1000)) for t in timeouts)
        self.retries = retries
        self.queue_limit, self.queue_ms = (queue[0], max(1, round(queue[1] * 1000))) if queue else (0, 0)
        self.waiting = deque()
        self.affinity = affinity
        self.orca = orca
        self.reads_answers = orca or (affinity is not None and self.affinity.learns)

    cdef int look_at(self, Exchange ex, const char *p, Head *h, View view) except -1:
        """Note what affinity and policy want to know of a request, while its head is there."""
        if self.affinity is not None:
            self.members.now = ex.args.now
            if self.affinity.learns:
                ex.belongs = self.affinity.find_learned(ex.head.p, ex.head.n)
            else:
                ex.belongs = self.affinity.find(p, h, view.uri, view.uri_len, view.client)
        if self.policy.keyed:
            ex.args.key = self.policy.key(p, h, view.uri, view.uri_len, view.client)
        return 0

    cdef bint moves(self, Exchange ex, int status) noexcept:
        """Whether a session goes over to the server that answers with `status`, and its client must learn of it.

        A session that has a server leaves it only for one that does better.
        """
        return (self.affinity is not None and self.affinity.marks and ex.chosen != ex.belongs
                and (ex.belongs < 0 or status < 500))

    cdef bytes read_answer(self, Exchange ex, const char *p, Head *h, int64_t now):
        """Take out of a head what is not for the client; the lines that it gets in their place."""
        cdef Server server = <Server>ex.server
        cdef bint moved = self.moves(ex, h.status)
        cdef bytes lines = b""
        cdef int i
        if self.orca:
            for i in range(h.count):
                if not is_load(p, h, i):
                    continue
                h.fields[i].drop = True
                load = _orca_load(p[h.fields[i].value:h.fields[i].value + h.fields[i].value_len])
                if load is not None:
                    server.board.hear(server.slot, server.worker, load, now)
        self.members.now = now
        if self.affinity is not None and self.affinity.learns:
            lines = self.affinity.learn(ex.chosen, p, h, ex.head.p, ex.head.n, moved)
        if moved:
            lines += self.affinity.mark(ex.chosen, now)
        return lines

    cdef int pick(self, Exchange ex) except -2:
        """Index of the server for this exchange: the one it belongs to if that will do, else the policy's; or -1."""
        cdef int k
        cdef bint tried = False
        if self.affinity is not None:
            for k in range(ex.args.tried.count):
                tried = tried or ex.args.tried.index[k] == ex.belongs
            if ex.belongs >= 0 and not tried and self.members.accepts(ex.belongs):
                return ex.belongs
        return self.members.pick(self.policy, &ex.args)

    cdef int counterpart(self, Backend before, int i) except -2:
        """Where server i of this backend in the snapshot before is now; -1 for none."""
        cdef int k
        if i >= 0:
            for k in range(self.members.count):
                if (<Server>self.servers[k]).name == (<Server>before.servers[i]).name:
                    return k
        return -1

    cdef int wake(self) except -1:
        """There may be room: it is the turn of who has waited longest, in this worker or in another."""
        cdef int64_t elsewhere
        if not self.waiting or self.called:
            return 0
        elsewhere = self.first_elsewhere(time.monotonic_ns())
        since, receiver = self.waiting[0]
        if elsewhere and elsewhere < since:
            return 0                        # they look again within milliseconds
        self.waiting.popleft()
        self.announce()
        self.called = True
        return (<Receiver>receiver).on_turn()

    cdef int announce(self) except -1:
        """Tell the other workers since when somebody waits here."""
        cdef Server server
        if not self.servers:
            return 0                        # those found by name may come and go
        server = <Server>self.servers[0]
        server.board.count(server.slot, server.worker).waiting_since = self.waiting[0][0] if self.waiting else 0
        return 0

    def adopt(self, Backend before, loop):
        """Take over from the backend of that name in the snapshot before: who waits there, and the retry budget."""
        self.retries.adopt(before.retries)
        self.waiting, before.waiting = before.waiting, self.waiting
        before.announce()
        for _, receiver in self.waiting:
            (<Receiver>receiver).on_moved(self)
        if self.waiting:
            self.announce()
            self.wait_for_room(loop)

    cdef int64_t first_elsewhere(self, int64_t now) noexcept:
        """Since when the longest waiting request of another worker waits; 0 if there is none."""
        cdef Server server
        cdef int64_t since, first = 0
        cdef int worker
        if not self.servers:
            return 0
        server = <Server>self.servers[0]
        for worker in range(self.members.workers):
            since = server.board.count(server.slot, worker).waiting_since
            # One that should have been given up long ago is of a worker that is stuck: nobody waits for it.
            if worker != server.worker and since and now - since < (self.queue_ms + 1000) * 1000000:
                if first == 0 or since < first:
                    first = since
        return first

    def look_again(self, loop):
        """Another worker may have made room: nobody tells us, so look, as long as somebody waits."""
        self.waker = None
        if self.waiting:
            self.wait_for_room(loop)
            self.wake()

    def wait_for_room(self, loop):
        if self.waker is None:
            self.waker = loop.call_later(LOOK_AGAIN, self.look_again, loop)


cdef bint is_load(const char *p, Head *h, int i) noexcept nogil:
    """Whether field i is ORCA's: endpoint-load-metrics, or the same with -bin."""
    cdef uint32_t n = h.fields[i].name_len
    return (h.fields[i].known == F_OTHER and (n == 21 or n == 25)
            and same_any(p + h.fields[i].name, b"endpoint-load-metrics-bin", n))


cdef class Receiver(Conn):
    cdef int on_turn(self) except -1:
        raise NotImplementedError

    cdef int on_moved(self, Backend backend) except -1:
        raise NotImplementedError

    cdef int on_connected(self, Upstream u) except -1:
        raise NotImplementedError

    cdef int on_interim(self, Upstream u, const char *p, Head *h) except -1:
        raise NotImplementedError

    cdef int on_head(self, Upstream u, const char *p, Head *h, int framing) except -1:
        raise NotImplementedError

    cdef int on_upgrade(self, Upstream u, const char *p, Head *h) except -1:
        raise NotImplementedError

    cdef int on_body(self, Upstream u, const char *p, size_t n) except -1:
        raise NotImplementedError

    cdef int on_relayed(self, Upstream u, size_t n) except -1:
        raise NotImplementedError

    cdef int on_trailers(self, Upstream u, const char *p, size_t n) except -1:
        raise NotImplementedError

    cdef int on_tunnel_end(self, Upstream u) except -1:
        raise NotImplementedError

    cdef int on_read_end(self, Upstream u) except -1:
        raise NotImplementedError

    cdef int on_end(self, Upstream u) except -1:
        raise NotImplementedError

    cdef int on_failure(self, Upstream u, int failure) except -1:
        raise NotImplementedError

    cdef int on_upstream_drained(self, Upstream u) except -1:
        raise NotImplementedError

    cdef int on_blocked(self) except -1:
        raise NotImplementedError


cdef class Upstream(Conn):
    """A connection to a server."""

    def __dealloc__(self):
        free(self.partial)

    def __repr__(self):
        state = ("connecting", "idle", "waiting for a head", "within a body", "tunnel", "closed")[self.state]
        return f"<Upstream {self.server.backend}/{self.server.name} {state}>"

    cdef bint is_connecting(self) noexcept:
        return self.state == U_CONNECTING

    cdef int begin(self, Receiver receiver, Exchange ex, Backend backend) except -1:
        """Start on an exchange: the request is about to be put."""
        self.receiver = receiver
        self.state = U_HEAD
        self.method = ex.method_code
        self.interims = 0
        self.request_done = 0
        self.send_failed = 0
        self.status = 0
        self.seen = 0
        self.response_ms = backend.response_ms
        self.idle_ms = backend.idle_ms
        self.deadline(FOREVER)
        return 0

    cdef int patience(self) except -1:
        """Set how long to wait now: for the server only when it is the server's turn."""
        if self.state != U_TUNNEL and (self.request_done or self.out_len):
            self.deadline(self.response_ms)
        else:
            self.deadline(FOREVER)
        return 0

    cdef int event(self, uint32_t events) except -1:
        cdef int error = 0
        cdef unsigned int n = sizeof(error)
        if self.state == U_CONNECTING:
            if getsockopt(self.fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 or error != 0:
                return self.fail(FAIL_CONNECT)
            if not events & EPOLLOUT:
                return 0
            self.receiver.on_connected(self)
        elif self.state == U_IDLE:
            # Closed by the server, or bytes nobody asked for; or an event that is older than this rest: the client's,
            # in the same turn of the loop, made us read what it is about.
            if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
                    and self.recv(self.poller.scratch, 1) != RECV_AGAIN):
                self.server.leave(self)
                self.close()
            return 0
        elif events & EPOLLOUT and self.out_len:
            error = self.flush()
            if error == SENT_BROKEN:
                return self.send_broken()
            if error == SENT_ALL:
                self.patience()
                self.receiver.on_upstream_drained(self)
        if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            self.ended = 1
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            # An answer may lie before the reset: read first, then believe it.
            self.readable = 1
            self.drive()
        return 0

    cdef int on_input(self) except -1:
        return self.drive()

    cdef int on_broken(self) except -1:
        return self.fail(FAIL_BAD)

    cdef int on_deadline(self) except -1:
        if self.state == U_CONNECTING:
            return self.fail(FAIL_CONNECT_TIMEOUT)
        if self.state == U_IDLE:
            self.server.leave(self)
            return self.close()
        return self.fail(FAIL_TIMEOUT)

    cdef int send_broken(self) except -1:
        """The server takes nothing more. It may have said why before it went."""
        self.send_failed = 1
        self.out_len = 0
        self.readable = 1
        self.deadline(self.response_ms)
        return self.drive()

    cdef int drive(self) except -1:
        """Read and report for as long as there is something and the receiver takes it."""
        cdef ssize_t got
        cdef int turn = 0
        cdef void *grown
        while self.fd >= 0 and self.readable and U_HEAD <= self.state <= U_TUNNEL:
            if self.receiver.out_len:
                self.deadline(FOREVER)      # the client's turn
                return self.receiver.on_blocked()
            if turn == TURN:
                return self.poller.turn_over(self)
            turn += 1
            if self.partial_len:
                if self.partial_capacity < MAX_HEAD + 32:
                    grown = realloc(self.partial, MAX_HEAD + 32)
                    if grown == NULL:
                        raise MemoryError
                    self.partial = <char *>grown
                    self.partial_capacity = MAX_HEAD + 32
                got = self.recv(self.partial + self.partial_len, self.partial_capacity - 16 - self.partial_len)
                if got > 0:
                    self.partial_len += <uint32_t>got
                    self.patience()
                    self._input(self.partial, self.partial_len)
                    continue
            elif (self.state == U_BODY and self.framing == FRAME_LENGTH and self.left > WORTH
                    and self.receiver.ssl == NULL):
                got = self.receiver.relay(self, self.left)
                if got > 0:
                    self.left -= got
                    self.patience()
                    self.receiver.on_relayed(self, got)
                    continue
            else:
                got = self.recv(self.poller.scratch, HEAD if self.state == U_HEAD else SCRATCH)
                if got > 0:
                    self.patience()
                    self._input(self.poller.scratch, got)
                    continue
            if got == RECV_AGAIN:
                return 0
            if self.state == U_TUNNEL:
                return self.fail(FAIL_TRUNCATED) if got == RECV_BROKEN else self.receiver.on_tunnel_end(self)
            if self.state == U_BODY:
                if self.framing == FRAME_CLOSE and got != RECV_BROKEN:
                    return self._end(0)
                return self.fail(FAIL_TRUNCATED)
            if self.partial_len:
                return self.fail(FAIL_BAD)
            return self.fail(FAIL_RESET_REUSED if self.served else FAIL_RESET)
        return 0

    cdef int _input(self, const char *p, size_t n) except -1:
        cdef size_t used, at = 0
        while at < n:
            used = 0
            if self.state == U_HEAD:
                self._head(p + at, n - at, &used)
                if self.state == U_HEAD and used == 0:
                    return self._keep_partial(p + at, n - at)
            else:
                self._body(p + at, n - at, &used)
            at += used
            if not U_HEAD <= self.state <= U_TUNNEL:
                return 0
            if used == 0:
                return 0
        if self.partial_len:
            self.receiver.commit()
            free(self.partial)
            self.partial = NULL
            self.partial_len = self.partial_capacity = 0
        elif self.state == U_BODY or self.state == U_TUNNEL:
            self.receiver.commit()
        return 0

    cdef int _keep_partial(self, const char *p, size_t n) except -1:
        """Keep an incomplete head of n bytes at p, which may lie in the buffer it is kept in."""
        cdef void *grown
        if n >= MAX_HEAD:
            return self.fail(FAIL_BAD)
        if self.partial == NULL:
            grown = realloc(NULL, MAX_HEAD + 32)
            if grown == NULL:
                raise MemoryError
            self.partial = <char *>grown
            self.partial_capacity = MAX_HEAD + 32
            memcpy(self.partial, p, n)
        elif p != self.partial:
            memmove(self.partial, p, n)
        self.partial_len = <uint32_t>n
        return 0

    cdef int _head(self, const char *p, size_t n, size_t *used) except -1:
        cdef uint32_t end = 0
        cdef int framing, why = find_end(p, <uint32_t>n, &self.seen, &end)
        if why == R_MORE:
            if n >= MAX_HEAD:
                self.fail(FAIL_BAD)
            return 0
        if why == R_OK and end > MAX_HEAD:
            return self.fail(FAIL_BAD)
        if why == R_OK:
            why = scan_response(p, end, &_head, &_bounds)
        if why != R_OK:
            return self.fail(FAIL_BAD)
        self.seen = 0
        used[0] = end
        if _head.status < 200:
            if _head.status == 101:
                if not _head.upgrade:
                    return self.fail(FAIL_BAD)
                self.framing = FRAME_CLOSE
                self.state = U_TUNNEL
                self.deadline(FOREVER)
                return self.receiver.on_upgrade(self, p, &_head)
            self.interims += 1
            if self.interims > MAX_INTERIMS:
                return self.fail(FAIL_BAD)
            return self.receiver.on_interim(self, p, &_head)
        if self.method == M_HEAD or _head.status == 204 or _head.status == 304:
            framing = FRAME_NONE
        elif _head.chunked:
            framing = FRAME_CHUNKED
            chunk_start(&self.chunked)
        elif _head.content_length >= 0:
            framing = FRAME_LENGTH
            self.left = _head.content_length
        else:
            framing = FRAME_CLOSE
        self.framing = framing
        self.status = _head.status
        self.keep = _head.keep_alive and framing != FRAME_CLOSE
        self.state = U_BODY
        self.receiver.on_head(self, p, &_head, framing)
        if self.state == U_BODY and (framing == FRAME_NONE or (framing == FRAME_LENGTH and self.left == 0)):
            self._end(n - end)
        return 0

    cdef int _body(self, const char *p, size_t n, size_t *used) except -1:
        cdef const char *at = p
        cdef const char *data = NULL
        cdef size_t run = 0
        cdef int event
        if self.framing == FRAME_LENGTH:
            if <int64_t>n > self.left:
                run = self.left
            else:
                run = n
            self.left -= run
            used[0] = run
            self.receiver.on_body(self, p, run)
            if self.left == 0 and self.state == U_BODY:
                self._end(n - run)
            return 0
        if self.framing == FRAME_CLOSE:
            used[0] = n
            return self.receiver.on_body(self, p, n)
        while True:
            event = chunk_next(&self.chunked, &at, p + n, &data, &run)
            if event == CHUNK_DATA:
                self.receiver.on_body(self, data, run)
                if self.state != U_BODY:
                    return 0
            elif event == CHUNK_TRAILER:
                self.receiver.on_trailers(self, data, run)
            elif event == CHUNK_MORE:
                used[0] = n
                return 0
            elif event == CHUNK_END:
                used[0] = at - p
                return self._end(p + n - at)
            else:
                # What was read up to here was good; the client gets it, and then sees that the rest is missing.
                self.receiver.commit()
                return self.fail(FAIL_TRUNCATED)

    cdef int _end(self, size_t excess) except -1:
        """The response is complete; `excess` bytes came after it."""
        cdef Receiver receiver = self.receiver
        cdef bint good = (self.keep and self.request_done and not self.send_failed and excess == 0 and not self.ended
                          and not self.readable and self.out_len == 0)
        receiver.on_read_end(self)
        free(self.partial)
        self.partial = NULL
        self.partial_len = self.partial_capacity = 0
        self.receiver = None
        self.state = U_IDLE
        if self.served < 255:
            self.served += 1
        if good and self.fd >= 0 and not self.server.gone and self.server.idle < MAX_IDLE:
            self.server.rest(self)
            self.deadline(self.idle_ms)
        else:
            self.close()
        return receiver.on_end(self)

    cdef int fail(self, int failure) except -1:
        cdef Receiver receiver = self.receiver
        self.receiver = None
        self._drop()
        if receiver is not None:
            receiver.on_failure(self, failure)
        return 0

    cdef int abandon(self) except -1:
        """The receiver wants no more of this: the server learns by the closed connection."""
        self.receiver = None
        return self._drop()

    cdef int _drop(self) except -1:
        """Close. What the server has not taken yet must not wait in our kernel until it reads, which may be never: then
        with a reset."""
        cdef int unsent = 0
        if self.fd >= 0 and self.state != U_TUNNEL:     # what a tunnel was given, it delivers
            ioctl(self.fd, SIOCOUTQ, &unsent)
        return self.reset() if self.out_len or unsent else self.close()

    cdef int close(self) except -1:
        self.state = U_CLOSED
        return Conn.close(self)
