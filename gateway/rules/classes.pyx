"""Gives each request a class before the routes: the name of the first class in the list whose match holds."""

from gateway.rules.actions cimport Step
from gateway.rules.routes cimport RouteTable
from gateway.rules.view cimport View


cdef class Classify(Step):
    """classes: a table whose routes have class names as their actions. only: the class of all requests, if the first
    class has no conditions; None: it has to be looked up.
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
        """For each class that is tried, the reason why it does not match, or None."""
        tried = {}
        self.classes.decide(v, tried)
        trace["classes"] = [(route.action, why) for route, why, _, _ in tried["routes"]]
        return 0
