"""`qos: sessions:` between a request and qos/sessions.pyx: finds the ticket, and makes the response to the client.

A ticket is in a cookie or in a query parameter. A request for a part of a page (an image, a style) gets no place of its
own: its page has the session, and would otherwise wait behind it.
"""

from libc.string cimport memcmp
from libc.time cimport time as c_time

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from gateway.proxy.server_room cimport ServerRoom
from gateway.rules.actions cimport Respond, names_host
from gateway.rules.view cimport IN_COOKIE, IN_HEADER, Value
from qos.headroom cimport Busy, free_places
from qos.sessions cimport A_ADOPTED, A_ASSET, A_EARLY, A_FULL, A_LIVE, A_NEW, A_RENEWED, A_WAITS
from qos.tickets cimport K_NONE, TEXT

from qos.sessions import MOST_SESSIONS
from gateway.wire.waiting_page import RETRY_WHEN_FULL, full_json

# Sec-Fetch-Dest of the parts of a page (fetch.spec.whatwg.org); "empty" may be a program.
cdef frozenset _ASSETS = frozenset((
    b"audio", b"audioworklet", b"font", b"image", b"manifest", b"paintworklet", b"script", b"serviceworker",
    b"sharedworker", b"style", b"track", b"video", b"worker", b"xslt",
))
cdef bytes _ACCEPT = b"accept"
cdef bytes _DESTINATION = b"sec-fetch-dest"
cdef bytes _HTML = b"Content-Type: text/html; charset=utf-8\r\n"
cdef bytes _JSON = b"Content-Type: application/json\r\n"


cdef class SessionGate:
    """table: shared by all workers. key: of tickets. most: sessions at once; 0: as many as `backends` have room for.

    idle, refresh: whole seconds. opens: seconds since 1970, or 0. full: status, type and page for clients that
    get no place; elsewhere: sends them to another site instead, while that has room. One of cookie and url is the name
    of what has the ticket.
    """

    def __init__(self, SessionTable table, bytes key, *, most, idle, places, refresh, opens, cookie, url, page, full,
                 backends, Step elsewhere=None):
        self.table = table
        self.tickets = Tickets(key)
        self.terms.max = most
        self.terms.idle = idle
        self.terms.places = places
        self.terms.refresh = refresh
        self.terms.opens = opens
        self.by_url = url is not None
        self.name = (url or cookie).encode()
        self.page = page
        self.full_status = full[0]
        self.full = (f"Content-Type: {full[1]}\r\nCache-Control: no-store\r\n"
                     f"Retry-After: {RETRY_WHEN_FULL}\r\n".encode(), full[2])
        self.elsewhere = elsewhere
        self.terms.measured = not most
        self.rooms = None if most else tuple([ServerRoom(backend) for backend in backends])
        self.assumed = ("none", 0, 0, 0)
        self.retry = b"Retry-After: %d\r\nCache-Control: no-store\r\n" % refresh

    def take_up(self, int64_t now):
        """Use these limits for counting from now on."""
        if self.rooms is not None:
            self._measure(now)
        self.table.census(now * 1e-9, most=self.terms.max, idle=self.terms.idle, refresh=self.terms.refresh)

    cdef int ask(self, View v, const char *target, uint32_t n, int64_t now) except -1:
        """The Gate for a request whose target has n bytes."""
        cdef Ticket ticket
        cdef int64_t wall = <int64_t>c_time(NULL)
        self.line = self.text = None
        if self.rooms is not None:
            self._measure(now)
        self.find(v, target, n, &ticket)
        self.what = self.table.live(&self.terms, &ticket, now, wall, &self.answer)
        if self.what == A_LIVE:
            return G_GO
        if self.what < 0:
            self.what = self.table.admit(&self.terms, &ticket, self._is_asset(v), now, wall, &self.answer)
        return self.settle(v)

    cdef int foresee(self, View v) except -1:
        """The Gate for a request under a test's assumptions; nothing is counted. Same rules as in qos/sessions.pyx."""
        cdef str ticket
        cdef int64_t free
        ticket, live, waiting, place = self.assumed
        free = (MOST_SESSIONS if self.rooms is not None else <int64_t>self.terms.max) - <int64_t>live
        self.line = self.text = None
        self.answer.changed = False
        self.answer.place = place if ticket == "queued" else waiting
        if ticket == "live":
            self.what = A_LIVE
        elif self.terms.opens > v.clock():
            self.what = A_EARLY
        else:
            self.what = A_NEW if free > <int64_t>self.answer.place else A_WAITS
        if ticket != "live" and self._is_asset(v):
            self.answer.room = self.what == A_NEW
            self.what = A_ASSET
        elif self.what == A_WAITS and ticket == "none" and waiting >= self.terms.places:
            self.what = A_FULL
        return self.settle(v)

    cdef int settle(self, View v) except -1:
        """The Gate for the table's result."""
        if self.answer.changed and not (self.by_url and (self.what == A_RENEWED or self.what == A_ADOPTED)):
            self.text = self.tickets.write(&self.answer.ticket)
            if not self.by_url:
                self.line = b"Set-Cookie: %s=%s; Path=/; HttpOnly; SameSite=Lax%s\r\n" % (
                    self.name, self.text, b"; Secure" if v.scheme == 2 else b"")
        if self.what == A_NEW and self.text is not None and self.by_url:
            return G_REDIRECT
        if self.what <= A_NEW:
            return G_GO
        if self.what == A_ASSET:
            return G_GO if self.answer.room else G_ASSET
        return G_FULL if self.what == A_FULL else G_WAIT

    cdef tuple reply(self, int gate, View v, const char *target, uint32_t n, str klass):
        """The response to a request that does not proceed: status, header lines, body. klass: its class, or None."""
        cdef Respond other
        cdef bytes accept, address = b"" if not self.by_url else self._address(target, n)
        cdef bint programmed
        if gate == G_REDIRECT:
            # 307: the client repeats the same method.
            return 307, b"Location: %s\r\nCache-Control: no-store\r\n" % address, b""
        if gate == G_ASSET:
            return 503, self.retry, b""
        if gate == G_FULL and self.elsewhere is not None:
            other = self.elsewhere.run(v)
            if other is not None:
                return other.status, other.lines, other.body
        accept = self._header(v, _ACCEPT)
        programmed = b"application/json" in accept and b"text/html" not in accept
        if gate == G_FULL:
            if programmed:
                return self.full_status, b"%sCache-Control: no-store\r\nRetry-After: %d\r\n" % (
                    _JSON, RETRY_WHEN_FULL), full_json()
            return (self.full_status, *self.full)
        place = None if self.what == A_EARLY else self.answer.place
        make = self.page.json if programmed else self.page.html
        body = make(place, max(self.table.waiting(), self.answer.place + 1), self.estimate(), klass or "",
                    address.decode("latin-1"))
        lines = self.retry + b"X-Waiting-Room: 1\r\n" + (_JSON if programmed else _HTML)
        if not programmed and self.page.custom:
            lines += b"Refresh: %d%s\r\n" % (self.terms.refresh, b"; url=" + address if address else b"")
        return 503, lines, body

    cdef object estimate(self):
        """Seconds until this request's client is admitted; None: unknown."""
        cdef double rate = self.table.advance_rate()
        return (self.answer.place + 1) / rate if rate > 0 and self.what == A_WAITS else None

    cdef int find(self, View v, const char *target, uint32_t n, Ticket *ticket) except -1:
        """The first valid ticket of a request; of kind K_NONE: it has none."""
        cdef Value value
        cdef uint32_t at = 1, length = <uint32_t>PyBytes_GET_SIZE(self.name)
        ticket.kind = K_NONE
        if self.by_url:
            while at + length + 1 + TEXT <= n:
                if (target[at + length] == c'=' and (target[at - 1] == c'?' or target[at - 1] == c'&')
                        and memcmp(target + at, PyBytes_AS_STRING(self.name), length) == 0
                        and self.tickets.read(target + at + length + 1, TEXT, ticket)):
                    return 0
                at += 1
            return 0
        value.field = 0
        value.at = 0
        while v.next(IN_COOKIE, self.name, &value):
            if self.tickets.read(value.p, value.n, ticket):
                return 0
        return 0

    cdef bytes _address(self, const char *target, uint32_t n):
        """The target with its new ticket, or with its present one."""
        cdef bytes given = target[:n]
        if names_host(target, n):
            given = b"/." + given
        path, _, query = given.partition(b"?")
        kept = [part for part in query.split(b"&")
                if part and (self.text is None or not part.startswith(self.name + b"="))]
        if self.text is not None:
            kept.append(self.name + b"=" + self.text)
        return path + b"?" + b"&".join(kept)

    cdef bytes _header(self, View v, bytes name):
        """The first value of a header; empty: it is missing."""
        cdef Value value
        value.field = 0
        value.at = 0
        return value.p[:value.n] if v.next(IN_HEADER, name, &value) else b""

    cdef bint _is_asset(self, View v) except -1:
        """Whether a request is for a part of a page."""
        cdef bytes destination = self._header(v, _DESTINATION)
        cdef bytes accept
        if destination:
            return destination in _ASSETS
        accept = self._header(v, _ACCEPT)       # of older browsers
        return accept.startswith((b"image/", b"text/css"))

    cdef int _measure(self, int64_t now) except -1:
        """`max: auto`: the number of sessions that the servers have room for, by the backend that has the least."""
        cdef ServerRoom room
        cdef Busy busy, busiest
        cdef double share, least = 0
        if self.table.to_measure(now):
            busiest.places = 0
            for room in self.rooms:
                room.measure(&busy)
                if busy.places > 0:
                    share = free_places(&busy) / busy.places
                    if busiest.places == 0 or share < least:
                        busiest = busy
                        least = share
            self.table.measure(&self.terms, &busiest, now)
        self.terms.max = self.table.measured()
        return 0
