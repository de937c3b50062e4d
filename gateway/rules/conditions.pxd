from libc.stdint cimport uint8_t, uint32_t
from gateway.rules.view cimport View

cdef class Condition:
    """A condition of a route; `text` describes it in readable form."""
    cdef readonly str text
    cdef readonly int cost          # cheap ones are checked first

    cdef bint holds(self, View v) except -1
    cdef str seen(self, View v)
