"""Redirects clients to other sites, and recognizes clients that other sites have redirected here."""

from libc.stdint cimport uint32_t

from gateway.rules.actions cimport Step, answer
from gateway.rules.conditions cimport Condition
from gateway.rules.view cimport IN_COOKIE, IN_HEADER, View

from gateway.rules.site_token import LIFETIME, NAME, mark, sender, with_mark, without

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t n, const void *needle, size_t length)

COOKIE = NAME.encode()


cdef class Arrival(Step):
    """Before the first route: moves the site token from the query to a cookie.

    key: shared by the sites. names: of all sites, this one first.
    """
    cdef bytes key
    cdef readonly tuple names

    def __init__(self, bytes key, names):
        self.key = key
        self.names = tuple(names)
        self.text = "arrival"

    cdef object run(self, View v):
        cdef bytes uri, cookie
        cdef uint32_t at = v.path_len
        if v.uri_len <= at or memmem(v.uri + at, v.uri_len - at, b"gwsite=", 7) == NULL:
            return None
        uri, found = without(v.uri[:v.uri_len])
        if found is None:
            return None
        v.own(uri, v.path_len)
        v.arrived = sender(self.key, found, v.clock())
        if v.arrived is not None:
            secure = b"; Secure" if v.scheme == 2 else b""
            cookie = b"%s=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax%s" % (COOKIE, found, LIFETIME, secure)
            v.edits(True).append(b"Set-Cookie", cookie)
        return None

    cdef int explain(self, View v, dict trace) except -1:
        """The known load of each site."""
        trace["sites"] = {name: v.resources.site_load(name) for name in self.names}
        return 0


cdef class ToSite(Step):
    """Redirect the client to another site, unless a site has just redirected it here.

    own: name of this site. peers: (name, url, a Condition for the clients that it is preferred for, or None): the
    destination, or with `best` the candidates to choose from by load. full: this site has no room, so its load does not
    matter; another site is chosen only while it has room.
    """
    cdef str own
    cdef tuple peers
    cdef bytes key
    cdef bint best
    cdef bint full

    def __init__(self, own, peers, bytes key, *, bint best, bint full=False):
        self.own = own
        self.peers = tuple([(name, url.encode(), clients) for name, url, clients in peers])
        self.key = key
        self.best = best
        self.full = full
        self.text = "site auto" if best else f"site {self.peers[0][0]}"

    cdef object run(self, View v):
        cdef bytes uri, given
        cdef object peer
        # Browsers do not follow redirects of WebSocket handshakes.
        if v.arrived is not None or v.values(IN_HEADER, b"upgrade") or self._visits(v):
            return None
        uri = v.p[v.h.target:v.h.target + v.h.target_len]
        if not uri.startswith(b"/"):
            return None
        peer = self._best(v) if self.best or self.full else self.peers[0]
        if peer is None:
            return None
        name, url, _ = peer
        v.site = name
        given = mark(self.key, self.own, v.clock())
        plain = v.p[:v.h.method_len] in (b"GET", b"HEAD")
        # Other methods keep their method and body only with 307 (RFC 9110 section 15.4.8).
        return answer(302 if plain else 307,
                      b"Location: " + url + with_mark(uri, given) + b"\r\nCache-Control: no-store\r\n", b"")

    cdef bint _visits(self, View v) except -1:
        """Whether a site has redirected the client here recently."""
        for value in v.values(IN_COOKIE, COOKIE):
            v.arrived = sender(self.key, value, v.clock())
            if v.arrived is not None:
                return True
        return False

    cdef object _best(self, View v):
        """A site with capacity and, unless this one is full, less load than here: preferably one that suits the client,
        else the least loaded."""
        cdef object found = None
        cdef bint suits, found_suits = False
        cdef double least = 1.0
        own = None if self.full else v.resources.site_load(self.own)
        if own is None and not self.full:
            return None
        for peer in self.peers:
            load = v.resources.site_load(peer[0])
            if load is None or load >= 1.0 or (own is not None and load >= own):
                continue
            suits = peer[2] is not None and (<Condition>peer[2]).holds(v)
            if found is None or (suits and not found_suits) or (suits == found_suits and load < least):
                found, found_suits, least = peer, suits, load
        return found
