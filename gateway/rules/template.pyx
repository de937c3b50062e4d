"""Templates of redirects, rewrites and headers.

The position of a field in a URL decides how it is encoded (RFC 3986 section 2): a path within a path stays as it is,
but within a query it is encoded as the value of a parameter; values that are not URL text (headers, cookies) are always
encoded. The head parser has refused control bytes in all client input, and those of a decoded parameter stay
encoded, so no field can break a line.
"""

from time import gmtime, strftime
from urllib.parse import quote

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t

from gateway.rules.map_lookup cimport MapLookup
from gateway.rules.view cimport IN_COOKIE, IN_HEADER, IN_QUERY

cdef enum Code:
    T_NONE = 0
    T_SCHEME, T_HOST, T_URI, T_PATH, T_PATH_REST, T_QUERY, T_CLIENT
    T_REQUEST_ID, T_USER
    T_GROUP, T_HEADER, T_COOKIE, T_QUERY_VALUE
    T_METHOD, T_PROTOCOL, T_PEER, T_CLIENT_PORT, T_FRONTEND, T_CLASS, T_TIME, T_TLS_VERSION, T_TLS_CIPHER
    T_MAP

cdef enum Encoding:
    E_RAW = 0               # unchanged: text of a URL in the same position, or a header's value
    E_PARAMETER             # text of a path as the value of a parameter; existing percent-encodings stay
    E_COMPONENT             # any bytes as one component of a URL
    E_OPERATOR              # text of the operator's, which may be a whole URL: only what no URL may have is encoded

FIELDS = {
    "scheme": T_SCHEME, "host": T_HOST, "uri": T_URI, "path": T_PATH, "path_rest": T_PATH_REST, "query": T_QUERY,
    "client": T_CLIENT, "request_id": T_REQUEST_ID, "user": T_USER,
    "method": T_METHOD, "protocol": T_PROTOCOL, "peer": T_PEER, "client_port": T_CLIENT_PORT, "frontend": T_FRONTEND,
    "class": T_CLASS, "time": T_TIME, "tls_version": T_TLS_VERSION, "tls_cipher": T_TLS_CIPHER,
}


PLACES = {"header": T_HEADER, "cookie": T_COOKIE, "query": T_QUERY_VALUE}
IN_URL = "!#$%&'()*+,/:;=?@[]~-._"      # what a URL consists of, beside letters and digits


cdef class Template:
    """parts: (literal, field or None) pairs; groups: for each named group, the key of `match` that it comes from.

    maps: the MapLookups by name. url: the text is a URL or a path with a query, and fields are encoded accordingly.
    """

    def __init__(self, parts, groups, maps, *, bint url):
        cdef bint query = False
        made = []
        for literal, field in parts:
            query = query or "?" in literal or "#" in literal
            code, name = _code(field, groups, maps)
            made.append((literal.encode(), code, name, _encoding(code, name, groups, query) if url else E_RAW))
        self.parts = tuple(made)
        self.fixed = made[0][0] if len(made) == 1 else None

    cdef bytes render(self, View v):
        cdef list out
        cdef int code, encoding
        cdef bytes value
        if self.fixed is not None:
            return self.fixed
        out = []
        for literal, code, name, encoding in self.parts:
            out.append(literal)
            if code == T_NONE:
                continue
            value = _value(v, code, name)
            if encoding == E_PARAMETER:
                value = _parameter(value)
            elif encoding == E_COMPONENT:
                value = quote(value, safe="").encode()
            elif encoding == E_OPERATOR:
                value = quote(value, safe=IN_URL).encode()
            out.append(value)
        return b"".join(out)

    def text(self, View v):
        """Expand the template for a request; for tests."""
        return self.render(v)


def _code(field, groups, maps):
    """The code of a field, and its name; of a map the look-up, and code and name of its key."""
    if field is None:
        return T_NONE, None
    if field in groups and T_METHOD <= FIELDS.get(field, T_NONE) <= T_TLS_CIPHER:
        return T_GROUP, field       # the route's own name, such as (?<class>…), is the nearer one
    if field in FIELDS:
        return FIELDS[field], None
    family, colon, name = field.partition(":")
    if colon and family == "map":
        name, _, key = name.partition(":")
        return T_MAP, (maps[name], *_code(key, groups, maps))
    if colon:
        return PLACES[family], name.lower().encode() if family == "header" else name.encode()
    return T_GROUP, field


cdef int _encoding(int code, name, groups, bint query) except -1:
    if code in (T_NONE, T_SCHEME, T_HOST, T_CLIENT, T_QUERY):
        return E_RAW
    if code == T_MAP:
        return E_OPERATOR
    if T_METHOD <= code <= T_TLS_CIPHER:
        return E_COMPONENT
    if code == T_GROUP and groups[name] != "path":
        return E_COMPONENT
    if code in (T_REQUEST_ID, T_USER, T_HEADER, T_COOKIE, T_QUERY_VALUE):
        return E_COMPONENT
    if not query:
        return E_RAW
    return E_COMPONENT if code == T_URI else E_PARAMETER


cdef bytes _value(View v, int code, name):
    cdef list values
    if code == T_SCHEME:
        return b"https" if v.scheme == 2 else b"http"
    if code == T_HOST:
        return v.host()
    if code == T_URI:
        return v.uri[:v.uri_len]
    if code == T_PATH:
        return v.path()
    if code == T_PATH_REST:
        return v.uri[min(<uint32_t>v.matched, v.path_len):v.path_len]
    if code == T_QUERY:
        return v.query() or b""
    if code == T_CLIENT:
        return v.client
    if code == T_REQUEST_ID:
        return v.id()
    if code == T_USER:
        return v.user or b""
    if code == T_GROUP:
        return v.groups.get(name, b"") if v.groups is not None else b""
    if T_METHOD <= code <= T_TLS_CIPHER:
        return _fact(v, code)
    if code == T_MAP:
        lookup, code, name = name
        return (<MapLookup>lookup).find(v, _value(v, code, name)) or b""
    values = v.values(IN_HEADER if code == T_HEADER else IN_COOKIE if code == T_COOKIE else IN_QUERY, name)
    if not values:
        return b""
    return _one_line(values[0]) if code == T_QUERY_VALUE else values[0]


cdef bytes _fact(View v, int code):
    """What is known of the request or its connection."""
    if code == T_METHOD:
        return v.p[:v.h.method_len]
    if code == T_PROTOCOL:
        return b"HTTP/2.0" if v.h.http2 else b"HTTP/1.1" if v.h.minor else b"HTTP/1.0"
    if code == T_PEER:
        return v.peer or b""
    if code == T_FRONTEND:
        return (v.frontend or "").encode()
    if code == T_CLASS:
        return (v.klass or "").encode()
    if code == T_TIME:
        return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(v.clock())).encode()
    if v.provenance is None:
        return b""
    if code == T_CLIENT_PORT:
        # A trusted proxy says the address of the client, but not its port.
        return b"%d" % v.provenance.port if v.provenance.port and v.client == v.peer else b""
    return (v.provenance.tls_version if code == T_TLS_VERSION else v.provenance.tls_cipher) or b""


cdef bytes _one_line(bytes value):
    """A decoded value whose control bytes stay encoded: one of them could end a header line."""
    cdef const char *p = PyBytes_AS_STRING(value)
    cdef Py_ssize_t i
    for i in range(PyBytes_GET_SIZE(value)):
        if <uint8_t>p[i] < 32 or p[i] == 127:
            return b"".join([b"%%%02X" % c if c < 32 or c == 127 else bytes((c,)) for c in value])
    return value


cdef bytes _parameter(bytes value):
    """Encode text of a path as the value of a parameter: "&", "=", "+" and other characters with a meaning there."""
    cdef const char *p = PyBytes_AS_STRING(value)
    cdef Py_ssize_t i
    cdef uint8_t c
    out = bytearray()
    for i in range(PyBytes_GET_SIZE(value)):
        c = <uint8_t>p[i]
        if c == c'&' or c == c'=' or c == c'+' or c == c'#' or c == c'?' or c == c';':
            out += b"%%%02X" % c
        else:
            out.append(c)
    return bytes(out)
