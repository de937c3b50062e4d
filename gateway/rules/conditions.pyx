"""Conditions of a route beyond host and path: one class for each key of `match`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from gateway.rules.pattern_matcher cimport PatternMatcher
from gateway.rules.view cimport IN_HEADER, Value

from gateway.rules.view import PLACES

cdef enum Kind:
    V_IS = 0
    V_MATCHES
    V_DIFFERS               # no value has the pattern in it
    V_PRESENT
    V_ABSENT

KINDS = {"is": V_IS, "matches": V_MATCHES, "differs": V_DIFFERS, "present": V_PRESENT, "absent": V_ABSENT}


cdef class Condition:
    cdef bint holds(self, View v) except -1:
        return True

    cdef str seen(self, View v):
        """The value that the request has instead, in readable form."""
        return ""

    def check(self, View v):
        """Whether the condition holds; for tests."""
        return self.holds(v)


cdef class MethodIs(Condition):
    cdef tuple methods

    def __init__(self, methods):
        self.methods = tuple(method.encode() for method in methods)
        self.text = "method " + " or ".join(methods)
        self.cost = 1

    cdef bint holds(self, View v) except -1:
        cdef bytes method
        for method in self.methods:
            if (PyBytes_GET_SIZE(method) == v.h.method_len
                    and memcmp(PyBytes_AS_STRING(method), v.p, v.h.method_len) == 0):
                return True
        return False

    cdef str seen(self, View v):
        return v.p[:v.h.method_len].decode("latin-1")


cdef class FrontendIs(Condition):
    cdef frozenset names

    def __init__(self, names):
        self.names = frozenset(names)
        self.text = "frontend " + " or ".join(names)
        self.cost = 1

    cdef bint holds(self, View v) except -1:
        return v.frontend in self.names

    cdef str seen(self, View v):
        return v.frontend or ""


cdef struct Net:
    uint8_t family
    uint8_t bits
    uint8_t address[16]


cdef class SourceIn(Condition):
    cdef Net *nets
    cdef int count

    def __init__(self, networks):
        cdef int i
        cdef bytes packed
        networks = tuple(networks)
        self.text = "source " + " or ".join(str(network) for network in networks)
        self.cost = 2
        self.nets = <Net *>malloc(max(len(networks), 1) * sizeof(Net))
        if self.nets == NULL:
            raise MemoryError
        self.count = len(networks)
        for i, network in enumerate(networks):
            packed = network.network_address.packed
            self.nets[i].family = network.version
            self.nets[i].bits = network.prefixlen
            memcpy(self.nets[i].address, PyBytes_AS_STRING(packed), len(packed))

    def __dealloc__(self):
        free(self.nets)

    cdef bint holds(self, View v) except -1:
        cdef int i, whole, rest
        cdef Net *net
        if v.family == 0:
            v.parse_client()
        for i in range(self.count):
            net = &self.nets[i]
            if net.family != v.family:
                continue
            whole = net.bits >> 3
            rest = net.bits & 7
            if memcmp(net.address, v.address, whole) != 0:
                continue
            if rest == 0 or (net.address[whole] ^ v.address[whole]) >> (8 - rest) == 0:
                return True
        return False

    cdef str seen(self, View v):
        return v.client.decode("latin-1")


cdef class ClassIs(Condition):
    cdef frozenset names

    def __init__(self, names):
        self.names = frozenset(names)
        self.text = "class " + " or ".join(names)
        self.cost = 1

    cdef bint holds(self, View v) except -1:
        return v.klass is not None and v.klass in self.names

    cdef str seen(self, View v):
        return "none" if v.klass is None else v.klass


cdef class Wanted:
    """One accepted value."""
    cdef int kind
    cdef bytes text
    cdef PatternMatcher matcher

    def __init__(self, item):
        self.kind = KINDS[item.kind]
        self.text = item.text.encode() if self.kind == V_IS else b""
        self.matcher = PatternMatcher(item.text) if self.kind == V_MATCHES or self.kind == V_DIFFERS else None


cdef class ValueIs(Condition):
    """Match a header, cookie or query parameter; of several values, or several accepted values, one match is enough."""
    cdef int where
    cdef bytes name
    cdef tuple wanted               # Wanted

    def __init__(self, str where, str name, wanted):
        self.where = PLACES[where]
        self.name = name.lower().encode() if self.where == IN_HEADER else name.encode()
        self.wanted = tuple([Wanted(item) for item in wanted])
        self.cost = 6 if any(item.kind in ("matches", "differs") for item in wanted) else 3
        self.text = f"{where} {name} " + " or ".join(_words(item) for item in wanted)

    cdef bint holds(self, View v) except -1:
        cdef Wanted wanted
        for wanted in self.wanted:
            if self._holds(v, wanted):
                return True
        return False

    cdef bint _holds(self, View v, Wanted wanted) except -1:
        cdef Value found
        cdef const char *text = PyBytes_AS_STRING(wanted.text)
        cdef uint32_t n = <uint32_t>PyBytes_GET_SIZE(wanted.text)
        found.field = found.at = 0
        while v.next(self.where, self.name, &found):
            if wanted.kind == V_PRESENT:
                return True
            if wanted.kind == V_ABSENT:
                return False
            if wanted.kind == V_IS:
                if found.n == n and memcmp(found.p, text, n) == 0:
                    return True
            elif wanted.matcher.find(found.p, found.n, None if wanted.kind == V_DIFFERS else v):
                return wanted.kind == V_MATCHES
        return wanted.kind == V_ABSENT or wanted.kind == V_DIFFERS

    cdef str seen(self, View v):
        values = v.values(self.where, self.name)
        return ", ".join(repr(value.decode("latin-1")) for value in values) if values else "not there"


def _words(item):
    return {"is": f"= {item.text}", "matches": f"~ {item.text}", "differs": f"!~ {item.text}", "present": "there",
            "absent": "absent"}[item.kind]
