"""Redirects clients to other sites, and recognizes clients that other sites have redirected here."""

from libc.stdint cimport uint32_t

from gateway.rules.actions cimport Step, answer
from gateway.rules.conditions cimport Condition
from gateway.rules.view cimport IN_COOKIE, IN_HEADER, View

from gateway.rules.site_token import DESTINATION, LIFETIME, NAME, SENT, mark, read, sender, with_mark, without

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t n, const void *needle, size_t length)

COOKIE = NAME.encode()
SENT_COOKIE = SENT.encode()


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
        cdef bytes uri
        cdef uint32_t at = v.path_len
        if v.uri_len <= at or memmem(v.uri + at, v.uri_len - at, b"gwsite=", 7) == NULL:
            return None
        uri, found = without(v.uri[:v.uri_len])
        if found is None:
            return None
        v.own(uri, v.path_len)
        v.arrived = sender(self.key, found, v.clock())
        if v.arrived is not None:
            v.edits(True).append(b"Set-Cookie", _cookie(v, COOKIE, found))
        return None

    cdef int explain(self, View v, dict trace) except -1:
        """The known load of each site."""
        trace["sites"] = {name: v.resources.site_load(name) for name in self.names}
        return 0


cdef class ToSite(Step):
    """Redirect the client to another site, unless a site has just redirected it here.

    own: name of this site. peers: (name, url, a Condition for the clients that it is preferred for, or None). how:
    "named": to the only peer, whatever its load. "best": to one with less load than this one. "full": this site has no
    room, so its load does not matter. "spill": control says how many of the new clients are sent where, and the others
    stay. A client goes to the site that it was sent to before, while that has room.
    """
    cdef str own
    cdef tuple peers
    cdef bytes key
    cdef str how

    def __init__(self, own, peers, bytes key, str how):
        self.own = own
        self.peers = tuple([(name, url.encode(), clients) for name, url, clients in peers])
        self.key = key
        self.how = how
        self.text = {"named": f"site {self.peers[0][0]}", "spill": "site spill"}.get(how, "site auto")

    cdef object run(self, View v):
        cdef bytes uri, given
        cdef object peer
        # Browsers do not follow redirects of WebSocket handshakes.
        if v.arrived is not None or v.values(IN_HEADER, b"upgrade") or self._stays(v):
            return None
        uri = v.p[v.h.target:v.h.target + v.h.target_len]
        if not uri.startswith(b"/"):
            return None
        peer = self.peers[0] if self.how == "named" else self._again(v) or self._choose(v)
        if peer is None:
            if self.how == "spill":
                self._set(v, COOKIE, mark(self.key, self.own, v.clock()))
            return None
        name, url, _ = peer
        v.site = name
        given = mark(self.key, self.own, v.clock())
        lines = b"Location: " + url + with_mark(uri, given) + b"\r\nCache-Control: no-store\r\n"
        if self.how != "named":
            lines += b"Set-Cookie: " + _cookie(v, SENT_COOKIE, mark(self.key, name, v.clock(), DESTINATION)) + b"\r\n"
        plain = v.p[:v.h.method_len] in (b"GET", b"HEAD")
        # Other methods keep their method and body only with 307 (RFC 9110 section 15.4.8).
        return answer(302 if plain else 307, lines, b"")

    cdef int explain(self, View v, dict trace) except -1:
        """The part of new clients that is sent to each site."""
        if self.how == "spill":
            trace["spill"] = {peer[0]: v.resources.site_spill(peer[0]) for peer in self.peers}
        return 0

    cdef bint _stays(self, View v) except -1:
        """Whether the client is to stay: a site has redirected it here, or this one has let it stay before."""
        for value in v.values(IN_COOKIE, COOKIE):
            token = read(self.key, value, v.clock())
            if token is None or (token[0] == self.own and self.how != "spill"):
                continue
            if token[0] != self.own:
                v.arrived = token[0]
            if token[1] > LIFETIME / 2:
                self._set(v, COOKIE, mark(self.key, token[0], v.clock()))
            return True
        return False

    cdef object _again(self, View v):
        """The site that this one has sent the client to before, if it has room."""
        for value in v.values(IN_COOKIE, SENT_COOKIE):
            token = read(self.key, value, v.clock(), DESTINATION)
            for peer in self.peers if token is not None else ():
                load = v.resources.site_load(peer[0]) if peer[0] == token[0] else None
                if load is not None and load < 1.0:
                    return peer
        return None

    cdef object _choose(self, View v):
        return self._spilled(v) if self.how == "spill" else self._best(v)

    cdef object _spilled(self, View v):
        """For as many new clients as control says: a site that suits the client, or else one by their shares."""
        cdef list shares = [(v.resources.site_spill(peer[0]), peer) for peer in self.peers]
        cdef double drawn = v.resources.draw(), below = 0
        if drawn >= sum([share for share, _ in shares]):
            return None
        for share, peer in shares:
            if share > 0 and peer[2] is not None and (<Condition>peer[2]).holds(v):
                return peer
        for share, peer in sorted(shares, key=_largest):
            below += share
            if drawn < below:
                return peer
        return None

    cdef object _best(self, View v):
        """A site with capacity and, unless this one is full, less load than here: preferably one that suits the client,
        else the least loaded."""
        cdef object found = None
        cdef bint suits, found_suits = False
        cdef bint full = self.how == "full"
        cdef double least = 1.0
        own = None if full else v.resources.site_load(self.own)
        if own is None and not full:
            return None
        for peer in self.peers:
            load = v.resources.site_load(peer[0])
            if load is None or load >= 1.0 or (own is not None and load >= own):
                continue
            suits = peer[2] is not None and (<Condition>peer[2]).holds(v)
            if found is None or (suits and not found_suits) or (suits == found_suits and load < least):
                found, found_suits, least = peer, suits, load
        return found

    cdef int _set(self, View v, bytes name, bytes value) except -1:
        v.edits(True).append(b"Set-Cookie", _cookie(v, name, value))
        return 0


def _largest(part):
    return -part[0]


cdef bytes _cookie(View v, bytes name, bytes value):
    """A cookie for the lifetime of a token."""
    secure = b"; Secure" if v.scheme == 2 else b""
    return b"%s=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax%s" % (name, value, LIFETIME, secure)
