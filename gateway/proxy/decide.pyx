"""The decision on a request: by its head, the site's rules and what the Board says; for traffic, `explain` and `test`.

Nothing is sent, counted or waited for here. What rules made of the request (path, fields, class) is in the View.
"""

from libc.stdint cimport uint32_t

from gateway.wire.edit cimport Out, out_put, out_reserve
from gateway.wire.head cimport R_PATH
from gateway.wire.mark cimport without_marks
from gateway.wire.target cimport normalise

# One request is decided on at a time in a process: this needs no owner.
cdef Out _uri


cdef class Decision:
    pass


cdef int decide(Decision d, Hub hub, Frontend frontend, Provenance provenance, const char *p, Head *h,
                dict trace) except -1:
    """Decide on the request with the head h of p, and fill in d and the View.

    trace: None, or a dict that gets what was looked at on the way, for people; see RouteTable.decide.
    """
    cdef View view = hub.view
    cdef const char *uri
    cdef uint32_t path_len, uri_len
    cdef int length
    cdef object action
    if hub.learned:
        p = without_marks(p, h, hub.learned, &frontend.bounds)
    d.p = p
    d.respond = None
    d.backend = None
    uri = p + h.target
    path_len = h.path_len
    uri_len = h.target_len
    if not h.plain_target and path_len:
        _uri.n = 0
        out_reserve(&_uri, 3 * path_len + h.target_len + 16)
        length = normalise(uri, path_len, _uri.p)
        if length < 0:
            d.verdict = V_REFUSE
            d.reason = R_PATH
            return 0
        path_len = length
        _uri.n = path_len
        out_put(&_uri, p + h.target + h.path_len, h.target_len - h.path_len)
        uri = _uri.p
        uri_len = _uri.n
    view.begin(p, h, provenance.secure(p, h), provenance.client(p, h), uri, uri_len, path_len)
    view.id_p = d.id
    view.id_n = d.id_n
    if trace is not None:
        trace["uri"] = view.uri_now
    action = hub.routes.decide(view, trace)
    if action is None:
        d.verdict = V_NO_ROUTE
    elif type(action) is Backend:
        d.verdict = V_FORWARD
        d.backend = <Backend>action
    else:
        d.verdict = V_RESPOND
        d.respond = <Respond>action
    return 0
