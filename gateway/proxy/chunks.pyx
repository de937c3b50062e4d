"""Writes a body in the chunked transfer coding (RFC 9112, section 7.1), to either side of the gateway."""

from gateway.wire.chunked cimport chunk_head
from gateway.wire.edit cimport edit_trailers

# In use until the connection commits it, before anything else is written in this process: no owner is needed.
cdef Out _trailing


cdef int put_chunk(Conn conn, const char *p, size_t n) except -1:
    """Write n bytes, at least one, as a chunk."""
    cdef char line[24]
    conn.put(line, chunk_head(line, n))
    conn.put(p, n)
    return conn.put(b"\r\n", 2)


cdef int put_last_chunk(Conn conn, Out *trailers) except -1:
    """Write the last chunk, and those trailer fields that may be forwarded."""
    conn.put(b"0\r\n", 3)
    if trailers.n:
        _trailing.n = 0
        edit_trailers(&_trailing, trailers.p, trailers.n)
        conn.put_soon(_trailing.p, _trailing.n)
    return conn.put(b"\r\n", 2)
