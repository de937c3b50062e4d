from libc.stdint cimport int64_t

from gateway.proxy.conn cimport Conn

cdef enum:
    LINGER_PAUSE_MS = 2000      # longest pause of a client that has read everything and still sends

cdef struct Linger:
    int64_t since               # the FIN, in ns
    int64_t discarded           # bytes
    int64_t unread              # bytes that the client had not acknowledged at the last look; -1: not yet looked
    int pause                   # ms until the next look
    int longest                 # pause without progress of a client that has not read everything, in ms

cdef int linger_begin(Linger *l, Conn conn, int pause, int longest, size_t discarded) except -1
cdef int linger_goes_on(Linger *l, Conn conn, ssize_t got, double rate) except -1
cdef int linger_waits(Linger *l, Conn conn) except -1
