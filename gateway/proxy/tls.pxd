from libc.stdint cimport int64_t, uint8_t

from gateway.proxy.openssl cimport SSL, SSL_CTX

cdef enum:
    KEYS = 3                            # ticket keys: of the previous, the current and the next period

cdef struct TicketKey:                  # in the layout of tickets.key
    unsigned char name[16]
    unsigned char cipher[32]
    unsigned char mac[32]

cdef class ServerContext:
    """The certificates of a frontend, prepared for handshakes."""
    cdef SSL_CTX **contexts             # one for each certificate
    cdef int count
    cdef dict by_name                   # DNS name or "*.rest", in lower case -> index
    cdef bytes protocols                # supported protocols, in the form of ALPN
    cdef bytes secret                   # ticket keys are derived from it
    cdef bytes identity                 # context of its tickets
    cdef int64_t period                 # period of the current ticket key
    cdef TicketKey[KEYS] keys

    cdef SSL *accept(self) except NULL
    cdef int index(self, bytes name) except -1
    cdef int _turn_keys(self) except -1
    cdef int _add(self, bytes cert, const uint8_t[::1] key, int version) except -1

cdef int use_certificates(SSL_CTX *context, bytes pem) except -1
cdef int use_key(SSL_CTX *context, const uint8_t[::1] content) except -1
cdef str reason()
