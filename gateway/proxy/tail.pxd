from libc.stdint cimport int64_t, uint8_t
from gateway.proxy.decide cimport Decision
from gateway.proxy.packets cimport Packets
from gateway.proxy.transaction cimport Transaction
from gateway.proxy.worker_context cimport WorkerContext
from gateway.rules.conditions cimport Condition
from gateway.wire.head cimport Head

cdef class Tail:
    """One of an operator: what is wanted, and the socket that takes it."""
    cdef readonly int number
    cdef int fd
    cdef Packets packets
    cdef Condition when                 # or None
    cdef uint8_t outcomes[256]          # 1: wanted
    cdef bytes request_id               # empty: any
    cdef bint steps
    cdef int64_t most                   # requests that may still come; -1: no limit
    cdef int64_t per_window             # records; 0: no limit
    cdef int64_t window                 # when the current one began, in ns
    cdef int64_t in_window              # records of it

    cdef bint wants(self, Transaction t) except -1
    cdef int take(self, Transaction t, int64_t now) except -1
    cdef int add_step(self, bytes line) except -1
    cdef int give_up(self) except -1

cdef class Tails:
    """All that are followed in a worker."""
    cdef WorkerContext context
    cdef list tails

    cdef int choose(self, Transaction t, const char *p, Head *h) except -1
    cdef int take(self, Transaction t, int64_t now) except -1

cdef class Steps:
    """What happens to one request, for a tail."""
    cdef Tail tail
    cdef WorkerContext context
    cdef int64_t since                  # the step before, in ns
    cdef bint pooled                    # the next connection is not made for this request

    cdef int follow_decision(self, Decision d, Transaction t, const char *p, Head *h) except -1
    cdef int server_chosen(self, Transaction t, int i) except -1
    cdef int failed(self, Transaction t, int outcome, int64_t detail) except -1
    cdef int status_retried(self, Transaction t, int status) except -1
    cdef int become(self, Transaction t, int state) except -1
    cdef int _add_decision(self, Transaction t, Decision d, dict trace) except -1
    cdef int _server_chosen(self, Transaction t, int i) except -1
    cdef int _failed(self, Transaction t, int outcome, int64_t detail) except -1
    cdef int _become(self, Transaction t, int state) except -1
    cdef int _add(self, Transaction t, str step, dict more) except -1
