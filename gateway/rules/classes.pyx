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
        v.klass = self.classes.decide(v)
        return None

    def tried(self, View v):
        """(name, why it is not for the request or None) for each class that is tried; for people."""
        return [(route.action, why) for route, why, _ in self.classes.walk(v)]
