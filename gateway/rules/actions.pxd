from libc.stdint cimport uint32_t
from gateway.rules.template cimport Template
from gateway.rules.view cimport View

cdef class Respond:
    """A response of the gateway itself."""
    cdef readonly int status
    cdef readonly bytes lines       # complete header lines, Content-Type among them
    cdef readonly object body       # bytes, or None: the page for the status
    cdef readonly bint closes       # there is no response: the connection or stream is closed; the log has the status
    cdef public bytes rule          # of a file with several rules, the one that responded; None: it has one
    cdef public bytes why           # that rule in short; None: there is nothing to say

cdef class Step:
    """Something a route does to a request that matches."""
    cdef readonly str text          # human-readable

    cdef object run(self, View v)
    cdef int explain(self, View v, dict trace) except -1

cdef enum:
    MAX_WHY = 100           # characters of a rule in `why`

cdef Respond answer(int status, bytes lines, body)
cdef Respond marked(Respond made, str file, int line, str why)
cdef bint names_host(const char *p, size_t n) noexcept nogil
cdef Respond rewrite(View v, bytes target)
