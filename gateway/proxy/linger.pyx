"""How long the gateway waits for a client to read the end of what was sent, for HTTP/1 and HTTP/2.

The kernel resets a connection that is closed with unread input, or that gets input after it was closed, and the reset
destroys what the client has not read yet. So the gateway sends its FIN, and discards further input until the client
closes (RFC 9112 section 9.6). HTTP/2 needs that most: a client that reads sends WINDOW_UPDATE.
"""

cdef int64_t LINGER_NS = 30_000_000_000         # limit on discarding a client's data, as in nginx


cdef int linger_begin(Linger *l, Conn conn, int pause, int longest, size_t discarded) except -1:
    """Begin to wait, after the FIN; pause, longest: in ms; discarded: bytes that were read already."""
    l.since = conn.poller.now
    l.discarded = discarded
    l.unread = -1
    l.pause = pause
    l.longest = longest
    conn.deadline(pause)
    return 0


cdef int linger_goes_on(Linger *l, Conn conn, ssize_t got, double rate) except -1:
    """Whether to wait on after `got` more bytes have been discarded; rate: the fewest bytes per second of a client that
    has read all and still sends."""
    cdef int64_t passed = conn.poller.now - l.since
    l.discarded += got
    if passed > LINGER_NS or (passed > LINGER_PAUSE_MS * 1000000 and l.discarded * 1e9 < rate * passed
                              and not conn.unacknowledged()):
        return False
    conn.deadline(LINGER_PAUSE_MS)
    return True


cdef int linger_waits(Linger *l, Conn conn) except -1:
    """Whether to wait on at the end of a pause: the client has acknowledged more, or the longest pause has not come."""
    cdef int64_t before = l.unread
    l.unread = conn.unacknowledged()
    if not l.unread or conn.poller.now - l.since > LINGER_NS:
        return False
    if before >= 0 and l.unread >= before and l.pause >= l.longest:
        return False
    l.pause = min(2 * l.pause, l.longest)
    conn.deadline(l.pause)
    return True
