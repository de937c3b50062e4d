"""What requests say about where they came from: made once for a connection."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from gateway.wire.edit cimport FRAME_LENGTH, Out, edit_request, edit_response, edit_upgrade
from gateway.wire.head cimport (
    F_X_FORWARDED_FOR, F_X_FORWARDED_PROTO, R_OK, Bounds, Field, find_end, same_any, scan_request, scan_response,
)


cdef class Provenance:
    """A connection from `address`, empty where there is none (of a Unix socket).

    fallback: host of requests that name none; via: a complete header line.
    trusts: says whether an address (text) is a trusted proxy's, if the peer is one; otherwise None.
    """

    def __init__(self, bytes address, bint https, bytes fallback, bytes via, trusts):
        cdef bytes proto = b"https" if https else b"http"
        self.address = address
        self.trusts = trusts
        self.node = b'"[' + address + b']"' if b":" in address else (address or b"unknown")
        self.fixed = (b"X-Forwarded-For: " + address + b"\r\n" if address else b"") + (
            b"X-Forwarded-Proto: " + proto + b"\r\nForwarded: for=" + self.node + b";proto=" + proto)
        self.fallback_host = fallback
        self.via = via
        self.origin.fixed = PyBytes_AS_STRING(self.fixed)
        self.origin.fixed_len = <uint32_t>PyBytes_GET_SIZE(self.fixed)
        self.origin.address = PyBytes_AS_STRING(self.address)
        self.origin.address_len = <uint32_t>PyBytes_GET_SIZE(self.address)
        self.origin.node = PyBytes_AS_STRING(self.node)
        self.origin.node_len = <uint32_t>PyBytes_GET_SIZE(self.node)
        self.origin.via = PyBytes_AS_STRING(self.via)
        self.origin.via_len = <uint32_t>PyBytes_GET_SIZE(self.via)
        self.origin.fallback_host = PyBytes_AS_STRING(self.fallback_host)
        self.origin.fallback_host_len = <uint32_t>PyBytes_GET_SIZE(self.fallback_host)
        self.origin.trusted = trusts is not None
        self.origin.https = https

    cdef bytes client(self, const char *p, Head *h):
        """The client's address: the peer's, or of what trusted proxies say the nearest that is none of theirs."""
        cdef int i
        cdef Field *f
        cdef bytes found = self.address
        if self.trusts is None:
            return found
        for i in range(h.count - 1, -1, -1):
            f = &h.fields[i]
            if f.known != F_X_FORWARDED_FOR:
                continue
            for text in reversed(p[f.value:f.value + f.value_len].split(b",")):
                text = text.strip()
                if not text:
                    continue            # an empty element of a list says nothing (RFC 9110 section 5.6.1.2)
                try:
                    trusted = self.trusts(text.decode("latin-1"))
                except ValueError:
                    return found        # no address: whoever is believed has said nothing beyond it
                found = text
                if not trusted:
                    return found
        return found

    cdef bint secure(self, const char *p, Head *h) noexcept:
        """Whether the client spoke https: to us, or to the trusted proxy that says so."""
        cdef int i
        cdef Field *f
        if self.trusts is None:
            return self.origin.https
        for i in range(h.count):
            f = &h.fields[i]
            if f.known == F_X_FORWARDED_PROTO and f.value_len:
                return f.value_len == 5 and same_any(p + f.value, b"https", 5)
        return self.origin.https


# ------------------------------------------------------------------------------------------------------------ for tests

cdef Head _scratch
cdef Out _edited


def for_server(bytes head, Provenance origin, bytes request_id=b"", bytes extra=b""):
    """What a server gets of a complete request head, for a test; see edit_request. Raises ValueError."""
    cdef bytes padded = head + b"\0" * 16
    cdef const char *p = padded
    _scan(p, <uint32_t>len(head), False)
    edit_request(&_edited, p, &_scratch, p + _scratch.target, _scratch.target_len, &origin.origin,
                 extra, <uint32_t>len(extra), request_id, <uint32_t>len(request_id))
    return _edited.p[:_edited.n]


def for_client(bytes head, bytes extra, bytes request_id=b""):
    """What a client gets of a complete response head, for a test; see edit_response. Raises ValueError."""
    cdef bytes padded = head + b"\0" * 16
    cdef const char *p = padded
    _scan(p, <uint32_t>len(head), True)
    if _scratch.status == 101:
        edit_upgrade(&_edited, p, &_scratch, extra, <uint32_t>len(extra), request_id, <uint32_t>len(request_id))
    else:
        edit_response(&_edited, p, &_scratch, FRAME_LENGTH, 0, extra, <uint32_t>len(extra), request_id,
                      <uint32_t>len(request_id))
    return _edited.p[:_edited.n]


cdef _scan(const char *p, uint32_t n, bint response):
    cdef Bounds bounds
    cdef uint32_t seen = 0, end = 0
    cdef int why = find_end(p, n, &seen, &end)
    bounds.head = bounds.target = 60 * 1024
    bounds.fields = 1000
    if why == R_OK:
        why = scan_response(p, end, &_scratch, &bounds) if response else scan_request(p, end, &_scratch, &bounds)
    if why != R_OK:
        raise ValueError(f"not a head: {why}")
