"""Lines of JSON about requests, sent to another process over a socket of packets (SOCK_SEQPACKET).

Nothing waits for the reader. What does not fit into the socket stays in the buffer, and lines for which there is no
room are counted; the reader is told by {"lost": n} as soon as it reads again.
"""

import time

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, EMSGSIZE, ENOBUFS, errno
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from gateway.proxy.log import layout

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT, MSG_NOSIGNAL
    ssize_t c_send "send"(int fd, const void *p, size_t n, int flags)

cdef enum:
    FULL = 24 * 1024            # bytes in the buffer: sent at once; while that fails, lines are counted and not kept

DELAY = 0.1
"""Seconds that a line waits for others in its packet."""


cdef class Packets:
    """fd: the writing end, which stays the caller's. Records have the fields of the access log in JSON, and more."""

    def __init__(self, loop, int fd):
        self.loop = loop
        self.fd = fd
        pairs = layout("json", (), classes=True, sessions=True, rules=True, users=True)
        self.lines = AccessLog(None, fd, "json", pairs)

    def close(self):
        """Send what is left, if it is taken at once, and stop."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.ended:
            self.send()
        self.ended = True

    cdef bint full(self) noexcept:
        """Whether there is no room for another line: it is lost, and must be counted."""
        return self.lines.n > FULL

    cdef int add_record(self, Transaction t, int64_t now) except -1:
        """Add the record of a request that has ended; not if it is `full`."""
        self.lines.add(t, now)
        self.count += 1
        if self.lines.n > FULL:
            self.send()
        return self.send_later()

    cdef bint add_line(self, bytes line) except -1:
        """Add a line as it is, to be sent with what comes next; False: there is no room, and it is counted as lost."""
        cdef uint32_t n = <uint32_t>PyBytes_GET_SIZE(line)
        if self.lines.n > FULL or n > FULL:
            self.lost += 1
            return False
        memcpy(self.lines.buffer + self.lines.n, PyBytes_AS_STRING(line), n)
        self.lines.n += n
        return True

    cdef int send_later(self) except -1:
        """Send what is left after a while."""
        if (self.lines.n or self.lost) and self.timer is None and not self.ended:
            self.timer = self.loop.call_later(DELAY, self._due)
        return 0

    def _due(self):
        self.timer = None
        self.send()
        self.send_later()

    cdef int send(self) except -1:
        """Send what is in the buffer, as one packet, if the socket has room; note that nobody reads any more."""
        cdef bytes said
        cdef int error
        self.lines.clock = time.time_ns() - time.monotonic_ns()     # the wall clock may have been adjusted
        if self.lost:
            said = b'{"lost": %d}\n' % self.lost
            error = self._packet(PyBytes_AS_STRING(said), <size_t>PyBytes_GET_SIZE(said))
            if error:
                return 0
            self.lost = 0
        if self.lines.n:
            error = self._packet(self.lines.buffer, self.lines.n)
            if error == EAGAIN:
                return 0
            if error:
                self.lost += self.count
            self.lines.n = 0
            self.count = 0
        return 0

    cdef int _packet(self, const char *p, size_t n) except -2:
        """Send a packet; 0, or EAGAIN: later, or another error: it cannot be sent."""
        cdef int error
        if c_send(self.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0:
            return 0
        error = errno
        if error == EAGAIN or error == EINTR:
            return EAGAIN
        if error != EMSGSIZE and error != ENOBUFS:
            self.ended = True
        return error
