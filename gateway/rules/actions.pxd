cdef class Respond:
    cdef readonly int status
    cdef readonly bytes lines       # complete header lines, Content-Type among them
    cdef readonly bytes body

cdef class Redirect:
    cdef readonly int status
    cdef bint elsewhere             # the template itself names a host without a scheme
    cdef tuple parts                # (literal bytes, code of the field that follows)

    cdef bytes location(self, bint https, bytes host, bytes path, bytes query, int matched, bytes client)
