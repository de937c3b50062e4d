from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t

cdef enum:
    HEAD = 12               # bytes of a message's header
    MAX_NAME = 255          # bytes of a name, with the root (RFC 1035 section 2.3.4)
    MAX_COOKIE = 40         # bytes: 8 of the client, up to 32 of the server (RFC 7873 section 4)
    SILENCE = -1            # what gets no answer
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    NOTAUTH = 9
    BADVERS = 16
    T_OPT = 41
    T_ANY = 255

# A query as it was read. Offsets are into the message.
cdef struct Query:
    uint16_t id
    uint16_t flags          # as received
    uint16_t name_len       # of the name at HEAD, with the root; 0: there is no question, or not a whole one
    uint16_t type
    uint16_t klass
    bint edns               # there is an OPT record
    bint dnssec             # DO
    bint compact            # CO
    uint16_t size           # of a UDP response that the client takes; 0: not said
    bint nsid               # asked for
    uint8_t cookie_len      # 0: none
    uint8_t cookie[MAX_COOKIE]
    bint subnet             # there is a client subnet
    uint16_t family         # 1: IPv4, 2: IPv6, 0: none
    uint8_t source          # bits of the address
    uint8_t address[16]     # the rest is zero

cdef int read_query(const uint8_t *p, size_t n, Query *q) noexcept nogil
