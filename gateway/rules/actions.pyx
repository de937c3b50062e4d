"""What a route does to a request: it changes the request and continues, or returns a response."""

import re

from libc.stdint cimport int64_t

from gateway.rules.view cimport Edits
from gateway.wire.head cimport R_OK
from gateway.wire.target cimport A_PARAMETERS, A_SLASH

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

# A path, or the beginning of one, that is its own normal form.
_NORMAL = re.compile(rb"(?:/[\w~-][\w.~-]*)*/?").fullmatch


cdef class Respond:
    """headers: (name, value) pairs, already checked; body: bytes, or None for the default page of the status."""

    def __init__(self, int status, headers, body, *, bint closes=False):
        self.status = status
        self.closes = closes
        self.lines = b"".join([f"{name}: {value}\r\n".encode("latin-1") for name, value in headers])
        self.body = body

    def __repr__(self):
        return f"<Respond {self.status}>"


cdef Respond answer(int status, bytes lines, body):
    cdef Respond made = Respond.__new__(Respond)
    made.status = status
    made.lines = lines
    made.body = body
    return made


cdef Respond marked(Respond made, str file, int line, str why):
    """Note in a response which line of a file made it (0: unknown), and why, for the log."""
    made.rule = f"{file}:{line}".encode() if line else file.encode()
    made.why = why.encode("latin-1", "replace")
    return made


cdef class Step:
    cdef object run(self, View v):
        """Apply the step. None: the route continues; a Respond or a route's action ends the search."""
        return None

    cdef int explain(self, View v, dict trace) except -1:
        """Add to the trace, in readable form, what this step examines before the first route."""
        return 0


cdef class Redirect(Step):
    """elsewhere: the template itself begins with a host name, without a scheme."""
    cdef int status
    cdef Template template
    cdef bint elsewhere

    def __init__(self, int status, Template template, *, bint elsewhere, str text):
        self.status = status
        self.template = template
        self.elsewhere = elsewhere
        self.text = text

    cdef object run(self, View v):
        cdef bytes target = self.template.render(v)
        if not target:
            return answer(404, b"", None)       # a map without a value
        if not self.elsewhere and names_host(PyBytes_AS_STRING(target), PyBytes_GET_SIZE(target)):
            # Input from the client must not make a host of a path.
            target = b"/" + target.lstrip(b"/\\")
        return answer(self.status, b"Location: " + target + b"\r\n", b"")


cdef bint names_host(const char *p, size_t n) noexcept nogil:
    """Whether browsers read a reference as `//host` (RFC 3986 section 4.2). To them a backslash is a slash (WHATWG URL
    Standard, "relative state")."""
    return n > 1 and p[0] == c'/' and (p[1] == c'/' or p[1] == c'\\')


cdef class Rewrite(Step):
    """The path stays below the directory that the template begins with, whatever the request puts behind it."""
    cdef Template template
    cdef bytes directory

    def __init__(self, Template template, str text):
        cdef bytes beginning = (<bytes>template.parts[0][0]).partition(b"?")[0]
        self.template = template
        self.text = text
        self.directory = beginning[:beginning.rfind(b"/") + 1] if _NORMAL(beginning) else b"/"

    cdef object run(self, View v):
        cdef bytes target = self.template.render(v)
        cdef Respond refused
        if not target.startswith(b"/"):
            return answer(404, b"", None)       # a map without a path
        refused = rewrite(v, target)
        if refused is None and len(self.directory) > 1 and not v.path().startswith(self.directory):
            return answer(400, b"", None)
        return refused


cdef Respond rewrite(View v, bytes target):
    """Continue with the path and query `target`; without a question mark the query stays as it is."""
    cdef bytes path, query
    path, mark, query = target.partition(b"?")
    if path.startswith(b"//"):
        path = b"/" + path.lstrip(b"/")
    if not mark:
        query = v.query()
    # A "?" alone removes the query. Characters that a rule encodes stay encoded.
    query = b"?" + query if query else b""
    if v.normalised(PyBytes_AS_STRING(path), <uint32_t>PyBytes_GET_SIZE(path), PyBytes_AS_STRING(query),
                    <uint32_t>PyBytes_GET_SIZE(query), v.accept | A_SLASH | A_PARAMETERS) != R_OK:
        return answer(400, b"", None)
    v.changed = True
    return None


cdef class RequireClientCertificate(Step):
    """Refuse requests of clients that have not shown a valid certificate."""

    def __init__(self):
        self.text = "require a client certificate"

    cdef object run(self, View v):
        return None if v.verified else answer(403, b"", None)


cdef class SetClass(Step):
    cdef str name

    def __init__(self, str name):
        self.name = name
        self.text = f"class {name}"

    cdef object run(self, View v):
        v.klass = self.name
        return None


cdef class LimitBandwidth(Step):
    """bandwidth: bytes per second of a response body; if several routes set it, the smallest applies."""
    cdef int64_t bandwidth

    def __init__(self, int64_t bandwidth, str text):
        self.bandwidth = bandwidth
        self.text = text

    cdef object run(self, View v):
        if v.bandwidth == 0 or self.bandwidth < v.bandwidth:
            v.bandwidth = self.bandwidth
        return None


cdef class RespondWith(Step):
    """An answer with header values that depend on the request. lines: (name, value) pairs; headers: Template by
    name."""
    cdef int status
    cdef bytes lines
    cdef list headers
    cdef bytes body

    def __init__(self, int status, lines, headers, bytes body):
        self.status = status
        self.lines = b"".join([f"{name}: {value}\r\n".encode("latin-1") for name, value in lines])
        self.headers = [(name.encode(), template) for name, template in headers.items()]
        self.body = body
        self.text = f"respond {status}"

    cdef object run(self, View v):
        made = [name + b": " + (<Template>template).render(v) + b"\r\n" for name, template in self.headers]
        return answer(self.status, b"".join(made) + self.lines, self.body)


cdef class EditHeaders(Step):
    """replace: Template by name, None removes the header; append: Template by name; default: the same, for headers that
    are not there. ranges: (first, last) of the statuses of responses that it is for; empty: all."""
    cdef list replace
    cdef list append
    cdef list default
    cdef bint response
    cdef tuple ranges

    def __init__(self, replace, append, default, *, bint response, ranges=()):
        self.replace = [(name.encode(), template) for name, template in replace.items()]
        self.append = [(name.encode(), template) for name, template in append.items()]
        self.default = [(name.encode(), template) for name, template in default.items()]
        self.response = response
        self.ranges = tuple(ranges)
        what = [("set " if template is not None else "remove ") + name for name, template in replace.items()]
        what += ["append " + name for name in append]
        what += ["default " + name for name in default]
        self.text = ", ".join(what) + (f" ({of_responses(self.ranges)})" if response else "")

    cdef object run(self, View v):
        cdef Edits edits = v.edits(self.response)
        if self.ranges:
            edits = edits.of_status(self.ranges)
        for name, template in self.replace:
            edits.set(name, None if template is None else (<Template>template).render(v))
        for name, template in self.append:
            edits.append(name, (<Template>template).render(v))
        for name, template in self.default:
            edits.set_if_absent(name, (<Template>template).render(v))
        return None


def of_responses(ranges):
    """The responses that edits are for, for people."""
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges]
    return " ".join(["response", ", ".join(shown)]) if shown else "response"


cdef class SetPages(Step):
    """pages: (header lines, body) by status, of the gateway's own answers to these requests."""
    cdef dict pages

    def __init__(self, pages):
        self.pages = dict(pages)
        self.text = "pages for " + ", ".join(map(str, sorted(self.pages)))

    cdef object run(self, View v):
        v.pages = self.pages if v.pages is None else {**v.pages, **self.pages}
        return None
