"""The route list: the first route whose match holds decides.

Compiled once per snapshot: for each host that is named anywhere, the routes that can hold for it, in file order, so
that a request looks at the routes of its own host only.
"""

from libc.string cimport memcmp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

SCHEMES = {None: 0, "http": 1, "https": 2}


cdef class Route:
    """One entry: scheme (None, "http" or "https"), hosts (exact or "*.suffix"), paths ((text, exact), …)."""

    def __init__(self, int index, scheme, hosts, paths, action):
        self.index = index
        self.scheme = SCHEMES[scheme]
        self.hosts = tuple(host.lower() for host in hosts)
        self.paths = tuple((text.encode(), bool(exact)) for text, exact in paths)
        self.action = action

    cdef int match_path(self, const char *path, uint32_t n) noexcept:
        """How many bytes of the path the match covers, or -1 if it does not hold."""
        cdef tuple item
        cdef bytes text
        cdef uint32_t length
        if not self.paths:
            return 0
        for item in self.paths:
            text = <bytes>item[0]
            length = <uint32_t>PyBytes_GET_SIZE(text)
            if item[1]:
                if length == n and memcmp(PyBytes_AS_STRING(text), path, n) == 0:
                    return <int>n
            elif length <= n and memcmp(PyBytes_AS_STRING(text), path, length) == 0:
                return <int>length
        return -1


cdef class RouteTable:
    """All routes of a snapshot, in order."""

    def __init__(self, routes):
        cdef Route route
        names = {host for route in routes for host in route.hosts}
        exact = {name for name in names if not name.startswith("*.")}
        suffixes = {name[1:] for name in names if name.startswith("*.")}
        self.rest = [route for route in routes if not route.hosts]
        self.exact = {}
        self.wild = {}
        # Routes by the names they name, so that compiling is not hosts × routes.
        by_name = {}
        for route in routes:
            for host in route.hosts:
                by_name.setdefault(host, []).append(route)
        for name in exact:
            self.exact[name.encode()] = self._merged(by_name, [name, *_wildcards(name, suffixes)])
        for suffix in suffixes:
            self.wild[suffix.encode()] = self._merged(by_name, ["*" + suffix, *_wildcards("*" + suffix, suffixes)])

    def _merged(self, by_name, names):
        """The routes for any of these names and those for every host, each once, in order."""
        found = {}
        cdef Route route
        for name in names:
            for route in by_name.get(name, ()):
                found[route.index] = route
        if not found:
            return self.rest
        for route in self.rest:
            found[route.index] = route
        return [found[index] for index in sorted(found)]

    cdef list candidates(self, const char *host, uint32_t n):
        """The routes that can hold for a host in any case; the list stays valid as long as the table."""
        cdef bytes name
        cdef object found
        cdef uint32_t i
        if not self.exact and not self.wild:
            return self.rest
        name = PyBytes_FromStringAndSize(host, n).lower()
        found = self.exact.get(name)
        if found is not None:
            return <list>found
        if self.wild:
            # The longest suffix first; its list holds those of the shorter ones, too.
            for i in range(1, n):
                if host[i] == 46:
                    found = self.wild.get(name[i:])
                    if found is not None:
                        return <list>found
        return self.rest

    def find(self, scheme, bytes host, bytes path):
        """(route, matched length of the path), or None; for tests and for explaining."""
        cdef Route route
        cdef int matched
        cdef int code = SCHEMES[scheme]
        for route in self.candidates(host, len(host)):
            if route.scheme and route.scheme != code:
                continue
            matched = route.match_path(path, len(path))
            if matched >= 0:
                return route, matched
        return None


def _wildcards(name, suffixes):
    """The wildcard entries that hold for a name, or are wider than a wildcard."""
    labels = name.split(".")
    for i in range(1, len(labels)):
        suffix = "." + ".".join(labels[i:])
        if suffix in suffixes and "*" + suffix != name:
            yield "*" + suffix
