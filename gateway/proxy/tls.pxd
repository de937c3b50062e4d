from libc.stdint cimport int64_t, uint8_t

from gateway.board cimport TrafficRow
from gateway.proxy.openssl cimport EVP_PKEY, SSL, SSL_CTX, STACK_OF_X509, X509, X509_STORE
from gateway.wire.origin cimport Provenance

cdef enum:
    KEYS = 3                            # ticket keys: of the previous, the current and the next period
    GAUGE = 0                           # index of a connection's TrafficRow in the data of its SSL object

cdef struct TicketKey:                  # in the layout of tickets.key
    unsigned char name[16]
    unsigned char cipher[32]
    unsigned char mac[32]

cdef class Trust:
    """CA certificates, which contexts share."""
    cdef X509_STORE *store
    cdef readonly bytes pem

cdef class Identity:
    """A certificate with those that lead from it to an authority, and its key. Parsed when it is first needed."""
    cdef bytes pem                      # of the chain, until it is parsed
    cdef uint8_t *sealed                # the key as `exported`, until it is parsed
    cdef size_t sealed_n
    cdef X509 *certificate              # NULL: not parsed yet
    cdef STACK_OF_X509 *chain
    cdef EVP_PKEY *key
    cdef readonly frozenset names
    cdef readonly str kind              # of its key
    cdef readonly bytes ocsp            # response in DER, or None
    cdef readonly int64_t ocsp_until    # seconds since 1970

    cdef int parse(self) except -1
    cdef int _forget(self) except -1
    cdef int give(self, SSL_CTX *context) except -1

cdef class ServerContext:
    """The certificates of a frontend, prepared for handshakes."""
    cdef SSL_CTX *context
    cdef dict by_name                   # DNS name or "*.rest", lower case -> list of Identity, one per kind of key
    cdef list first                     # for names that are not known, and for who names none
    cdef bint staples                   # some certificate has an OCSP response
    cdef dict stapled                   # address of a certificate -> its Identity, of those parsed with such a response
    cdef bint strict                    # who names none of them is refused
    cdef readonly bint asks             # for a certificate of the client
    cdef bytes protocols                # supported protocols, in the form of ALPN
    cdef object challenges              # challenges.Challenges, or None
    cdef Identity proof                 # of an authority's challenge, for the handshake of this moment, or None
    cdef bytes secret                   # ticket keys are derived from it
    cdef bytes identity                 # context of its tickets
    cdef int64_t period                 # period of the current ticket key
    cdef TicketKey[KEYS] keys

    cdef SSL *accept(self, TrafficRow *row) except NULL
    cdef list find(self, bytes name)
    cdef int _put(self, list those, Identity identity) except -1
    cdef int _turn_keys(self) except -1
    cdef int _prepare(self, str policy, int version, bytes session) except -1
    cdef int _ask(self, Trust clients, bint required) except -1

cdef bytes client_lines(SSL *ssl)
cdef bint has_valid_certificate(SSL *ssl) noexcept
cdef int describe(Provenance provenance, int port, SSL *ssl) except -1
cdef str reason()
