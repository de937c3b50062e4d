from gateway.proxy.openssl cimport SSL, SSL_CTX

cdef class ServerContext:
    """The certificates of a frontend, ready for handshakes."""
    cdef SSL_CTX **contexts             # one for each certificate
    cdef int count
    cdef dict by_name                   # DNS name or "*.rest", in lower case -> index

    cdef SSL *accept(self) except NULL
    cdef int index(self, bytes name) except -1
    cdef int _add(self, bytes cert, bytes key, int version, bytes ticket_key) except -1
