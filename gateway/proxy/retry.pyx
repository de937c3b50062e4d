"""Whether a request is retried: the only place where that is decided.

If nothing has been sent, any request may go to another server. Otherwise only one whose method may be repeated, and
whose body, if any, is still completely buffered. Such a retry doubles the work and is paid from a budget that requests
fill, so that retries do not amplify an outage.
"""

from gateway.outcome cimport (
    CAUSE_CONNECT, CAUSE_RESET, CAUSE_STALE, CAUSE_TLS, O_CONNECT_FAILED, O_CONNECT_REFUSED, O_HTTP2_NOT_SPOKEN,
    O_PING_TIMEOUT, O_SERVER_CLOSED, O_SERVER_RESET, O_STALE, O_STREAM_REFUSED, O_STREAM_RESET, O_TLS_BROKEN,
    O_TLS_FAILED, O_WEBSOCKET_NOT_SPOKEN,
)
from gateway.wire.head cimport M_OTHER

# In the order of Method in wire/head.pxd.
METHODS = ("", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")

cdef enum:
    FIRST_TOKENS = 10       # so that a site with few requests can retry, too
    MOST_TOKENS = 100


cdef Cause cause_of(int outcome) noexcept nogil:
    """The cause of a further try, by the outcome of the one before."""
    if O_CONNECT_REFUSED <= outcome <= O_CONNECT_FAILED or outcome == O_WEBSOCKET_NOT_SPOKEN:
        return CAUSE_CONNECT
    if O_TLS_FAILED <= outcome <= O_HTTP2_NOT_SPOKEN:
        return CAUSE_TLS
    return CAUSE_STALE if outcome == O_STALE else CAUSE_RESET


cdef class Retries:
    """attempts: tries after the first. budget: retries per request, 0.0 to 1.0."""

    def __init__(self, int attempts, on, statuses, methods, double budget):
        self.attempts = attempts
        self.on_connect = "connect" in on
        self.on_reset = "reset" in on
        self.statuses = frozenset(statuses)
        self.methods = frozenset(method.encode() for method in methods)
        self.known_methods = sum(1 << code for code, method in enumerate(METHODS) if code and method in methods)
        self.share = budget
        self.tokens = FIRST_TOKENS if budget > 0 else 0

    def adopt(self, Retries before):
        """Continue with the budget of the previous snapshot."""
        if self.share > 0:
            self.tokens = before.tokens

    cdef void earn(self) noexcept nogil:
        """A request has arrived."""
        self.tokens = self.tokens + self.share    # +=: Cython refuses it here while None checks are on
        if self.tokens > MOST_TOKENS:
            self.tokens = MOST_TOKENS

    cdef bint spend(self) noexcept nogil:
        if self.tokens < 1:
            return False
        self.tokens = self.tokens - 1
        return True

    cdef void refund(self) noexcept nogil:
        """The retry paid for last did not happen."""
        self.tokens = self.tokens + 1

    cdef bint repeatable(self, int method, const char *name, uint32_t n) except -1:
        """Whether a request of that method may be repeated; name: of a method that is M_OTHER."""
        if method != M_OTHER:
            return self.known_methods >> method & 1
        return name[:n] in self.methods

    cdef bint after_failure(self, int outcome, int64_t detail, bint repeatable, bint whole, int tries) noexcept nogil:
        """Whether to retry after a failure before the first byte of a response; `tries` have been made.

        repeatable: the work may be repeated. whole: all of it that was sent is still buffered.
        """
        if tries > self.attempts:
            return False
        if O_CONNECT_REFUSED <= outcome <= O_CONNECT_FAILED or O_TLS_FAILED <= outcome <= O_WEBSOCKET_NOT_SPOKEN:
            return self.on_connect          # no server has processed it: nothing is amplified
        if outcome == O_STREAM_REFUSED:
            # No server has processed this either (RFC 9113 section 8.7), but one that refuses it may be overloaded.
            return whole and (detail == 0 or self.spend())
        repeatable = repeatable and whole
        if outcome == O_STALE:
            return repeatable               # the connection was idle for too long: no sign of an outage
        if (outcome != O_SERVER_CLOSED and outcome != O_SERVER_RESET and outcome != O_TLS_BROKEN
                and outcome != O_STREAM_RESET and outcome != O_PING_TIMEOUT):
            return False
        return repeatable and self.on_reset and self.spend()

    cdef bint after_status(self, int status, bint repeatable, int tries) except -1:
        """Whether to retry instead of passing on a response with that status."""
        return tries <= self.attempts and repeatable and status in self.statuses and self.spend()
