from gateway.config.map_table cimport MapTable
from gateway.rules.view cimport View

cdef class MapLookup:
    """A map as rules look it up."""
    cdef readonly str name
    cdef MapTable table
    cdef bytes default
    cdef list patterns              # (search, value) of regular expressions, in the order of the file; None: others

    cdef bytes find(self, View v, bytes key)
    cdef bytes _value(self, bytes key)
