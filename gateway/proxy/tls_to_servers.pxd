from gateway.proxy.openssl cimport SSL, SSL_CTX, SSL_SESSION

cdef class ClientContext:
    """How the servers of a backend are spoken to in TLS."""
    cdef SSL_CTX *context
    cdef bint verify

cdef class Peer:
    """A server by one name that it is called in TLS, and the newest session with it."""
    cdef ClientContext context
    cdef bytes name                     # host name or IP address; empty: it has none
    cdef bint numeric                   # it is an IP address
    cdef SSL_SESSION *session

    cdef SSL *open(self) except NULL
