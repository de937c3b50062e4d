from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from gateway.balance.policy cimport PickArgs
from gateway.wire.edit cimport Out
from gateway.wire.head cimport Head

cdef struct Span:
    uint32_t at             # offset in `head`
    uint32_t n

cdef class Exchange:
    """Everything about one request and its response."""
    cdef Out head           # the request's head as it came
    cdef Out upstream_head  # the head for the server; kept for a retry
    cdef Span method
    cdef Span target
    cdef Span host
    cdef Span user_agent
    cdef Span referer
    cdef Span upgrade       # the protocol the client wants to go over to; empty: none
    cdef Out trailers       # of the request, as they came
    cdef Out response_trailers
    cdef uint8_t method_code
    cdef uint8_t minor
    cdef uint8_t https
    cdef uint8_t has_body
    cdef uint8_t replay_lost    # body bytes have gone to a server that are not in `replay`
    cdef Out replay             # the body as it was sent so far, while it is short enough to be sent again
    cdef int belongs            # index of the server that affinity says; -1: none
    cdef uint16_t status        # of the answer; 0 while there is none
    cdef int64_t started        # monotonic, in ns
    cdef int64_t picked
    cdef int64_t answered       # the head of the server's answer was there
    cdef uint64_t bytes_in      # body bytes from the client
    cdef uint64_t bytes_out     # body bytes to the client
    cdef PickArgs args          # for the balancing policy
    cdef object edits           # view.Edits of the response's head, or None
    cdef str klass              # the class that rules gave it, or None
    cdef object backend         # upstream.Backend, or None
    cdef object server          # upstream.Server, or None
    cdef int chosen             # index of `server` in its backend
    cdef bint counted           # in flight at `server`
    cdef bint timed             # the time until `server` answers is being taken
    cdef Exchange next_spare    # among those that wait to be used again
    cdef int ahead              # requests that were in flight at `server` before this one

    cdef void begin_nameless(self, int64_t now) noexcept
    cdef void _reset(self, int64_t now) noexcept
    cdef int keep_body(self, const char *p, size_t n) except -1
    cdef int begin(self, const char *p, Head *h, int64_t now) except -1

cdef Exchange new_exchange()
cdef void recycle(Exchange ex)
