from libc.stdint cimport int64_t, uint8_t

from gateway.proxy.openssl cimport SSL, SSL_CTX

cdef enum:
    KEYS = 3                            # for tickets: of the past, the present and the next period

cdef struct TicketKey:                  # as tickets.key writes it
    unsigned char name[16]
    unsigned char cipher[32]
    unsigned char mac[32]

cdef class ServerContext:
    """The certificates of a frontend, ready for handshakes."""
    cdef SSL_CTX **contexts             # one for each certificate
    cdef int count
    cdef dict by_name                   # DNS name or "*.rest", in lower case -> index
    cdef bytes protocols                # what is spoken, as ALPN has it
    cdef bytes secret                   # that ticket keys are derived from
    cdef bytes identity                 # what its tickets are for
    cdef int64_t period                 # whose ticket key is the present one
    cdef TicketKey[KEYS] keys

    cdef SSL *accept(self) except NULL
    cdef int index(self, bytes name) except -1
    cdef int _turn_keys(self) except -1
    cdef int _add(self, bytes cert, const uint8_t[::1] key, int version) except -1
