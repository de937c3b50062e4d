"""Matches within a match: `not`, `any` and `all`."""

from gateway.rules.conditions cimport Condition
from gateway.rules.routes cimport RouteTable
from gateway.rules.view cimport View


cdef class Within(Condition):
    """table: a route for each match within; holds if one of them does, or for `negate` if none does."""
    cdef RouteTable table
    cdef bint negate

    def __init__(self, RouteTable table, *, text, bint negate):
        self.table = table
        self.negate = negate
        self.text = text
        self.cost = 7

    cdef bint holds(self, View v) except -1:
        cdef int matched = v.matched
        cdef dict groups = v.groups
        cdef bint found = self.table.decide(v, None) is not None
        v.matched = matched
        v.groups = groups
        return found != self.negate

    cdef str seen(self, View v):
        return "it is one of these" if self.negate else "it is none of these"
