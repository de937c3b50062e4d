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

    cdef bytes client(self, const char *p, Head *h)
    cdef bint secure(self, const char *p, Head *h) noexcept
