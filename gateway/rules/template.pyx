"""Templates of redirects, rewrites and headers.

The position of a field in a URL decides how it is encoded (RFC 3986 section 2): a path within a path stays as it is,
but within a query it is encoded as the value of a parameter; values that are not URL text (headers, cookies) are always
encoded. The head parser has refused control bytes in all client input, so no field can break a line.
"""

from urllib.parse import quote

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t

from gateway.rules.view cimport IN_COOKIE, IN_HEADER

cdef enum Code:
    T_NONE = 0
    T_SCHEME, T_HOST, T_URI, T_PATH, T_PATH_REST, T_QUERY, T_CLIENT
    T_REQUEST_ID, T_USER
    T_GROUP, T_HEADER, T_COOKIE

cdef enum Encoding:
    E_RAW = 0               # unchanged: text of a URL in the same position, or a header's value
    E_PARAMETER             # text of a path as the value of a parameter; existing percent-encodings stay
    E_COMPONENT             # any bytes as one component of a URL

FIELDS = {
    "scheme": T_SCHEME, "host": T_HOST, "uri": T_URI, "path": T_PATH, "path_rest": T_PATH_REST, "query": T_QUERY,
    "client": T_CLIENT, "request_id": T_REQUEST_ID, "user": T_USER,
}


cdef class Template:
    """parts: (literal, field or None) pairs; groups: for each named group, the key of `match` that it comes from.

    url: the text is a URL or a path with a query, and fields are encoded accordingly.
    """

    def __init__(self, parts, groups, *, bint url):
        cdef bint query = False
        made = []
        for literal, field in parts:
            query = query or "?" in literal or "#" in literal
            code, name = _code(field)
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
            out.append(value)
        return b"".join(out)

    def text(self, View v):
        """Expand the template for a request; for tests."""
        return self.render(v)


def _code(field):
    if field is None:
        return T_NONE, None
    if field in FIELDS:
        return FIELDS[field], None
    family, colon, name = field.partition(":")
    if colon:
        return (T_HEADER, name.lower().encode()) if family == "header" else (T_COOKIE, name.encode())
    return T_GROUP, field


cdef int _encoding(int code, name, groups, bint query) except -1:
    if code in (T_NONE, T_SCHEME, T_HOST, T_CLIENT, T_QUERY):
        return E_RAW
    if code in (T_REQUEST_ID, T_USER, T_HEADER, T_COOKIE) or (code == T_GROUP and groups[name] != "path"):
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
    values = v.values(IN_HEADER if code == T_HEADER else IN_COOKIE, name)
    return values[0] if values else b""


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
