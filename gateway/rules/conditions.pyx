"""What a route asks of a request beyond host and path: one class for each key of `match`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from gateway.rules.view cimport IN_HEADER

from gateway.config.pattern import Pattern
from gateway.rules.view import PLACES

cdef enum Kind:
    V_IS = 0
    V_MATCHES
    V_PRESENT
    V_ABSENT

KINDS = {"is": V_IS, "matches": V_MATCHES, "present": V_PRESENT, "absent": V_ABSENT}


cdef class Condition:
    cdef bint holds(self, View v) except -1:
        return True

    cdef str seen(self, View v):
        """What the request has instead, for people."""
        return ""

    def check(self, View v):
        """Whether it holds; for tests."""
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


cdef class ValueIs(Condition):
    """A header, cookie or parameter of the query; several values, or several wanted: one of them is enough."""
    cdef int where
    cdef bytes name
    cdef tuple wanted               # (kind, bytes or Pattern)

    def __init__(self, str where, str name, wanted):
        self.where = PLACES[where]
        self.name = name.lower().encode() if self.where == IN_HEADER else name.encode()
        self.wanted = tuple((KINDS[item.kind], Pattern(item.text) if item.kind == "matches" else item.text.encode())
                            for item in wanted)
        self.cost = 6 if any(item.kind == "matches" for item in wanted) else 3
        self.text = f"{where} {name} " + " or ".join(_words(item) for item in wanted)

    cdef bint holds(self, View v) except -1:
        cdef list values = v.values(self.where, self.name)
        cdef int kind
        for kind, expected in self.wanted:
            if kind == V_PRESENT:
                if values:
                    return True
            elif kind == V_ABSENT:
                if not values:
                    return True
            elif kind == V_IS:
                if expected in values:
                    return True
            else:
                for value in values:
                    match = expected.search(value)
                    if match is not None:
                        keep_groups(v, expected.names, match)
                        return True
        return False

    cdef str seen(self, View v):
        values = v.values(self.where, self.name)
        return ", ".join(repr(value.decode("latin-1")) for value in values) if values else "not there"


def _words(item):
    return {"is": f"= {item.text}", "matches": f"~ {item.text}", "present": "there", "absent": "absent"}[item.kind]


cdef int keep_groups(View v, names, match) except -1:
    """Let templates of the route use the named groups of a match."""
    if names:
        if v.groups is None:
            v.groups = {}
        for name, index in names:
            v.groups[name] = match.group(index) or b""
    return 0
