"""Where requests come from, and how: what the connection says, and of trusted proxies what their requests say.

    peer not trusted    the peer is the client, the connection says the scheme; what they say is left out
    peer trusted        the client is the nearest address of the chain that is no trusted proxy's. The chain is the
                        field of client_from; without it X-Forwarded-For, or else Forwarded. What is no address ends it
                        the scheme is what X-Forwarded-Proto says; else proto of Forwarded; else X-Forwarded-Ssl: on is
                        https; else the connection's. Of a list the item counts that the proxy wrote that saw the client

A Provenance is made once for a connection. What its request under way says is in `client` and origin.asked_https.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from gateway.wire.edit cimport FRAME_LENGTH, Out, edit_request, edit_response, edit_upgrade
from gateway.wire.head cimport R_OK, Bounds, Field, find_end, same_any, same_to_servers, scan_request, scan_response

from gateway.wire.forwarded import address as address_of, elements

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET, AF_INET6

    cdef struct sockaddr:
        pass

    cdef struct sockaddr_storage:
        unsigned short ss_family

    int getsockname(int fd, sockaddr *address, unsigned int *length)

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *address, char *to, unsigned int n)

cdef bytes PROTO = b"x-forwarded-proto"


cdef class Provenance:
    """A connection from `address`, empty where there is none (of a Unix socket).

    fallback: host of requests that name none; via: a complete header line.
    trusts: says whether an address (text) is a trusted proxy's, if the peer is one; otherwise None.
    client_from: the field in which trusted proxies say the client, in lower case; empty: see above.
    """

    def __init__(self, bytes address, bint https, bytes fallback, bytes via, trusts, bytes client_from=b""):
        cdef bytes proto = b"https" if https else b"http"
        self.address = address
        self.trusts = trusts
        self.client_from = client_from
        self.node = _node(address)
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
        self.origin.https = self.origin.asked_https = https
        self.client = address
        self.fd = -1

    cdef bytes local(self):
        """The address of this machine that the client has reached; of a Unix socket none, so 127.0.0.1."""
        cdef sockaddr_storage found
        cdef unsigned int n = sizeof(found)
        cdef char text[64]
        cdef const char *at = <const char *>&found
        if self.here is None:
            self.here = b"127.0.0.1"
            if self.fd >= 0 and getsockname(self.fd, <sockaddr *>&found, &n) == 0:
                if found.ss_family == AF_INET:
                    inet_ntop(AF_INET, at + 4, text, 64)
                    self.here = text
                elif found.ss_family == AF_INET6:
                    # An address of IPv4 may come in the form of IPv6 (RFC 4291 section 2.5.5.2).
                    inet_ntop(AF_INET6, at + 8, text, 64)
                    self.here = (<bytes>text).removeprefix(b"::ffff:") if b"." in <bytes>text else text
        return self.here

    cdef int look(self, const char *p, Head *h) except -1:
        """Find out what a request says."""
        if self.guarded:
            _leave_out_certificates(p, h)
        if self.trusts is not None:
            return self._believe(p, h)
        if self.client_from:
            self._leave_out(p, h)
        return 0

    cdef int _leave_out(self, const char *p, Head *h) noexcept:
        """Of a client that is no trusted proxy, the field that names the client is not passed on."""
        cdef const char *name = PyBytes_AS_STRING(self.client_from)
        cdef uint32_t n = <uint32_t>PyBytes_GET_SIZE(self.client_from)
        cdef int i
        for i in range(h.count):
            if h.fields[i].name_len == n and same_to_servers(p + h.fields[i].name, name, n):
                h.fields[i].drop = True
        return 0

    cdef int _believe(self, const char *p, Head *h) except -1:
        cdef list protos = [text.strip() for text in self._joined(p, h, PROTO).split(",") if text.strip()]
        cdef list forwarded = elements(self._joined(p, h, b"forwarded"))
        cdef str chain = self._joined(p, h, self.client_from or b"x-forwarded-for")
        cdef list nodes = [text for text in chain.split(",") if text.strip()]
        cdef int hop
        if self.client_from == b"forwarded" or (not self.client_from and not nodes):
            nodes = [element.get("for", "") for element in forwarded]
        hop = self._follow(nodes)
        if protos:
            self.origin.asked_https = _at(protos, hop).lower() in ("https", "wss")
            return 0
        protos = [element.get("proto", "") for element in forwarded]
        if any(protos):
            self.origin.asked_https = (_at(protos, hop) or next(filter(None, protos))).lower() in ("https", "wss")
        elif self._joined(p, h, b"x-forwarded-ssl").lower() == "on":
            self.origin.asked_https = True
        else:
            self.origin.asked_https = self.origin.https
        return 0

    cdef int _follow(self, list nodes) except -2:
        """Set `client`, from what proxies say one behind the other; how many of them stand behind it, -1: all."""
        cdef int i, hop = -1
        cdef str found = self.address.decode()
        for i, node in enumerate(reversed(nodes)):
            text = address_of(node)
            if text is None:
                break                   # the trusted proxy has reported nothing beyond it
            found = text
            hop = i
            if not self.trusts(text):
                break
        if hop < 0:
            self.client = self.address
        elif found != self.client.decode():
            self.client = found.encode()
        self.origin.client = PyBytes_AS_STRING(self.client)
        self.origin.client_len = <uint32_t>PyBytes_GET_SIZE(self.client)
        self.client_node = _node(self.client)
        self.origin.client_node = PyBytes_AS_STRING(self.client_node)
        self.origin.client_node_len = <uint32_t>PyBytes_GET_SIZE(self.client_node)
        self.origin.told = self.client != self.address
        return hop

    cdef str _joined(self, const char *p, Head *h, bytes name):
        """All values of a field, as one list."""
        cdef uint32_t n = <uint32_t>PyBytes_GET_SIZE(name)
        cdef Field *f
        cdef int i
        cdef list found = []
        for i in range(h.count):
            f = &h.fields[i]
            if f.name_len == n and f.value_len and same_any(p + f.name, PyBytes_AS_STRING(name), n):
                found.append(p[f.value:f.value + f.value_len].decode("latin-1"))
        return ",".join(found)


cdef void _leave_out_certificates(const char *p, Head *h) noexcept nogil:
    """Drop the fields in which the gateway tells servers of the client's certificate (tls.client_lines)."""
    cdef int i
    for i in range(h.count):
        if h.fields[i].name_len > 14 and same_to_servers(p + h.fields[i].name, b"x-client-cert-", 14):
            h.fields[i].drop = True


cdef bytes _node(bytes address):
    """As for= of Forwarded has an address."""
    return b'"[' + address + b']"' if b":" in address else (address or b"unknown")


cdef str _at(list items, int hop):
    """The item that goes with the hop-th from the end; the first one, if the list has no such one."""
    return items[len(items) - 1 - hop] if 0 <= hop < len(items) else items[0]


# ------------------------------------------------------------------------------------------------------------ for tests

cdef Head _scratch
cdef Out _edited


def for_server(bytes head, Provenance origin, bytes request_id=b"", bytes extra=b""):
    """What a server gets of a complete request head, for a test; see edit_request. Raises ValueError."""
    cdef bytes padded = head + b"\0" * 16
    cdef const char *p = padded
    _scan(p, <uint32_t>len(head), False)
    origin.look(p, &_scratch)
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


def seen_of(bytes head, Provenance origin):
    """(client, whether over https) of a complete request head, for a test. Raises ValueError."""
    cdef bytes padded = head + b"\0" * 16
    cdef const char *p = padded
    _scan(p, <uint32_t>len(head), False)
    origin.look(p, &_scratch)
    return origin.client, bool(origin.origin.asked_https)


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
