from libc.stdint cimport int64_t, uint8_t, uint64_t
from gateway.proxy.packets cimport Packets
from gateway.proxy.transaction cimport Transaction
from gateway.proxy.worker_context cimport WorkerContext
from gateway.wire.head cimport Head
from gateway.wire.request_id cimport ID_LENGTH

cdef enum:
    SPAN_ID = 16                # hexadecimal digits

cdef class Tracing:
    """Traces of a worker."""
    cdef WorkerContext context
    cdef Packets packets
    cdef uint64_t threshold
    cdef uint8_t[16] key

    cdef int begin(self, Transaction t, const char *p, Head *h) except -1
    cdef bint _is_drawn(self, Transaction t) noexcept

cdef class Trace:
    """The trace of one request."""
    cdef Tracing tracing
    cdef char[ID_LENGTH] trace_id
    cdef char[ID_LENGTH] ids            # of the request's span, then of the present try's
    cdef char[SPAN_ID] parent
    cdef bint continued                 # `parent` is valid: a span of the client's
    cdef bint sampled
    cdef int64_t began                  # the present try, monotonic, in ns; 0: there is none
    cdef str server                     # of the present try
    cdef str address
    cdef list tries                     # (span id, server, address, begin, end in ns, status or outcome)

    cdef bytes lines(self, const char *p, Head *h, bytes extra)
    cdef int begin_try(self, Transaction t) except -1
    cdef int end_try(self, Transaction t, object result) except -1
    cdef int end(self, Transaction t, int64_t now) except -1
