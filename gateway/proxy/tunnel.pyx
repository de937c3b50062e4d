"""Copies bytes between two connections, both ways, until both sides have ended: after a 101, or for a TCP service.

Each direction ends on its own: a FIN (under TLS a close_notify) is passed on when the data before it has been taken,
and the other direction continues. A side is read only when the other has taken all earlier data.
"""

from gateway.proxy.conn cimport (
    RECV_AGAIN, RECV_END, RECV_FULL, RELAY, SCRATCH, TAIL, Poller,
)

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLET

cdef enum:
    TURN = 4                # consecutive reads before others get their turn


cdef class Tunnel(Handler):
    """Between `first` and `second`, for `work`, which is notified of the end; idle_ms: longest time without data."""

    def __repr__(self):
        return f"<Tunnel {self.from_first} bytes there, {self.from_second} back>"

    cdef int begin(self) except -1:
        """Handle both connections from now on."""
        self.copies = self.second.fd == NO_SOCKET
        self.first.hand_to(self)
        self.second.hand_to(self)
        self.first.deadline(self.idle_ms)
        # Data that either side has already sent is read after the event that made this tunnel.
        self.first.poller.turn_over(self.first)
        self.first.poller.turn_over(self.second)
        return 0

    cdef int give_first(self, const char *p, size_t n) except -1:
        """Pass on bytes that were read from the second side before the tunnel existed."""
        if n == 0 or self.over:
            return 0
        self.from_second += n
        self.first.put(p, n)
        return self.first.commit()

    cdef int give_second(self, const char *p, size_t n) except -1:
        """The same, in the other direction."""
        if n == 0 or self.over:
            return 0
        self.from_first += n
        self.second.put(p, n)
        return self.second.commit()

    cdef int on_reader_ready(self) except -1:
        """A client without a connection of its own takes data again."""
        return 0

    cdef int on_input(self, Conn conn) except -1:
        self._pump(conn, self.second if conn is self.first else self.first)
        if not self.over and not conn.readable and (self.first_deaf if conn is self.first else self.second_deaf):
            return self.on_broken(conn)
        return 0

    cdef int on_send_failed(self, Conn conn) except -1:
        """The connection is reset or closed; data that it has not taken is lost."""
        if conn is self.first:
            self.first_deaf = 1
        else:
            self.second_deaf = 1
        conn.out_len = 0
        conn.readable = conn.wire_readable = 1
        return conn.poller.turn_over(conn)

    cdef int _pump(self, Conn source, Conn to) except -1:
        cdef ssize_t got
        cdef int turn = 0
        cdef bint spliced
        while not self.over and source.readable and source.fd >= 0:
            if to.out_len:
                return 0                # its on_drained continues
            if turn == TURN:
                return source.poller.turn_over(source)
            turn += 1
            spliced = self.bulk and not self.copies and source.ssl == NULL and to.ssl == NULL
            if spliced:
                got = to.relay(source, RELAY + TAIL)
                if got == RECV_FULL:
                    return 0
                self.bulk = got > TAIL
            else:
                got = source.recv(source.poller.scratch, SCRATCH)
                self.bulk = got == SCRATCH
            if got > 0:
                self.first.deadline(self.idle_ms)
                if source is self.first:
                    self.from_first += got
                else:
                    self.from_second += got
                if not spliced:
                    to.put(source.poller.scratch, got)
                    to.commit()
            elif got == RECV_AGAIN:
                return 0
            elif got == RECV_END:
                return self._done(source, to)
            else:
                return self.on_broken(source)
        return 0

    cdef int _done(self, Conn source, Conn to) except -1:
        """The source has sent its last byte; the other direction continues."""
        source.readable = 0
        if source is self.first:
            self.first_done = 1
        else:
            self.second_done = 1
        if not to.out_len:
            to.shutdown()
        return self._look_over()

    cdef int on_drained(self, Conn conn) except -1:
        cdef Conn source = self.second if conn is self.first else self.first
        if self.second_done if source is self.second else self.first_done:
            conn.shutdown()
            return self._look_over()
        return source.poller.turn_over(source)

    cdef int _look_over(self) except -1:
        if self.first_done and self.second_done and not self.first.out_len and not self.second.out_len:
            return self.end(END_DONE)
        return 0

    cdef int on_broken(self, Conn conn) except -1:
        return self.end(END_CUT_BY_FIRST if conn is self.first else END_CUT_BY_SECOND)

    cdef int on_deadline(self, Conn conn) except -1:
        return self.end(END_IDLE)

    cdef int on_bug(self, Conn conn) except -1:
        return self.end(END_STOPPED)

    cdef int on_stopped(self, Conn conn) except -1:
        return self.end(END_STOPPED)

    cdef int end(self, int how) except -1:
        """Close both sides. `first` is the client's: if the server fails, the client's connection is reset, so that it
        cannot mistake a part for the whole; the server's connection is simply closed.
        """
        if self.over:
            return 0
        self.over = 1
        self.work.on_tunnel_end(how)
        for conn, cut in ((self.first, how == END_CUT_BY_SECOND or how == END_IDLE), (self.second, how == END_IDLE)):
            if cut or (<Conn>conn).out_len:
                (<Conn>conn).reset()
            else:
                (<Conn>conn).close()
        return 0

    cdef int abandon(self) except -1:
        """Close the second side: the work has ended for another reason, and has ended the first."""
        if self.over:
            return 0
        self.over = 1
        return self.second.reset() if self.second.out_len else self.second.close()


# ------------------------------------------------------------------------------------------------------------ for tests

ENDS = ("done", "idle", "cut by first", "cut by second", "stopped")


cdef class _Between(Work):
    cdef object on_end

    cdef int on_tunnel_end(self, int how) except -1:
        self.on_end(ENDS[how])
        return 0


def between(Poller poller, int first, int second, double idle_seconds, on_end):
    """A tunnel between two sockets, for tests: it owns their descriptors. on_end: called with one of ENDS."""
    cdef _Between work = _Between()
    cdef Tunnel tunnel = Tunnel()
    work.on_end = on_end
    tunnel.work = work
    tunnel.idle_ms = <int64_t>(idle_seconds * 1000)
    tunnel.first, tunnel.second = Conn(), Conn()
    tunnel.first.attach(poller, first, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
    tunnel.second.attach(poller, second, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
    tunnel.begin()
    return tunnel
