from gateway.rules.conditions cimport Condition
from gateway.rules.view cimport View

cdef class Expr:
    """A compiled expression."""
    cdef object value(self, View v)

cdef class When(Condition):
    """The expression of `when:`."""
    cdef Expr expr
