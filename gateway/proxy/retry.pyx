"""Whether a request is tried again: the one place where that is decided.

If nothing has been sent, any request may go to another server. If something has, only one whose method may be
repeated, and whose body, if it has one, is still held in full. Such a retry makes work twice and is paid for out of a
budget that requests fill, so that an outage is not multiplied.
"""

from gateway.proxy.upstream cimport FAIL_CONNECT, FAIL_CONNECT_TIMEOUT, FAIL_RESET, FAIL_RESET_REUSED
from gateway.wire.head cimport M_OTHER

# In the order of Method in wire/head.pxd.
METHODS = ("", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")

cdef enum:
    FIRST_TOKENS = 10       # so that a site with few requests can retry, too
    MOST_TOKENS = 100


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
        """Go on with the budget of the snapshot before."""
        if self.share > 0:
            self.tokens = before.tokens

    cdef void earn(self) noexcept nogil:
        """A request has come."""
        self.tokens += self.share
        if self.tokens > MOST_TOKENS:
            self.tokens = MOST_TOKENS

    cdef bint spend(self) noexcept nogil:
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    cdef bint repeatable(self, Exchange ex) except -1:
        """Whether the request may be done twice: by its method."""
        if ex.method_code != M_OTHER:
            return self.known_methods >> ex.method_code & 1
        return ex.head.p[ex.method.at:ex.method.at + ex.method.n] in self.methods

    cdef bint after_failure(self, Exchange ex, int failure, int attempts) except -1:
        """Whether to try again after a Failure, before a byte of an answer; `attempts` tries have been made."""
        if attempts > self.attempts:
            return False
        if failure == FAIL_CONNECT or failure == FAIL_CONNECT_TIMEOUT:
            return self.on_connect          # no server has worked for it: there is nothing to multiply
        if not self.repeatable(ex) or ex.replay_lost:
            return False
        if failure == FAIL_RESET_REUSED:
            return True                     # the connection had idled too long: no sign of an outage
        return failure == FAIL_RESET and self.on_reset and self.spend()

    cdef bint after_status(self, Exchange ex, int status, int attempts) except -1:
        """Whether to try again instead of passing on an answer of that status."""
        return (attempts <= self.attempts and status in self.statuses and self.repeatable(ex) and not ex.replay_lost
                and self.spend())
