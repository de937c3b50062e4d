"""Divides the requests of a route between backends, by percentage.

A key is a point from 0 to 1, by its hash; backends have the intervals of their shares there, in the order of the file.
So a client with a key stays where it is, and a share that grows takes clients only from the backends after it. The hash
has no secret: the same key has the same point in every route, and on every gateway.
"""

from random import getrandbits, random

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from gateway.rules.actions cimport Step
from gateway.rules.template cimport Template
from gateway.rules.view cimport IN_COOKIE, View
from gateway.wire.siphash cimport siphash64

cdef bytes KEY = bytes(16)
cdef double POINTS = 18446744073709551616.0     # of the hash


cdef class Split(Step):
    """choices: (name of a backend, its share from 0 to 1, the action that goes to it).

    by: the template of the key; or cookie: the name of the cookie that has it, set with `attributes` if it is missing.
    """
    cdef list names
    cdef list shares
    cdef list actions
    cdef Template by
    cdef bytes cookie
    cdef bytes attributes

    def __init__(self, choices, *, Template by=None, cookie=None, str attributes="", str text):
        self.names, self.shares, self.actions = [list(column) for column in zip(*choices)]
        self.by = by
        self.cookie = None if cookie is None else cookie.encode()
        self.attributes = attributes.encode()
        self.text = text

    cdef object run(self, View v):
        cdef bytes key = self._key(v)
        cdef int chosen
        if key:
            chosen = self._usable(v, _point(key))
        elif v.reproducible:               # explain draws nothing: its output is the same each time
            chosen = self._usable(v, self._point_of_largest())
        else:
            chosen = self._usable(v, random())
        if v.notes is not None:
            self._explain(v, key, chosen)
        return self.actions[chosen]

    cdef bytes _key(self, View v):
        """The key of the request, which its client may get as a cookie now; empty if it has none."""
        cdef list values
        cdef bytes key
        if self.by is not None:
            return self.by.render(v)
        if self.cookie is None:
            return b""
        values = v.values(IN_COOKIE, self.cookie)
        if values and values[0]:
            return values[0]
        if v.reproducible:
            return b""
        key = b"%016x" % getrandbits(64)
        v.edits(True).append(b"Set-Cookie", self.cookie + b"=" + key + self.attributes)
        return key

    cdef int _usable(self, View v, double point) except -1:
        """The backend at a point. Those without a server that can take requests are left out, and their part is divided
        between the others; if there is no other, it is the backend that it would have been."""
        cdef int i, first = self._at(point, self.shares, 1.0)
        cdef double total = 0
        cdef list left
        if v.resources.up(self.names[first]):
            return first
        left = []
        for i in range(len(self.names)):
            left.append(self.shares[i] if self.shares[i] > 0 and v.resources.up(self.names[i]) else 0.0)
            total += left[i]
        # The point goes on from its place within the interval that is left out, so the part is divided evenly.
        return self._at(self._within(point, first), left, total) if total > 0 else first

    cdef double _within(self, double point, int chosen):
        """Where in the interval of a backend a point is, from 0 to 1."""
        cdef double start = 0
        cdef int i
        for i in range(chosen):
            start += self.shares[i]
        return min(max((point - start) / self.shares[chosen], 0.0), 1.0)

    cdef int _at(self, double point, list shares, double total) except -1:
        """The backend whose interval has the point."""
        cdef double end = 0
        cdef int i, last = 0
        for i in range(len(shares)):
            if shares[i] > 0:
                end += shares[i] / total
                last = i
                if point < end:
                    return i
        return last                     # rounding

    cdef double _point_of_largest(self):
        cdef int i, largest = self.shares.index(max(self.shares))
        cdef double start = 0
        for i in range(largest):
            start += self.shares[i]
        return start + <double>self.shares[largest] / 2

    cdef int _explain(self, View v, bytes key, int chosen) except -1:
        cdef int first
        if key:
            point = _point(key)
            first = self._at(point, self.shares, 1.0)
            # A live request's key may be a secret of its client.
            shown = f" {key.decode('utf-8', 'replace')}" if v.reproducible else ""
            said = f"split: key{shown} is at {point:.2%}: {self.names[first]}"
        elif not v.reproducible:
            first = chosen
            said = f"split: no key; drawn: {self.names[chosen]}"
        else:
            first = self._at(self._point_of_largest(), self.shares, 1.0)
            said = f"split: no key, so a request is drawn; here the largest share is taken: {self.names[first]}"
            if self.cookie is not None:
                said += f"; the client gets the cookie {self.cookie.decode()}"
        if first != chosen:
            said += f", which has no server that works: {self.names[chosen]}"
        v.notes.append((self.text, said))
        return 0


cdef double _point(bytes key):
    """Where a key is, from 0 to 1."""
    return siphash64(<const uint8_t *>PyBytes_AS_STRING(KEY), <const uint8_t *>PyBytes_AS_STRING(key),
                     <size_t>PyBytes_GET_SIZE(key)) / POINTS


def point_of(bytes key):
    """The same as `_point`; for tests."""
    return _point(key)
