"""Which class a request is of before it meets the routes: the first in the list whose match holds gives its name."""

from gateway.rules.actions cimport Step
from gateway.rules.routes cimport RouteTable
from gateway.rules.view cimport View


cdef class Classify(Step):
    """classes: a table whose routes have the names of classes as their actions."""
    cdef RouteTable classes

    def __init__(self, RouteTable classes):
        self.classes = classes
        self.text = "classes"

    cdef object run(self, View v):
        v.klass = self.classes.decide(v, None)
        return None

    cdef int explain(self, View v, dict trace) except -1:
        """Why each class that is tried is not the request's, or None."""
        tried = {}
        self.classes.decide(v, tried)
        trace["classes"] = [(route.action, why) for route, why, _, _ in tried["routes"]]
        return 0
