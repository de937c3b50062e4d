from libc.stdint cimport uint8_t, uint32_t
from gateway.rules.view cimport View

cdef class Condition:
    """Something that must hold for a route; `text` names it for people."""
    cdef readonly str text
    cdef readonly int cost          # cheap ones are looked at first

    cdef bint holds(self, View v) except -1
    cdef str seen(self, View v)
