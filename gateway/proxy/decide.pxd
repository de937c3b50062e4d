from libc.stdint cimport uint32_t
from gateway.proxy.backend cimport Backend
from gateway.proxy.worker_context cimport Frontend, WorkerContext
from gateway.proxy.qos_class cimport QosClass
from gateway.rules.actions cimport Respond
from gateway.rules.view cimport View
from gateway.wire.head cimport Head
from gateway.wire.origin cimport Provenance

# What is to become of a request.
cdef enum Verdict:
    V_REFUSE = 0            # `reason` says why
    V_NO_ROUTE
    V_NOT_ADMITTED          # whatever the routes say: its class is never admitted
    V_RESPOND               # with `respond`
    V_FORWARD               # to `backend`

cdef class Decision:
    """The verdict on one request. A worker has one: it is good until the next request is decided on."""
    cdef int verdict
    cdef int reason                     # of wire/head.pxd
    cdef Respond respond
    cdef Backend backend
    cdef QosClass klass                 # what its class may have, or None
    cdef const char *id                 # the request's id, as the caller says before
    cdef uint32_t id_n
    cdef const char *p                  # the head as rules and servers see it: without the marks of affinity

cdef int decide(Decision d, WorkerContext context, Frontend frontend, Provenance provenance, const char *p, Head *h,
                dict trace) except -1
