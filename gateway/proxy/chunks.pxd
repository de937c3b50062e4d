from gateway.proxy.conn cimport Conn
from gateway.wire.edit cimport Out

cdef int put_chunk(Conn conn, const char *p, size_t n) except -1
cdef int put_last_chunk(Conn conn, Out *trailers) except -1
