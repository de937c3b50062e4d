"""A tunnel whose first side is a stream of HTTP/2 (RFC 8441): the stream's Downstream passes on what comes from it, and
takes what the server sends.

The end of the stream is a FIN for the server, and a FIN the end of the stream; a reset of one side is a reset of the
other (RFC 8441 section 5). The server is read only while the stream's window has room, and the client gets credit for
what the server has taken.
"""

from gateway.proxy.conn cimport RECV_AGAIN, RECV_END, Conn
from gateway.proxy.tunnel cimport END_CUT_BY_FIRST, END_DONE, END_IDLE
from gateway.wire.edit cimport Out

cdef enum:
    TURN = 4                # consecutive reads before others get their turn

cdef Out _no_trailers


cdef class StreamTunnel(Tunnel):
    cdef int begin(self) except -1:
        self.second.hand_to(self)
        self.second.deadline(self.idle_ms)
        self.second.poller.turn_over(self.second)
        return self.client.resume()

    cdef int give_first(self, const char *p, size_t n) except -1:
        if n == 0 or self.over:
            return 0
        self.from_second += n
        return self.client.body(p, n)

    cdef int give_second(self, const char *p, size_t n) except -1:
        if self.over or self.second_deaf:
            return 0
        self.second.deadline(self.idle_ms)
        return Tunnel.give_second(self, p, n)

    cdef bint takes(self) noexcept:
        """Whether the server has taken all earlier data."""
        return not self.second.out_len

    cdef int end_first(self) except -1:
        """The client has sent its last byte; the other direction continues."""
        self.first_done = 1
        if not self.second.out_len:
            self.second.shutdown()
        return self._look_over()

    cdef int on_input(self, Conn conn) except -1:
        cdef ssize_t got
        cdef int turn = 0
        while not self.over and conn.readable and conn.fd >= 0:
            if not self.client.takes():
                return 0                # on_reader_ready continues
            if turn == TURN:
                return conn.poller.turn_over(conn)
            turn += 1
            got = conn.recv(conn.poller.scratch, self.client.room)
            if got > 0:
                conn.deadline(self.idle_ms)
                self.give_first(conn.poller.scratch, got)
            elif got == RECV_AGAIN:
                break
            elif got == RECV_END:
                conn.readable = 0
                self.second_done = 1
                self.client.end(&_no_trailers)
                self._look_over()
                break
            else:
                return self.on_broken(conn)
        if not self.over and not conn.readable and self.second_deaf:
            return self.on_broken(conn)
        return 0

    cdef int on_reader_ready(self) except -1:
        return self.second.poller.turn_over(self.second)

    cdef int on_drained(self, Conn conn) except -1:
        if self.first_done:
            conn.shutdown()
            return self._look_over()
        return self.client.resume()

    cdef int _look_over(self) except -1:
        if self.first_done and self.second_done and not self.second.out_len:
            return self.end(END_DONE)
        return 0

    cdef int end(self, int how) except -1:
        cdef Downstream client = self.client
        if self.over:
            return 0
        self.over = 1
        self.work.on_tunnel_end(how)
        if how != END_DONE and how != END_CUT_BY_FIRST:
            client.abort(True)
        return self.second.reset() if how == END_IDLE or self.second.out_len else self.second.close()
