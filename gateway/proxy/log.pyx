"""The access log: a line per request, formatted into a buffer, written in large pieces at most half a second late."""

import logging
import os
import stat
import time

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset, strlen
from posix.unistd cimport write
from libc.errno cimport EAGAIN, EINTR, errno

from gateway.outcome cimport O_ANSWERED, SIDE_GATEWAY, SIDE_SERVER, outcome_row
from gateway.proxy.openssl cimport SSL_CIPHER_get_name, SSL_get_current_cipher, SSL_get_version
from gateway.wire.edit cimport number, three_digits
from gateway.wire.head cimport same_any
from gateway.wire.siphash cimport siphash64
from gateway.wire.wide cimport WIDE, copy_all_plain, copy_plain, copy_short

from gateway.system.output import writable

log = logging.getLogger(__name__)

# By Transaction.session.
cdef tuple _SESSIONS = (b"", b"live", b"live", b"adopted", b"new", b"waiting", b"early", b"asset", b"full")

cdef enum:
    BUFFER = 256 * 1024
    ROOM = 6 * 4096 + 64        # longest field, escaped; plus what wide copies write beyond an end
    STEP = 16                   # bytes of a literal that are copied at a time
    SECOND = 1000000000         # in ns
    SLACK = 64 * 1024           # bytes that may wait until a pipe is read
    PIPE_BUF = 4096             # bytes that a write to a pipe takes as a whole
    FIELD_MAX = 4096            # of a text from the client; longer ones are truncated, with "..." at the end

cdef enum Code:
    L_NONE = 0
    L_CLIENT
    L_TIME
    L_METHOD
    L_HOST
    L_URI
    L_PATH
    L_PROTOCOL
    L_STATUS
    L_BYTES
    L_DURATION_MS
    L_UPSTREAM_MS
    L_BACKEND
    L_SERVER
    L_SCHEME
    L_REFERER
    L_USER_AGENT
    L_REQUEST_BYTES
    L_CLASS
    L_OUTCOME
    L_SIDE
    L_TRIES
    L_QUEUE_MS
    L_FRONTEND
    L_CLIENT_PORT
    L_TLS_VERSION
    L_TLS_CIPHER
    L_REQUEST_ID
    L_PEER
    L_SESSION
    L_RULE
    L_WHY
    L_USER
    L_STAMP                     # of a syslog message
    L_HEADER                    # of the request, by name

cdef uint8_t[16] NO_KEY         # all gateways draw alike
memset(NO_KEY, 0, sizeof(NO_KEY))

cdef uint8_t PLAIN[256]         # bytes that are written unchanged: visible ASCII, space; not quote, backslash
for _i in range(256):
    PLAIN[_i] = 32 <= _i < 127 and _i not in b"\"\\"

FIELDS = {
    "client": L_CLIENT, "time": L_TIME, "method": L_METHOD, "host": L_HOST, "uri": L_URI, "path": L_PATH,
    "protocol": L_PROTOCOL, "status": L_STATUS, "bytes": L_BYTES, "duration_ms": L_DURATION_MS,
    "upstream_ms": L_UPSTREAM_MS, "backend": L_BACKEND, "server": L_SERVER, "scheme": L_SCHEME,
    "referer": L_REFERER, "user_agent": L_USER_AGENT, "request_bytes": L_REQUEST_BYTES, "class": L_CLASS,
    "outcome": L_OUTCOME, "side": L_SIDE, "tries": L_TRIES, "queue_ms": L_QUEUE_MS, "frontend": L_FRONTEND,
    "client_port": L_CLIENT_PORT, "tls_version": L_TLS_VERSION, "tls_cipher": L_TLS_CIPHER, "request_id": L_REQUEST_ID,
    "peer": L_PEER, "session": L_SESSION, "rule": L_RULE, "why": L_WHY, "user": L_USER,
}

NUMBERS = {"status", "bytes", "duration_ms", "upstream_ms", "request_bytes", "tries", "queue_ms", "client_port"}
JSON_ORDER = (
    "time", "request_id", "client", "client_port", "scheme", "tls_version", "tls_cipher", "method", "host", "uri",
    "protocol", "status", "outcome", "side", "tries", "bytes", "request_bytes", "duration_ms", "queue_ms",
    "upstream_ms", "frontend", "backend", "server", "referer", "user_agent",
)
SYSLOG_TIME = object()
"""The field of the start of a request in the header of a syslog message."""
COMBINED = (
    ("", "client"), (" - ", "user"), (" [", "time"), ("] \"", "method"), (" ", "uri"), (" ", "protocol"),
    ("\" ", "status"), (" ", "bytes"), (" \"", "referer"), ("\" \"", "user_agent"), ("\"", None),
)


def layout(form, template_parts, *, bint classes=False, bint sessions=False, bint rules=False,
           bint users=False, syslog=None):
    """The (literal, field) pairs of a format: "json", "combined", or those of a template, as split by the caller.

    classes, sessions, rules (of Apache), users (of basic_auth): the site has them, and JSON has a field for them.
    syslog: what stands before and after the time of a syslog message, up to its text, for lines that are such messages.
    """
    if syslog is not None:
        before, after = syslog
        pairs = layout(form, template_parts, classes=classes, sessions=sessions, rules=rules, users=users)
        first, field = pairs[0] if pairs else ("", None)
        return ((before, SYSLOG_TIME), (after + first, field), *pairs[1:])
    if form == "combined":
        return COMBINED
    if form != "json":
        return template_parts
    pairs = []
    before = "{"
    for name in (*JSON_ORDER, *(("class",) if classes else ()), *(("session",) if sessions else ()),
                 *(("rule", "why") if rules else ()), *(("user",) if users else ())):
        quote = "" if name in NUMBERS else '"'
        pairs.append((f'{before}"{name}":{quote}', name))
        before = f"{quote},"
    return (*pairs, ('"}', None))


@cython.final
cdef class AccessLog:
    """Writes to descriptor `fd` (kept open by the caller) until `close`. pairs: see layout.

    loop: None: the owner takes the lines out of the buffer, before half of it is full. sender: takes complete lines in
    place of `fd` (gateway/proxy/syslog.py). lost: called with the number of lines that could not be written to `fd`.
    sample: share of requests that are written, see _is_drawn. following: a log that gets the same requests.
    """

    def __init__(self, loop, int fd, str form, pairs, *, sender=None, lost=None, double sample=1.0,
                 AccessLog following=None):
        cdef int i
        cdef bytes literal
        self.loop = loop
        self.fd = fd
        self.sender = sender
        self.lost = lost
        self.following = following
        self.threshold = 0 if sample >= 1 else max(<uint64_t>1, <uint64_t>(sample * 18446744073709551616.0))
        self.stamp.combined = form == "combined"
        self.escape = c'c' if form == "combined" else c'j'
        # Each literal is padded, because copies are rounded up to STEP.
        encoded = [text.encode() for text, _ in pairs]
        self.names = tuple(field[1].encode() if isinstance(field, tuple) else b"" for _, field in pairs)
        self.literals = tuple(literal + bytes(STEP) for literal in encoded)
        self.count = len(self.literals)
        self.piece = <Piece *>calloc(max(self.count, 1), sizeof(Piece))
        if self.piece == NULL:
            raise MemoryError
        for i, (_, field) in enumerate(pairs):
            literal = self.literals[i]
            self.piece[i].literal = PyBytes_AS_STRING(literal)
            self.piece[i].n = <uint32_t>(PyBytes_GET_SIZE(literal) - STEP)
            self.piece[i].last = BUFFER - ROOM - <int64_t>self.piece[i].n
            self.piece[i].name = PyBytes_AS_STRING(<bytes>self.names[i])
            self.piece[i].name_len = <uint32_t>PyBytes_GET_SIZE(<bytes>self.names[i])
            if isinstance(field, tuple):
                self.piece[i].code = L_HEADER
            else:
                self.piece[i].code = L_STAMP if field is SYSLOG_TIME else FIELDS[field] if field else L_NONE
        self.buffer = <char *>malloc(BUFFER)
        if self.buffer == NULL:
            raise MemoryError
        self.stamp.second = self.header.second = -1
        self.waits = sender is None and _waits(fd)
        self.clock = time.time_ns() - time.monotonic_ns()
        if loop is not None:
            self.timer = loop.call_later(0.5, self._tick)

    def __dealloc__(self):
        free(self.buffer)
        free(self.piece)

    def _tick(self):
        # The wall clock may have been adjusted since.
        self.clock = time.time_ns() - time.monotonic_ns()
        self.flush()
        self.timer = self.loop.call_later(0.5, self._tick)

    def close(self):
        """Write the rest and stop."""
        self.timer.cancel()
        self.flush()

    def reopen(self, int fd):
        """Continue in another file, after a rotation."""
        self.flush()
        self.fd = fd
        self.waits = _waits(fd)

    cpdef flush(self):
        """Write the buffer. Lines that cannot be written are dropped, which is logged once: neither a full disk nor a
        pipe without a reader may block traffic. A pipe may lag behind by up to `SLACK` bytes."""
        cdef uint32_t at = 0, piece
        cdef ssize_t wrote
        cdef int tries = 0, error
        if self.sender is not None:
            if self.n:
                self.sender.take(self.buffer[:self.n])
                self.n = 0
            return
        while at < self.n:
            error = 0
            if self.waits and not writable(self.fd):
                error = EAGAIN
            else:
                piece = self.n - at
                if self.waits and piece > PIPE_BUF:
                    piece = PIPE_BUF
                wrote = write(self.fd, self.buffer + at, piece)
                if wrote >= 0:
                    at += <uint32_t>wrote
                    continue
                error = errno
            tries += 1
            if error == EINTR and tries < 100:
                continue
            self._keep(at, error)
            return
        self.torn = False
        if self.n and self.failing:
            self.failing = False
            log.warning("the access log can be written again")
        self.n = 0

    cdef int _lose(self, uint32_t at, uint32_t end, str why) except -1:
        """Count the lines that begin in that part of the buffer, and one that had been written partially."""
        cdef uint64_t count = 0
        cdef uint32_t i
        for i in range(at, end):
            count += self.buffer[i] == c'\n'
        if self.lost is not None:
            self.lost(count)
        if not self.failing:
            self.failing = True
            log.error("cannot write the access log: %s; lines are lost until it can be written again", why)
        return 0

    cdef int _keep(self, uint32_t at, int error) except -1:
        """The bytes from `at` on cannot be written: keep them if the pipe is only slow and they are not too many, or
        else only the rest of a partially written line."""
        cdef uint32_t end = at
        cdef bint late = error == EAGAIN
        if at > 0:
            self.torn = self.buffer[at - 1] != c'\n'
        if late and self.n - at <= SLACK:
            end = self.n
        else:
            if self.torn:
                while self.buffer[end] != c'\n':
                    end += 1
                end += 1
            self._lose(end, self.n, "its reader is too slow" if late else os.strerror(error))
        memmove(self.buffer, self.buffer + at, end - at)
        self.n = end - at
        return 0

    cdef int _text(self, const char *p, uint32_t n) noexcept:
        """Text from outside: it can neither end the field or the line nor contain a control byte."""
        cdef uint32_t i = 0, at = self.n, shown = n if n <= FIELD_MAX else FIELD_MAX
        cdef unsigned came
        cdef char *out = self.buffer
        if n == 0 and self.escape == c'c':
            out[at] = c'-'
            self.n = at + 1
            return 0
        if copy_all_plain(out + at, p, shown):
            i = shown
            at += shown
        while i < shown:
            if shown - i >= <uint32_t>WIDE:
                came = copy_plain(out + at, p + i)
                at += came
                i += came
                if came == <unsigned>WIDE:
                    continue
            if PLAIN[<uint8_t>p[i]]:
                out[at] = p[i]
                at += 1
            else:
                at += self._escaped(out + at, <uint8_t>p[i])
            i += 1
        if shown < n:
            memcpy(out + at, b"...", 3)
            at += 3
        self.n = at
        return 0

    cdef uint32_t _escaped(self, char *to, uint8_t c) noexcept:
        """Write a byte in escaped form; return the number of bytes written."""
        cdef char *hexes = b"0123456789abcdef"
        if c == c'"' or c == c'\\':
            to[0] = 92
            to[1] = c
            return 2
        if self.escape == c'j':
            # Each byte is one code point (Latin-1): the line is valid JSON for any input.
            memcpy(to, b"\\u00", 4)
            to[4] = hexes[c >> 4]
            to[5] = hexes[c & 15]
            return 6
        memcpy(to, b"\\x", 2)
        to[2] = hexes[c >> 4]
        to[3] = hexes[c & 15]
        return 4

    cdef int _number(self, int64_t value) noexcept:
        self.n += number(self.buffer + self.n, value if value > 0 else 0)
        return 0

    cdef int _millis(self, int64_t ns) noexcept:
        cdef uint64_t us = <uint64_t>ns // 1000 if ns > 0 else 0
        cdef uint64_t ms = us // 1000
        cdef char *out = self.buffer + self.n
        cdef int n = number(out, <int64_t>ms)
        out[n] = c'.'
        self.n += n + 1 + three_digits(out + n + 1, <uint32_t>(us - ms * 1000))
        return 0

    cdef int _time(self, Stamp *stamp, int64_t now) except -1:
        cdef int64_t wall = now + self.clock
        cdef char *out = self.buffer + self.n
        if <uint64_t>(wall - stamp.second) >= SECOND:
            self._begin_second(stamp, wall // SECOND)
        memcpy(out, stamp.text, sizeof(stamp.text))
        if not stamp.combined:
            three_digits(out + stamp.n - 4, <uint32_t>(<uint64_t>(wall - stamp.second) // 1000000))
        self.n += stamp.n
        return 0

    cdef int _begin_second(self, Stamp *stamp, int64_t second) except -1:
        """Write the timestamp of a second; milliseconds are filled in later."""
        form = "%d/%b/%Y:%H:%M:%S +0000" if stamp.combined else "%Y-%m-%dT%H:%M:%S.000Z"
        cdef bytes text = time.strftime(form, time.gmtime(second)).encode()[:sizeof(stamp.text)]
        stamp.n = <uint32_t>PyBytes_GET_SIZE(text)
        memcpy(stamp.text, PyBytes_AS_STRING(text), stamp.n)
        stamp.second = second * SECOND
        return 0

    cdef bint _is_drawn(self, Transaction t) noexcept:
        """Whether a request has a line: by a hash of its id, so that all gateways which see the id draw alike. What the
        gateway or a server failed has one in any case; what clients failed does not, since they decide how much it is.
        """
        cdef int side = outcome_row(t.outcome).side
        if t.status >= 500 or side == SIDE_GATEWAY or side == SIDE_SERVER:
            return True
        return siphash64(NO_KEY, <const uint8_t *>t.id, t.id_n) < self.threshold

    cdef int _known(self, const char *p, uint32_t n) noexcept:
        """Trusted or already checked text, which needs no escaping."""
        copy_short(self.buffer + self.n, p, n)
        self.n += n
        return 0

    cdef int _bytes(self, bytes text) except -1:
        return self._text(PyBytes_AS_STRING(text), <uint32_t>PyBytes_GET_SIZE(text))

    cdef int _name(self, bytes name) except -1:
        """A name from the configuration or an IP address: no byte of it must be escaped; "-" if there is none."""
        cdef uint32_t n = <uint32_t>PyBytes_GET_SIZE(name)
        return self._known(PyBytes_AS_STRING(name), n) if n else self._text(NULL, 0)

    cdef int _field(self, Piece *piece, Transaction t, int64_t now) except -1:
        cdef int code = piece.code
        cdef const char *head = t.head.p
        cdef uint32_t i
        if code == L_CLIENT:
            self._name(t.client)        # none: a Unix socket
        elif code == L_TIME:
            self._time(&self.stamp, t.started)
        elif code == L_STAMP:
            self._time(&self.header, t.started)
        elif code == L_METHOD:
            self._text(head + t.method.at, t.method.n)
        elif code == L_HOST:
            self._text(head + t.host.at, t.host.n)
        elif code == L_URI:
            self._text(head + t.target.at, t.target.n)
        elif code == L_PATH:
            i = 0
            while i < t.target.n and head[t.target.at + i] != c'?':
                i += 1
            self._text(head + t.target.at, i)
        elif code == L_PROTOCOL:
            if t.method.n:
                self._known(b"HTTP/2.0" if t.http2 else b"HTTP/1.1" if t.minor else b"HTTP/1.0", 8)
            else:
                self._text(NULL, 0)
        elif code == L_STATUS:
            self._number(t.status)
        elif code == L_BYTES:
            self._number(t.bytes_out)
        elif code == L_REQUEST_BYTES:
            self._number(t.bytes_in)
        elif code == L_DURATION_MS:
            self._millis(now - t.started)
        elif code == L_UPSTREAM_MS:
            self._millis(t.answered - t.attempt.picked if t.answered else 0)
        elif code == L_BACKEND:
            self._name(t.attempt.backend.log_name if t.attempt.backend is not None else b"")
        elif code == L_SERVER:
            self._name(t.attempt.server.log_name if t.attempt.server is not None else b"")
        elif code == L_CLASS:
            if t.qos is not None:
                self._name(t.qos.log_name)
            else:
                self._bytes(t.klass.encode() if t.klass is not None else b"")
        elif code == L_SESSION:
            self._bytes(_SESSIONS[t.session])
        elif code == L_RULE:
            self._bytes(t.rule if t.outcome == O_ANSWERED and t.rule is not None else b"")
        elif code == L_WHY:
            self._bytes(t.why if t.outcome == O_ANSWERED and t.why is not None else b"")
        elif code == L_USER:
            self._bytes(t.user if t.user is not None else b"")
        elif code == L_SCHEME:
            self._known(b"https" if t.https else b"http", 5 if t.https else 4)
        elif code == L_REFERER:
            self._text(head + t.referer.at, t.referer.n)
        elif code == L_USER_AGENT:
            self._text(head + t.user_agent.at, t.user_agent.n)
        elif code == L_OUTCOME:
            self._known(outcome_row(t.outcome).name, outcome_row(t.outcome).name_len)
        elif code == L_SIDE:
            self._text(outcome_row(t.outcome).side_name, outcome_row(t.outcome).side_len)
        elif code == L_TRIES:
            self._number(t.attempt.tries)
        elif code == L_QUEUE_MS:
            self._millis(t.waited)
        elif code == L_FRONTEND:
            self._name(t.frontend.log_name)
        elif code == L_CLIENT_PORT:
            # A proxy reports the client's address, but rarely its port.
            self._number(t.downstream.port if t.client is t.downstream.address else 0)
        elif code == L_PEER:
            self._bytes(t.downstream.address)
        elif code == L_TLS_VERSION or code == L_TLS_CIPHER:
            self._tls(code, t.downstream.tls_state())
        elif code == L_REQUEST_ID:
            self._known(t.id, t.id_n)
        elif code == L_HEADER:
            self._header(piece.name, piece.name_len, t)
        return 0

    cdef int _tls(self, int code, SSL *ssl) noexcept:
        cdef const char *text
        if ssl == NULL:
            return self._text(NULL, 0)
        text = SSL_get_version(ssl) if code == L_TLS_VERSION else SSL_CIPHER_get_name(SSL_get_current_cipher(ssl))
        return self._text(text, <uint32_t>strlen(text))

    cdef int _header(self, const char *name, uint32_t n, Transaction t) noexcept:
        """The value of the first header of that name; nothing if it is missing."""
        cdef const char *head = t.head.p
        cdef uint32_t at = 0, end, stop = t.head.n if t.method.n else 0
        while at < stop:
            while head[at] != c'\n':
                at += 1
            at += 1                     # start of the next line
            if stop - at <= n:
                break
            if head[at + n] == c':' and same_any(head + at, name, n):
                at += n + 1
                while head[at] == c' ' or head[at] == c'\t':
                    at += 1
                end = at
                while head[end] != c'\r':
                    end += 1
                while end > at and (head[end - 1] == c' ' or head[end - 1] == c'\t'):
                    end -= 1
                return self._text(head + at, end - at)
        return self._text(NULL, 0)

    cdef int add(self, Transaction t, int64_t now) except -1:
        """Add the line of a request that ended at `now` (monotonic, ns)."""
        cdef Piece *piece
        cdef uint32_t start = self.n
        cdef Piece *stop = self.piece + self.count
        cdef char *out
        if self.following is not None:
            self.following.add(t, now)
        if self.threshold and not self._is_drawn(t):
            return 0
        piece = self.piece
        while piece < stop:
            if <int64_t>self.n > piece.last:
                start = self._spill(start)
                if <int64_t>self.n > piece.last:
                    break               # a template that repeats long fields: the line is truncated
            out = self.buffer + self.n
            memcpy(out, piece.literal, STEP)
            if piece.n > STEP:
                memcpy(out + STEP, piece.literal + STEP, piece.n - STEP)
            self.n += piece.n
            self._field(piece, t, now)
            piece += 1
        self.buffer[self.n] = c'\n'
        self.n += 1
        if self.n > BUFFER // 2:
            self.flush()
        return 0

    cdef int _spill(self, uint32_t start) except -1:
        """Write the complete lines and keep the partial one at `start`; return its new position."""
        cdef uint32_t begun = self.n - start
        self.n = start
        self.flush()
        memmove(self.buffer + self.n, self.buffer + start, begun)
        start = self.n
        self.n += begun
        return start


cdef bint _waits(int fd) except -1:
    """Whether a write may block until there is room."""
    return not (os.get_blocking(fd) is False or stat.S_ISREG(os.fstat(fd).st_mode))


def put_field(AccessLog log, str kind, value):
    """Write one field into a log's buffer, for tests of the forms: "text" and "known" take bytes, "number" an int,
    "millis" a duration and "time" a wall clock time, both in ns.
    """
    if kind == "text":
        log._bytes(value)
    elif kind == "known":
        log._known(PyBytes_AS_STRING(value), <uint32_t>PyBytes_GET_SIZE(value))
    elif kind == "number":
        log._number(value)
    elif kind == "millis":
        log._millis(value)
    else:
        log._time(&log.stamp, value - log.clock)
