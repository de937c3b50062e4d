from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum Kind:
    K_NONE = 0              # not a ticket, or not one of this gateway's key
    K_NEW                   # a session whose ticket has not come back yet
    K_LIVE                  # a session
    K_QUEUED                # a place in the queue
    K_EARLY                 # came before a scheduled opening

cdef enum:
    TEXT = 40               # characters of a ticket

cdef struct Ticket:
    int kind
    uint64_t number         # qos/sessions.pyx defines it for each kind
    uint32_t id
    uint32_t stamp          # when it was written, in seconds since 1970

cdef class Tickets:
    """Writes and reads tickets with one key."""
    cdef bytes key
    cdef char *known        # texts of verified tickets, by their hash

    cdef bint read(self, const char *text, size_t n, Ticket *ticket) except -1
    cdef bytes write(self, const Ticket *ticket)
    cdef bytes _tag(self, const uint8_t *body)
