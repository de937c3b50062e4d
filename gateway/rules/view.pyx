"""A request as rules see it.

A worker has one View and reuses it for every request: nothing is copied or looked up before a rule needs it. Changes by
rules (path, query, class, headers) are kept here, separate from the bytes that the client sent.
"""

from time import time

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy

from gateway.wire.edit cimport Out, out_put, out_reserve
from gateway.wire.head cimport (
    F_COOKIE, R_OK, Bounds, Field, Head, find_end, same_any, same_to_servers, scan_request, sentence_of, status_of,
)
from gateway.wire.target cimport A_MERGE, A_PARAMETERS, as_matched, normalise

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char *text, void *address)

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET, AF_INET6

PLACES = {"header": IN_HEADER, "cookie": IN_COOKIE, "query": IN_QUERY}


cdef class Edits:
    def __init__(self):
        self.names = {}
        self.lines = []
        self.by_status = None
        self.status = 0

    def set(self, bytes name, value):
        """Replace a field by one with this value; None removes it. Raises ValueError if the value has a line break."""
        cdef bytes lower = name.lower()
        self.names[lower] = name
        self.lines = [item for item in self.lines if item[0] != lower]
        if value is not None:
            self.append(name, value)

    def append(self, bytes name, bytes value):
        """Add a field. Raises ValueError if the value has a line break."""
        if b"\r" in value or b"\n" in value or b"\0" in value:
            raise ValueError(f"the value of {name.decode('latin-1')} contains a line break")
        self.lines.append((name.lower(), name + b": " + value + b"\r\n"))

    def set_if_absent(self, bytes name, bytes value):
        """Add a field unless the head has one with that name."""
        self.append(name, value)
        self.lines.append((*self.lines.pop(), None, None, False))

    def edit(self, bytes name, search, replacement, bint every):
        """Change the values of a field: the first match of `search`, or every one, becomes `replacement(match)`."""
        self.lines.append((name.lower(), name + b": ", search, replacement, every))

    def when(self, bytes name, holds):
        """Edits of one field for answers of which `holds` says so, by their status and fields (see _settle_lines)."""
        made = Edits()
        self.lines.append((name.lower(), made, holds))
        return made

    cdef Edits of_status(self, tuple ranges):
        """Edits for answers with a status in one of the ranges (first, last); they follow those for all answers."""
        cdef Edits made = Edits()
        if self.by_status is None:
            self.by_status = []
        self.by_status.append((ranges, made))
        return made

    cdef int settle_status(self, int status) except -1:
        """Take up the edits for an answer with this status."""
        cdef Edits other
        self.status = status
        if self.by_status is None:
            return 0
        for ranges, edits in self.by_status:
            if any([first <= status <= last for first, last in ranges]):
                other = edits
                self.names.update(other.names)
                self.lines = [item for item in self.lines if item[0] not in other.names] + other.lines
        self.by_status = None
        return 0

    def settled(self, int status):
        """The same as `settle_status`, and then `listed`; for tests."""
        self.settle_status(status)
        return self.listed()

    def listed(self):
        """(lower-case names to remove, complete lines to add); for explain."""
        self._settle_lines([])      # as for a response without any of the fields
        return list(self.names), self.added()

    cdef set fields(self):
        """The names of all fields that are changed, in lower case."""
        return {*self.names, *[item[0] for item in self.lines]}

    cdef int leave_out(self, const char *p, Head *h, bint to_server) except -1:
        """Mark the fields of a head that are not forwarded; of one to a server also those that it takes for them."""
        cdef int i
        cdef Field *f
        cdef bytes name
        cdef const char *text
        for name in self.names:
            text = PyBytes_AS_STRING(name)
            for i in range(h.count):
                f = &h.fields[i]
                if f.name_len == PyBytes_GET_SIZE(name) and (
                        same_to_servers(p + f.name, text, f.name_len) if to_server
                        else same_any(p + f.name, text, f.name_len)):
                    f.drop = True
        for item in self.lines:
            if len(<tuple>item) > 2:
                _settle(self, p, h)
                break
        return 0

    def _settle_lines(self, fields):
        """Apply the edits that depend on a head's fields: a list of [lower-case name, value, None or its new value]."""
        cdef Edits other
        made = []
        waiting = list(reversed(self.lines))
        while waiting:
            item = waiting.pop()
            if len(item) == 2:
                made.append(item)
                continue
            if len(item) == 3:
                lower, other, holds = item
                if holds(self.status, fields):
                    if other.names:
                        self.names.update(other.names)
                        fields[:] = [field for field in fields if field[0] != lower]
                        made = [line for line in made if line[0] != lower]
                    waiting += reversed(other.lines)
                continue
            lower, text, search, replacement, every = item
            if search is None:
                if not any([field[0] == lower for field in fields]) and not any([line[0] == lower for line in made]):
                    made.append((lower, text))
                continue
            for field in fields:
                if field[0] == lower:
                    field[2] = replaced(search, replacement, field[1] if field[2] is None else field[2], every)
            made = [(name, text + replaced(search, replacement, line[len(text):].rstrip(b"\r\n"), every) + b"\r\n")
                    if name == lower else (name, line) for name, line in made]
        self.lines = made

    cdef bytes added(self):
        return b"".join([line for _, line in self.lines])

    cdef bytes merged(self, bytes lines):
        """Complete header lines of a gateway response, after these edits."""
        if any([len(item) > 2 for item in self.lines]):
            self._settle_lines([[line.partition(b":")[0].lower(), line.partition(b":")[2].strip(), None]
                                for line in lines.split(b"\r\n") if line])
        kept = [line + b"\r\n" for line in lines.split(b"\r\n")
                if line and line.partition(b":")[0].lower() not in self.names]
        return b"".join(kept) + self.added()


cdef int _settle(Edits edits, const char *p, Head *h) except -1:
    """Apply the edits that depend on the fields of a head."""
    cdef int i
    cdef Field *f
    fields = []
    for i in range(h.count):
        f = &h.fields[i]
        if not f.drop:
            name = p[f.name:f.name + f.name_len]
            fields.append([name.lower(), p[f.value:f.value + f.value_len], None, i, name])
    every = list(fields)
    edits._settle_lines(fields)
    kept = {field[3] for field in fields}
    for _, _, _, i, _ in every:
        h.fields[i].drop = i not in kept
    for _, value, changed, i, name in fields:
        if changed is not None and changed != value:
            h.fields[i].drop = True
            edits.append(name, changed)
    return 0


def replaced(search, replacement, bytes value, bint every):
    """Replace the first match, or every one, in a value."""
    made = []
    while True:
        match = search(value)
        if match is None:
            break
        found = match.group(0)
        start = match.start()
        made += [value[:start], replacement(match)]
        value = value[start + len(found):]
        if not every or not found:
            break
    return b"".join(made) + value


cdef class Resources:
    cdef object load(self, str backend):
        """The load of a backend from 0 (idle) to 1 (full) or more; None: unknown."""
        return None

    cdef int up(self, str backend) except -1:
        """The number of available servers of a backend."""
        return 0

    cdef int sessions(self) except -1:
        """The number of sessions."""
        return 0

    cdef object site_load(self, str site):
        """The load of a site from 0 (idle) to 1 (full) or more; None: unknown."""
        return None

    cdef double site_spill(self, str site) except -1:
        """The part of new clients that is sent to a site, from 0 to 1."""
        return 0.0

    cdef double draw(self) except -1:
        """A number from 0 to 1, below it, that decides for a client what holds for a part of them."""
        return 0.5


cdef class Assumed(Resources):
    """Assumed values for tests: loads and numbers of servers by backend, the number of sessions, loads of sites, and
    the part of new clients that is sent to each. Clients decide as most of them would.
    """
    cdef dict loads
    cdef dict ups
    cdef int session_count
    cdef dict site_loads
    cdef dict spilled

    def __init__(self, loads, up, int sessions=0, site_loads=(), spilled=()):
        self.site_loads = dict(site_loads)
        self.spilled = dict(spilled)
        self.loads = dict(loads)
        self.ups = dict(up)
        self.session_count = sessions

    cdef object load(self, str backend):
        return self.loads.get(backend)

    cdef int up(self, str backend) except -1:
        return self.ups.get(backend, 0)

    cdef int sessions(self) except -1:
        return self.session_count

    cdef object site_load(self, str site):
        return self.site_loads.get(site)

    cdef double site_spill(self, str site) except -1:
        return self.spilled.get(site, 0.0)


cdef class View:
    def __cinit__(self):
        self.resources = Resources()
        self.clock = time

    def __dealloc__(self):
        free(self.own_head)
        free(self.normal.p)
        free(self.seen.p)

    cdef int look(self, const char *p, Head *h, bint https, bytes client, bytes peer, int accept) except -1:
        """Set the view to the request with head h at p. R_OK, or the reason why its path is refused."""
        cdef int why
        self.accept = accept
        self.sent_len = 0
        if h.plain_target or not h.path_len:
            self.uri = p + h.target
            self.uri_len = h.target_len
            self.path_len = h.path_len
        else:
            why = self.normalised(p + h.target, h.path_len, p + h.target + h.path_len, h.target_len - h.path_len,
                                  accept)
            if why != R_OK:
                return why
        self.p = p
        self.h = h
        self.scheme = 2 if https else 1
        if client is not self.client:
            self.client = client
            self.peer = peer
            self.family = 0
        self.changed = False
        self.matched = 0
        self.groups = None
        self.klass = None
        self.arrived = self.site = None
        self.request_edits = self.response_edits = None
        self.charges = None
        self.bandwidth = 0
        if self.pages is not None:
            self.pages = None
        self.user = None
        self.body_bytes = self.header_bytes = -1
        self.request_id = None
        self.id_n = 0
        return 0

    cdef int normalised(self, const char *path, uint32_t path_len, const char *query, uint32_t query_len,
                        int accept) except -1:
        """Continue with the normal form of a path, and a query that begins with its question mark. R_OK, or the reason
        why the path is refused."""
        cdef Out *now
        cdef int n
        self.normal.n = self.seen.n = 0
        out_reserve(&self.normal, 3 * path_len + query_len + 16)
        n = normalise(path, path_len, self.normal.p, accept)
        if n < 0:
            return -n
        now = &self.normal
        self.sent_len = 0
        if memchr(self.normal.p, c'%', n) != NULL:
            out_reserve(&self.seen, n + query_len + 16)
            self.seen.n = as_matched(self.normal.p, n, self.seen.p)
            if self.seen.n < <uint32_t>n:
                self.sent = self.normal.p
                self.sent_len = n
                now = &self.seen
        if now == &self.normal:
            now.n = n
        self.path_len = now.n
        out_put(now, query, query_len)
        self.uri = now.p
        self.uri_len = now.n
        return R_OK

    cdef bytes id(self):
        """The request's id; empty if it has none."""
        if self.request_id is None:
            self.request_id = PyBytes_FromStringAndSize(self.id_p, self.id_n) if self.id_n else b""
        return self.request_id

    cdef bytes path(self):
        return PyBytes_FromStringAndSize(self.uri, self.path_len)

    cdef bytes query(self):
        """The query without its question mark; None if there is none."""
        if self.uri_len <= self.path_len:
            return None
        return PyBytes_FromStringAndSize(self.uri + self.path_len + 1, self.uri_len - self.path_len - 1)

    cdef bytes host(self):
        return PyBytes_FromStringAndSize(self.p + self.h.host, self.h.host_len)

    cdef int own(self, bytes uri, uint32_t path_len) except -1:
        """Continue with another query, and a path of the same length or as `normalised` has left it."""
        self.owned = uri
        self.uri = PyBytes_AS_STRING(uri)
        self.uri_len = <uint32_t>PyBytes_GET_SIZE(uri)
        self.path_len = path_len
        self.changed = True
        return 0

    cdef Edits edits(self, bint response):
        if response:
            if self.response_edits is None:
                self.response_edits = Edits()
            return self.response_edits
        if self.request_edits is None:
            self.request_edits = Edits()
        return self.request_edits

    cdef int parse_client(self) except -1:
        """Fill `address`; an IPv4-mapped IPv6 address counts as IPv4."""
        cdef const char *text = PyBytes_AS_STRING(self.client)
        if inet_pton(AF_INET, text, self.address) == 1:
            self.family = 4
        elif inet_pton(AF_INET6, text, self.address) == 1:
            self.family = 6
            if memcmp(self.address, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
                memcpy(self.address, self.address + 12, 4)
                self.family = 4
        else:
            self.family = 1
        return 0

    cdef bint next(self, int where, bytes name, Value *found) except -1:
        """Find the next value of a header (name in lower case), a cookie, or a query parameter (decoded).

        The value of a parameter is valid until the next lookup.
        """
        cdef uint32_t n = <uint32_t>PyBytes_GET_SIZE(name)
        cdef int i, count = self.h.count
        cdef Field *f = self.h.fields
        if where == IN_QUERY:
            return self._next_parameter(name, found)
        for i in range(found.field, count):
            if where == IN_COOKIE:
                if f[i].known != F_COOKIE:
                    continue
                if i != found.field:
                    found.field = i
                    found.at = 0
                if _next_cookie(self.p + f[i].value, f[i].value_len, name, found):
                    return True
            elif f[i].name_len == n and same_any(self.p + f[i].name, PyBytes_AS_STRING(name), n):
                found.p = self.p + f[i].value
                found.n = f[i].value_len
                found.field = i + 1
                return True
        found.field = count
        return False

    cdef bint _next_parameter(self, bytes name, Value *found) except -1:
        """Names and values are decoded as HTML forms are (application/x-www-form-urlencoded)."""
        cdef const char *p = self.uri + self.path_len + 1
        cdef uint32_t n, at, end, equals
        if self.uri_len <= self.path_len:
            return False
        n = self.uri_len - self.path_len - 1
        while found.at <= n:
            at = end = equals = found.at
            while end < n and p[end] != c'&':
                end += 1
            while equals < end and p[equals] != c'=':
                equals += 1
            found.at = end + 1
            if end > at and decoded(p + at, equals - at, True) == name:
                self.parameter = decoded(p + equals + 1, end - equals - 1, True) if equals < end else b""
                found.p = PyBytes_AS_STRING(self.parameter)
                found.n = <uint32_t>PyBytes_GET_SIZE(self.parameter)
                return True
        return False

    cdef list values(self, int where, bytes name):
        """All values, as bytes."""
        cdef Value found
        cdef list values = []
        found.field = found.at = 0
        while self.next(where, name, &found):
            values.append(PyBytes_FromStringAndSize(found.p, found.n))
        return values

    # For tests, explain and Python rules.

    def read(self, bytes head, *, bint https=False, str client="127.0.0.1"):
        """Parse a complete request head. None, or (status, sentence) if it is refused."""
        cdef Bounds bounds
        cdef uint32_t seen = 0, end = 0
        cdef int why
        cdef const char *p
        if self.own_head == NULL:
            self.own_head = <Head *>malloc(sizeof(Head))
            if self.own_head == NULL:
                raise MemoryError
        self.own_bytes = head + b"\0" * 16
        p = PyBytes_AS_STRING(self.own_bytes)
        bounds.head = bounds.target = 60 * 1024
        bounds.fields = 1000
        why = find_end(p, <uint32_t>len(head), &seen, &end)
        if why == R_OK:
            why = scan_request(p, end, self.own_head, &bounds)
        if why == R_OK:
            address = client.encode()
            why = self.look(p, self.own_head, https, address, address, A_MERGE | A_PARAMETERS)
        if why != R_OK:
            return status_of(why) or 400, sentence_of(why) if status_of(why) else "the head is incomplete"
        return None

    def lookup(self, str where, str name):
        """All values of a header, cookie or query parameter."""
        return self.values(PLACES[where], name.lower().encode() if where == "header" else name.encode())

    @property
    def uri_now(self):
        return PyBytes_FromStringAndSize(self.uri, self.uri_len)

    @property
    def path_now(self):
        return self.path()

    @property
    def query_now(self):
        return self.query()

    @property
    def host_now(self):
        return self.host()

    @property
    def method_now(self):
        return PyBytes_FromStringAndSize(self.p, self.h.method_len)

    @property
    def https(self):
        return self.scheme == 2


cdef bint _next_cookie(const char *p, uint32_t n, bytes name, Value *found) noexcept:
    """The next value of a cookie in a Cookie field (RFC 6265 section 5.4), without quotes and without the blanks around
    name and value that most servers pass over."""
    cdef uint32_t at = found.at, end, start, stop, length = <uint32_t>PyBytes_GET_SIZE(name)
    cdef const char *edge
    cdef bint known
    while at < n:
        edge = <const char *>memchr(p + at, c';', n - at)
        end = n if edge == NULL else <uint32_t>(edge - p)
        while at < end and (p[at] == c' ' or p[at] == c'\t'):
            at += 1
        start = at + length
        known = start < end and memcmp(p + at, PyBytes_AS_STRING(name), length) == 0
        at, stop = end + 1, end
        while known and start < end and (p[start] == c' ' or p[start] == c'\t'):
            start += 1
        if not known or start == end or p[start] != c'=':
            continue
        start += 1
        while start < stop and (p[start] == c' ' or p[start] == c'\t'):
            start += 1
        while stop > start and (p[stop - 1] == c' ' or p[stop - 1] == c'\t'):
            stop -= 1
        if stop - start >= 2 and p[start] == c'"' and p[stop - 1] == c'"':
            start += 1
            stop -= 1
        found.at = at
        found.p = p + start
        found.n = stop - start
        return True
    return False


cdef inline int _hex(uint8_t c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 32
    return c - c'a' + 10 if c'a' <= c <= c'f' else -1


cdef bytes decoded(const char *p, uint32_t n, bint form):
    """Decode percent-encoding; in a form, "+" is a space."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, n)
    cdef char *to = PyBytes_AS_STRING(out)
    cdef uint32_t i = 0, k = 0
    cdef int high, low
    while i < n:
        if p[i] == c'%' and i + 2 < n:
            high = _hex(<uint8_t>p[i + 1])
            low = _hex(<uint8_t>p[i + 2])
            if high >= 0 and low >= 0:
                to[k] = <char>(high * 16 + low)
                k += 1
                i += 3
                continue
        to[k] = c' ' if form and p[i] == c'+' else p[i]
        k += 1
        i += 1
    return out[:k]
