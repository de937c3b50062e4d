"""The decision on a request, from its head, the site's rules and the Board; for traffic, `explain` and `test`.

Nothing is sent, counted or queued here. The View has the changes that rules made (path, fields, class).
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint32_t
from libc.string cimport memcmp

from gateway.proxy.qos_class cimport ADMITS_NEVER
from gateway.rules.actions cimport answer
from gateway.wire.head cimport M_GET, M_HEAD, M_OPTIONS, M_TRACE, R_BODY_TOO_LARGE, R_MAX_FORWARDS, R_TOO_LARGE
from gateway.wire.mark cimport without_marks
from gateway.wire.max_forwards cimport HOPS_BAD, max_forwards

cdef bytes CHALLENGES = b"/.well-known/acme-challenge/"     # RFC 8555 section 8.3
cdef bytes BINARY = b"Content-Type: application/octet-stream\r\n"
cdef bytes ALLOW = b"Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n"
# The dict and result of the last class lookup: most requests have the same class as the one before.
cdef dict _classes = None
cdef str _name = None
cdef QosClass _class = None


cdef class Decision:
    pass


cdef int decide(Decision d, WorkerContext context, Frontend frontend, Provenance provenance, const char *p, Head *h,
                dict trace) except -1:
    """Decide on the request with head h at p, and fill in d and the View.

    trace: None, or a dict that receives the steps of the decision in readable form; see RouteTable.decide.
    """
    global _classes, _name, _class
    cdef View view = context.view
    cdef object action
    if context.learned:
        p = without_marks(p, h, context.learned, &frontend.bounds)
    d.p = p
    d.respond = None
    d.backend = None
    d.klass = None
    provenance.look(p, h)
    d.reason = view.look(p, h, provenance.origin.asked_https, provenance.client, provenance.address,
                         frontend.accept)
    if d.reason:
        d.verdict = V_REFUSE
        return 0
    view.verified = provenance.verified
    if view.provenance is not provenance:       # most requests come over the connection of the one before
        view.provenance = provenance
    if view.frontend is not frontend.name:
        view.frontend = frontend.name
    view.id_p = d.id
    view.id_n = d.id_n
    if context.challenges is not None and view.path_len > <uint32_t>len(CHALLENGES) and _proves(d, context, view, h):
        return 0
    if trace is not None:
        trace["uri"] = view.uri_now
    action = context.routes.decide(view, trace)
    if context.classes is not None:
        if context.classes is not _classes or view.klass is not _name:
            _classes, _name, _class = context.classes, view.klass, context.classes.get(view.klass)
        d.klass = _class
        if _class is not None and _class.admits == ADMITS_NEVER:
            d.verdict = V_NOT_ADMITTED
            return 0
    if view.header_bytes >= 0 and h.length > view.header_bytes:
        d.verdict = V_REFUSE
        d.reason = R_TOO_LARGE
    elif view.body_bytes >= 0 and h.content_length > view.body_bytes:
        d.verdict = V_REFUSE
        d.reason = R_BODY_TOO_LARGE
    elif action is None:
        d.verdict = V_NO_ROUTE
    elif type(action) is Backend:
        d.verdict = V_FORWARD
        d.backend = <Backend>action
        if h.method == M_OPTIONS or h.method == M_TRACE:
            _count_down(d, view, p, h)
    elif isinstance(action, Question):
        d.verdict = V_ASK
        d.question = <Question>action
    else:
        d.verdict = V_RESPOND
        d.respond = _with_page(<Respond>action, view, context)
    return 0


cdef bint _proves(Decision d, WorkerContext context, View view, Head *h) except -1:
    """Whether a certificate authority asks for a proof that is pending; all else is for the routes."""
    cdef bytes proof
    if memcmp(view.uri, PyBytes_AS_STRING(CHALLENGES), len(CHALLENGES)) or h.method not in (M_GET, M_HEAD):
        return False
    proof = context.challenges.response(view.path()[len(CHALLENGES):])
    if proof is None:
        return False
    d.verdict = V_RESPOND
    d.respond = answer(200, BINARY, proof)
    return True


cdef Respond _with_page(Respond respond, View view, WorkerContext context):
    """The answer of a route; one without a body gets the page that its routes or the site have for the status."""
    cdef dict pages = context.pages
    if respond.body is None or respond.body or respond.status < 400:
        return respond
    if view.pages is not None and respond.status in view.pages:
        pages = view.pages
    elif respond.status not in context.custom_pages:
        return respond
    lines, body = pages[respond.status]
    return answer(respond.status, lines + respond.lines, body)


cdef int _count_down(Decision d, View view, const char *p, Head *h) except -1:
    """Max-Forwards of a request to be forwarded (RFC 9110 section 7.6.2): at 0 the gateway responds itself."""
    cdef int left = max_forwards(p, h)
    if left > 0:
        view.edits(False).set(b"Max-Forwards", b"%d" % (left - 1))
    elif left == HOPS_BAD:
        d.verdict = V_REFUSE
        d.reason = R_MAX_FORWARDS
    elif left == 0:
        d.verdict = V_RESPOND
        d.respond = answer(200 if h.method == M_OPTIONS else 405, ALLOW, b"")
    return 0
