"""What a route does when the gateway answers by itself: respond and redirect."""

cdef enum Code:
    T_NONE = 0
    T_SCHEME, T_HOST, T_URI, T_PATH, T_PATH_REST, T_QUERY, T_CLIENT

FIELDS = {
    "scheme": T_SCHEME, "host": T_HOST, "uri": T_URI, "path": T_PATH, "path_rest": T_PATH_REST, "query": T_QUERY,
    "client": T_CLIENT,
}


cdef class Respond:
    """A fixed answer. headers: (name, value) pairs, already checked; body: bytes."""

    def __init__(self, int status, headers, bytes body):
        self.status = status
        self.lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in headers)
        self.body = body


cdef class Redirect:
    """A redirect to a template: parts are (literal, field or None) pairs.

    Everything a client sent has been checked by the head scan: no CR, LF or control byte can reach the Location.
    """

    def __init__(self, int status, parts):
        parts = tuple(parts)
        self.status = status
        self.elsewhere = bool(parts) and parts[0][0].startswith("//")
        self.parts = tuple((literal.encode(), FIELDS[field] if field else T_NONE) for literal, field in parts)

    cdef bytes location(self, bint https, bytes host, bytes path, bytes query, int matched, bytes client):
        """The target for a request; `query` comes without "?", None if there is none."""
        cdef bytes target
        cdef list out = []
        cdef int code
        for literal, code in self.parts:
            out.append(literal)
            if code == T_SCHEME:
                out.append(b"https" if https else b"http")
            elif code == T_HOST:
                out.append(host)
            elif code == T_URI:
                out.append(path if query is None else path + b"?" + query)
            elif code == T_PATH:
                out.append(path)
            elif code == T_PATH_REST:
                out.append(path[matched:])
            elif code == T_QUERY:
                out.append(query or b"")
            elif code == T_CLIENT:
                out.append(client)
        target = b"".join(out)
        if target.startswith(b"//") and not self.elsewhere:
            # What a client sent must not turn a path into the name of a host (RFC 3986 section 4.2).
            target = b"/" + target.lstrip(b"/")
        return target
