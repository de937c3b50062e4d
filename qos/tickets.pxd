from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum Kind:
    K_NONE = 0              # not a ticket, or not one of this gateway's key
    K_NEW                   # a session whose ticket has not come back yet
    K_LIVE                  # a session
    K_QUEUED                # a place in the queue
    K_EARLY                 # came before a scheduled opening

cdef enum:
    TEXT = 40               # characters of a ticket
    WORDS = 5               # the same in words of 8 bytes

cdef struct Ticket:
    int kind
    uint64_t number         # qos/sessions.pyx defines it for each kind
    uint32_t id
    uint32_t stamp          # when it was written, in seconds since 1970

# A verified ticket.
cdef struct Known:
    uint64_t[WORDS] text    # as it came
    Ticket ticket           # of kind K_NONE: none

cdef class Tickets:
    """Writes and reads tickets with one key."""
    cdef bytes key
    cdef Known *known       # verified tickets, by the hash of their text

    cdef bint read(self, const char *text, size_t n, Ticket *ticket) except -1
    cdef bint _verify(self, const char *text, Ticket *ticket) except -1
    cdef bytes write(self, const Ticket *ticket)
    cdef bytes _tag(self, const uint8_t *body)
