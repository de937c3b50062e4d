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

    cdef uint64_t key(self, View v) except? 0:
        """The request's key. Requests without the header, cookie or parameter share one key."""
        cdef uint8_t source[1 + NETWORK]
        cdef Value value
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
        value.field = value.at = value.n = 0
        value.p = PyBytes_AS_STRING(self.secret)
        if self.per == PER_HEADER:
            v.next(IN_HEADER, self.field, &value)
        elif self.per == PER_COOKIE:
            v.next(IN_COOKIE, self.field, &value)
        elif self.per == PER_QUERY:
            v.next(IN_QUERY, self.field, &value)
        return siphash64(secret, <const uint8_t *>value.p, value.n)

    def key_of(self, View v):
        """The same as `key`; for tests."""
        return self.key(v)
