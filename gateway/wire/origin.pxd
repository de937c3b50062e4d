from gateway.wire.edit cimport Origin
from gateway.wire.head cimport Head

cdef class Provenance:
    """Where the requests of a connection come from, as the heads for servers tell it."""
    cdef Origin origin
    cdef readonly bytes address
    cdef bytes fixed                    # what origin points into
    cdef bytes node
    cdef bytes via
    cdef bytes fallback_host
    cdef object trusts                  # whether an address is a trusted proxy's; None: this peer is not
    cdef bytes client_from              # the field in which proxies say the client, in lower case; empty: the usual
    cdef bint verified                  # the client has shown a certificate that is valid here
    cdef bint guarded                   # what the client says of its certificate is left out
    cdef readonly bytes client          # of the request looked at last
    cdef bytes client_node
    cdef public int port                # of the peer; 0: it has none
    cdef int fd                         # of the connection; -1: there is none
    cdef bytes here                     # the address of this machine that the client has reached; None: not looked up
    cdef public bytes tls_version       # of the connection; None: without TLS
    cdef public bytes tls_cipher

    cdef bytes local(self)
    cdef int look(self, const char *p, Head *h) except -1
    cdef int _leave_out(self, const char *p, Head *h) noexcept
    cdef int _believe(self, const char *p, Head *h) except -1
    cdef int _follow(self, list nodes) except -2
    cdef str _joined(self, const char *p, Head *h, bytes name)
