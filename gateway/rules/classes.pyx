"""Which class a request is of before it meets the routes: the first in the list whose match holds gives its name."""

from gateway.rules.actions cimport Step
from gateway.rules.routes cimport RouteTable
from gateway.rules.view cimport View


cdef class Classify(Step):
    """classes: a table whose routes have the names of classes as their actions. only: the one that all requests are of,
    if the first of them asks for nothing; None: it has to be looked up.
    """
    cdef RouteTable classes
    cdef str only

    def __init__(self, RouteTable classes, only=None):
        self.classes = classes
        self.only = only
        self.text = "classes"

    cdef object run(self, View v):
        v.klass = self.only if self.only is not None else self.classes.decide(v, None)
        return None

    cdef int explain(self, View v, dict trace) except -1:
        """Why each class that is tried is not the request's, or None."""
        tried = {}
        self.classes.decide(v, tried)
        trace["classes"] = [(route.action, why) for route, why, _, _ in tried["routes"]]
        return 0
