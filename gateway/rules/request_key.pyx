"""Keys of requests: hashes of their source, a header, a cookie, a query parameter or a template."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from gateway.rules.view cimport IN_COOKIE, IN_HEADER, IN_QUERY, Value
from gateway.wire.siphash cimport siphash64

cdef enum Per:
    PER_NOTHING = 0         # all requests share the rate
    PER_SOURCE
    PER_HEADER
    PER_COOKIE
    PER_QUERY
    PER_TEMPLATE

cdef enum:
    NETWORK = 8             # bytes of an IPv6 prefix that belongs to one client: a /64 (RFC 6177 section 2)

KINDS = {None: PER_NOTHING, "source": PER_SOURCE, "header": PER_HEADER, "cookie": PER_COOKIE, "query": PER_QUERY,
         "template": PER_TEMPLATE}


cdef class RequestKey:
    """per: a kind of config.rate_limit.Per, with `field` or `template`; None: all requests have one key.

    secret: 16 bytes; the same value has different keys under different secrets.
    """

    def __init__(self, per, str field="", Template template=None, *, bytes secret):
        self.per = KINDS[per]
        self.field = field.lower().encode() if per == "header" else field.encode()
        self.template = template
        self.secret = secret
        self.text = f"{per}:{field}" if field else per or ""

    cdef int keys(self, View v, uint64_t *found) except -1:
        """Find the keys by which a request counts, at most MOST_KEYS; how many they are, at least one.

        A request that has the header, cookie or parameter several times counts for each value, since servers differ in
        which one they read. If it has too many, it has one key with all such requests, as with all that have none.
        """
        cdef const uint8_t *secret = <const uint8_t *>PyBytes_AS_STRING(self.secret)
        cdef Value value
        cdef uint64_t hashed
        cdef int where, i, n = 0
        if self.per == PER_HEADER:
            where = IN_HEADER
        elif self.per == PER_COOKIE:
            where = IN_COOKIE
        elif self.per == PER_QUERY:
            where = IN_QUERY
        else:
            found[0] = self._one(v)
            return 1
        value.field = value.at = 0
        while v.next(where, self.field, &value):
            hashed = siphash64(secret, <const uint8_t *>value.p, value.n)
            for i in range(n):
                if found[i] == hashed:
                    break
            else:
                if n == MOST_KEYS:
                    n = 0
                    break
                found[n] = hashed
                n += 1
        if n == 0:
            found[0] = siphash64(secret, secret, 0)
            n = 1
        return n

    cdef uint64_t _one(self, View v) except? 0:
        """The key of a source, of a template, or of all requests."""
        cdef uint8_t source[1 + NETWORK]
        cdef bytes text
        cdef const uint8_t *secret = <const uint8_t *>PyBytes_AS_STRING(self.secret)
        if self.per == PER_SOURCE:
            if v.family == 0:
                v.parse_client()
            source[0] = v.family
            memcpy(source + 1, v.address, NETWORK)
            return siphash64(secret, source, 1 + (4 if v.family == 4 else NETWORK if v.family == 6 else 0))
        if self.per == PER_TEMPLATE:
            text = self.template.render(v)
            return siphash64(secret, <const uint8_t *>PyBytes_AS_STRING(text), <size_t>PyBytes_GET_SIZE(text))
        return siphash64(secret, secret, 0)

    cdef uint64_t key(self, View v) except? 0:
        """The one key of a request for which a single one must do: several values are like none."""
        cdef uint64_t found[MOST_KEYS]
        cdef const uint8_t *secret = <const uint8_t *>PyBytes_AS_STRING(self.secret)
        return found[0] if self.keys(v, found) == 1 else siphash64(secret, secret, 0)

    def keys_of(self, View v):
        """The same as `keys`; for tests."""
        cdef uint64_t found[MOST_KEYS]
        cdef int i, n = self.keys(v, found)
        return [found[i] for i in range(n)]

    def key_of(self, View v):
        """The same as `key`; for tests."""
        return self.key(v)
