from libc.stdint cimport uint32_t
from gateway.proxy.backend cimport Backend
from gateway.proxy.worker_context cimport Frontend, WorkerContext
from gateway.proxy.qos_class cimport QosClass
from gateway.rules.actions cimport Respond
from gateway.rules.question cimport Question
from gateway.rules.view cimport View
from gateway.wire.head cimport Head
from gateway.wire.origin cimport Provenance

# What to do with a request.
cdef enum Verdict:
    V_REFUSE = 0            # `reason` says why
    V_NO_ROUTE
    V_NOT_ADMITTED          # its class is never admitted, whatever the routes say
    V_RESPOND               # with `respond`
    V_FORWARD               # to `backend`
    V_ASK                   # decide again when `question` is settled

cdef class Decision:
    """The verdict on one request. A worker has one: it is valid until the next request is decided."""
    cdef int verdict
    cdef int reason                     # of wire/head.pxd
    cdef Respond respond
    cdef Backend backend
    cdef Question question
    cdef QosClass klass                 # limits of its class, or None
    cdef const char *id                 # the request's id, set by the caller before
    cdef uint32_t id_n
    cdef const char *p                  # the head as rules and servers see it: without affinity marks

cdef int decide(Decision d, WorkerContext context, Frontend frontend, Provenance provenance, const char *p, Head *h,
                dict trace) except -1
