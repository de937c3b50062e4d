"""Rules written in Python: a function gets the request and returns what to do.

It returns None (continue), or a mapping with keys of the site file's routes: backend; redirect (a URL, or to and
status); respond (status, body, type, headers); rewrite; class; set_header, append_header, set_response_header,
append_response_header. Values are literal texts, not templates.

The call is synchronous and cannot be interrupted, so its time is measured: the log names functions that exceed the
budget. An exception, or a result that is not valid, gives a response with status 500 and a log entry.
"""

import logging
import time

from gateway.rules.actions cimport Respond, Step, answer, rewrite
from gateway.rules.view cimport IN_COOKIE, IN_HEADER, IN_QUERY, Edits, View

log = logging.getLogger(__name__)

LOG_PERIOD = 10.0                # seconds between two log lines about time, per rule
REPEAT = 1.0                # seconds between two tracebacks, per rule

KEYS = {"backend", "redirect", "respond", "rewrite", "class", "set_header", "append_header", "set_response_header",
        "append_response_header"}
OURS = {"connection", "content-length", "transfer-encoding", "keep-alive", "te", "trailer", "upgrade", "via", "expect",
        "http2-settings", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"}


class Answer(Exception):
    """The function's return value is not valid."""


cdef class Request:
    """The request that is passed to the function. Valid only during the call."""
    cdef View view

    def __init__(self, View view):
        self.view = view

    @property
    def method(self):
        return self.view.method_now.decode("latin-1")

    @property
    def scheme(self):
        """http or https."""
        return "https" if self.view.scheme == 2 else "http"

    @property
    def host(self):
        """The host in lower case, without the port."""
        return self.view.host().decode("latin-1").lower()

    @property
    def path(self):
        """The path in its normal form, percent-encoded, with the rewrites made so far."""
        return self.view.path().decode("latin-1")

    @property
    def query(self):
        """The query without the question mark; "" if there is none."""
        return (self.view.query() or b"").decode("latin-1")

    @property
    def client(self):
        """The address of the client."""
        return self.view.client.decode("latin-1")

    @property
    def class_(self):
        """The class that routes have given the request, or None."""
        return self.view.klass

    def headers(self, str name):
        """All values of a header."""
        return [value.decode("latin-1") for value in self.view.values(IN_HEADER, name.lower().encode())]

    def header(self, str name):
        """The first value of a header, or None."""
        return _first(self.view.values(IN_HEADER, name.lower().encode()))

    def cookie(self, str name):
        """The value of a cookie, or None."""
        return _first(self.view.values(IN_COOKIE, name.encode()))

    def param(self, str name):
        """The first value of a parameter of the query, decoded, or None."""
        return _first(self.view.values(IN_QUERY, name.encode()))


def _first(values):
    return values[0].decode("utf-8", "replace") if values else None


def function_of(source, path, name):
    """Run the file at `path` and return its function `name`. Raises what its code raises."""
    module = {"__name__": path, "__file__": path}
    exec(compile(source, path, "exec"), module)
    return module[name]


cdef class PythonRule(Step):
    """name: as in the site file. function: its name in source, the bytes of the file at path.

    targets: the action for each backend. budget: seconds.
    """
    cdef str name
    cdef object function
    cdef dict targets
    cdef double budget
    cdef readonly int calls, failures, over_budget
    cdef readonly double worst          # seconds
    cdef double said_time, said_failure
    cdef int unsaid

    def __init__(self, name, function, source, path, targets, budget):
        self.name = name
        self.text = f"python {name}"
        self.targets = dict(targets)
        self.budget = budget
        self.said_time = self.said_failure = -1e9
        try:
            self.function = function_of(source, path, function)
        except BaseException:               # sys.exit() too: no rule may end a worker
            log.exception("python rule %s cannot be loaded: its requests get 500", name)

    cdef object run(self, View v):
        cdef double began = time.perf_counter()
        cdef double took
        self.calls += 1
        try:
            if self.function is None:
                return _failed()
            found = self.function(Request(v))
            outcome = None if found is None else self._do(v, found)
        except BaseException:
            self._failure()
            outcome = _failed()
        took = time.perf_counter() - began
        if took > self.worst:
            self.worst = took
        if took > self.budget:
            self._slow(took)
        return outcome

    cdef int _slow(self, double took) except -1:
        cdef double now = time.monotonic()
        self.over_budget += 1
        if now - self.said_time >= LOG_PERIOD:
            self.said_time = now
            log.warning("python rule %s took %.1f ms, its budget is %g ms; %d of %d calls so far, the worst %.1f ms",
                        self.name, took * 1000, self.budget * 1000, self.over_budget, self.calls, self.worst * 1000)
        return 0

    cdef int _failure(self) except -1:
        cdef double now = time.monotonic()
        self.failures += 1
        if now - self.said_failure < REPEAT:
            self.unsaid += 1
            return 0
        more = f" ({self.unsaid} more since the last report)" if self.unsaid else ""
        self.said_failure = now
        self.unsaid = 0
        log.exception("python rule %s failed: answered with 500%s", self.name, more)
        return 0

    cdef object _do(self, View v, found):
        """Apply the function's return value."""
        if not isinstance(found, dict) or not found.keys() <= KEYS:
            raise Answer(f"expected None or a mapping with some of {', '.join(sorted(KEYS))}, not {found!r}")
        if "class" in found:
            v.klass = _text(found["class"])
        for key in ("set_header", "append_header", "set_response_header", "append_response_header"):
            if key in found:
                self._edit(v.edits("response" in key), found[key], key.startswith("append"))
        if "rewrite" in found:
            target = _url(found["rewrite"])
            if not target.startswith(b"/"):
                raise Answer("rewrite takes a path that begins with /")
            outcome = rewrite(v, target)
            if outcome is not None:
                return outcome
        if "redirect" in found:
            return self._redirect(found["redirect"])
        if "respond" in found:
            return self._respond(found["respond"])
        if "backend" in found:
            if found["backend"] not in self.targets:
                raise Answer(f"there is no backend {found['backend']}")
            return self.targets[found["backend"]]
        return None

    cdef object _redirect(self, what):
        if isinstance(what, str):
            what = {"to": what}
        status = what.get("status", 302)
        if not isinstance(status, int) or not 300 <= status <= 399 or status == 304:
            raise Answer(f"{status} is not a redirect status")
        return answer(status, b"Location: " + _url(what["to"]) + b"\r\n", b"")

    cdef object _respond(self, what):
        if isinstance(what, int):
            what = {"status": what}
        status = what.get("status", 200)
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise Answer(f"{status} is not a status")
        body = what.get("body", "")
        edits = Edits()
        if body:
            edits.append(b"Content-Type", _line(what.get("type", "text/plain; charset=utf-8")))
        self._edit(edits, what.get("headers", {}), True)
        return answer(status, edits.added(), body if isinstance(body, bytes) else _text(body).encode())

    cdef int _edit(self, Edits edits, fields, bint append) except -1:
        for name, value in fields.items():
            key = _line(name)
            if not key or key.lower().decode("latin-1") in OURS or any([byte in b" :()<>@,;\"/[]?={}" for byte in key]):
                raise Answer(f"header {name!r} cannot be set")
            if append:
                edits.append(key, _line(value))
            else:
                edits.set(key, None if value is None else _line(value))
        return 0


def _text(value):
    if not isinstance(value, str):
        raise Answer(f"expected text, not {value!r}")
    return value


def _line(value):
    """Text for a header as bytes."""
    made = _text(value).encode("latin-1")
    if any([byte < 32 or byte == 127 for byte in made]):
        raise Answer(f"{value!r} contains a control character")
    return made


def _url(value):
    made = _text(value).encode("ascii")
    if any([byte <= 32 or byte == 127 for byte in made]):
        raise Answer(f"{value!r} contains a space or control character")
    return made


cdef Respond _failed():
    return answer(500, b"", None)
