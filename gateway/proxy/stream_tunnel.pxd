from gateway.proxy.transaction cimport Downstream
from gateway.proxy.tunnel cimport Tunnel

cdef class StreamTunnel(Tunnel):
    """A tunnel between a stream of a client, whose connection has others, and the connection to a server."""
    cdef Downstream client

    cdef bint takes(self) noexcept
    cdef int end_first(self) except -1
