"""What would become of a request, without a network: the steps of client.pyx, by the same code, one after the other."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t

from time import monotonic_ns

from gateway.balance.policy cimport Members
from gateway.board cimport ServerRow
from gateway.proxy.exchange cimport Exchange, new_exchange
from gateway.proxy.hub cimport Frontend, Hub
from gateway.proxy.upstream cimport Backend, Server
from gateway.rules.actions cimport Respond, Step
from gateway.rules.routes cimport Route
from gateway.rules.view cimport View
from gateway.wire.edit cimport edit_request
from gateway.wire.head cimport Head, R_OK, find_end, scan_request, sentence_of, status_of
from gateway.wire.mark cimport without_marks
from gateway.wire.origin cimport Provenance
from gateway.wire.target cimport normalise

from gateway.rules.classes import Classify
from gateway.rules.sites import Arrival

STATES = ("unknown", "up", "down")
ADMINS = ("ready", "drain", "maintenance")
EJECTIONS = ("no", "out", "probed")
HIDDEN = "the path is encoded in a way that hides what it names"

cdef Head _head


def rehearse(Hub hub, Frontend frontend, str listener, bytes head, str client, *, bint https):
    """What a request head that comes to `frontend` leads to, as plain data.

    Either refused: (status, why), or scheme, client, uri (in normal form), sites (load by name), classes and routes
    (one dict for each that is tried), class, arrived (the site that has just sent the client), site (that it is sent
    to), outcome: "respond" with status, lines, body (None: the page of that status), or "backend" with its name,
    affinity, candidates, server (None: nobody can take it), set_cookie, head (for the server), edits (of the answer).
    """
    cdef bytes padded = head + b"\0" * 16
    cdef const char *p = PyBytes_AS_STRING(padded)
    cdef uint32_t seen = 0, end = 0
    cdef int n
    cdef View view = hub.view
    cdef Provenance provenance
    cdef bytes uri
    cdef Exchange ex = new_exchange()
    cdef int why = find_end(p, <uint32_t>len(head), &seen, &end)
    if why == R_OK:
        why = scan_request(p, end, &_head, &frontend.bounds)
    if why != R_OK:
        return {"refused": (status_of(why), sentence_of(why))}
    ex.begin(p, &_head, monotonic_ns())
    if hub.learned:
        p = without_marks(p, &_head, hub.learned, &frontend.bounds)
    uri = p[_head.target:_head.target + _head.target_len]
    n = _head.path_len
    if not _head.plain_target and n:
        path = bytes(3 * n + 16)
        n = normalise(PyBytes_AS_STRING(uri), n, <char *>PyBytes_AS_STRING(path))
        if n < 0:
            return {"refused": (400, HIDDEN)}
        uri = path[:n] + uri[_head.path_len:]
    trusts = (<object>frontend).trusts if frontend.trusts(client) else None
    provenance = Provenance(client.encode(), https, listener.encode(), hub.via, trusts)
    view.begin(p, &_head, provenance.secure(p, &_head), provenance.client(p, &_head), PyBytes_AS_STRING(uri),
               <uint32_t>PyBytes_GET_SIZE(uri), n)
    found = {"scheme": "https" if view.https else "http", "client": view.client.decode("latin-1"),
             "uri": uri.decode("latin-1"), "routes": []}
    return _outcome(hub, view, ex, p, provenance, found)


cdef _outcome(Hub hub, View view, Exchange ex, const char *p, Provenance provenance, dict found):
    cdef Route route
    cdef Step step
    cdef Respond respond = None
    cdef Backend backend = None
    found["classes"] = []
    found["sites"] = {}
    for step in hub.routes.before or ():
        if type(step) is Arrival:
            found["sites"] = step.loads(view)
        elif type(step) is Classify:
            found["classes"] = [{"class": name, "why_not": why} for name, why in step.tried(view)]
    hub.routes.prepare(view)
    for route, why, action in hub.routes.walk(view):
        found["routes"].append({
            "route": route.index, "why_not": why, "does": [] if why else [step.text for step in route.steps],
            "uri": view.uri_now.decode("latin-1"),
        })
        if type(action) is Backend:
            backend = action
        elif action is not None:
            respond = action
    found.update({"class": view.klass, "arrived": view.arrived, "site": view.site})
    if backend is not None:
        found.update(_forwarded(view, ex, p, provenance, backend))
    elif respond is not None:
        lines = respond.lines
        if respond.body is not None and view.response_edits is not None:
            lines = view.response_edits.merged(lines)
        found.update(outcome="respond", status=respond.status, lines=lines.decode("latin-1"), body=respond.body)
    else:
        found.update(outcome="respond", status=404, lines="", body=None)
    return found


cdef _forwarded(View view, Exchange ex, const char *p, Provenance provenance, Backend backend):
    cdef bytes extra = b""
    cdef int i
    ex.args.now = ex.started
    candidates = _candidates(backend, ex.args.now)
    backend.look_at(ex, p, view.h, view)
    i = backend.pick(ex)
    _expectations(backend, candidates)
    if view.request_edits is not None:
        view.request_edits.leave_out(p, view.h)
        extra = view.request_edits.added()
    edit_request(&ex.upstream_head, p, view.h, view.uri, view.uri_len, &provenance.origin,
                 PyBytes_AS_STRING(extra), <uint32_t>PyBytes_GET_SIZE(extra))
    edits = None
    if view.response_edits is not None:
        names, lines = view.response_edits.listed()
        edits = {"without": [name.decode("latin-1") for name in names], "with": lines.decode("latin-1")}
    return {
        "outcome": "backend", "backend": backend.name, "candidates": candidates,
        "affinity": None if backend.affinity is None else str(backend.affinity),
        "kept": backend.affinity is not None and i >= 0 and i == ex.belongs,
        "server": (<Server>backend.servers[i]).name if i >= 0 else None,
        "head": ex.upstream_head.p[:ex.upstream_head.n].decode("latin-1"), "edits": edits,
    }


cdef _expectations(Backend backend, candidates):
    """What a policy that measures has worked with: the time until each server would answer."""
    cdef Members members = backend.members
    cdef int i
    for i in range(members.count):
        measured = members.member[i].cost > 0 and members.member[i].estimate.answers > 0
        candidates[i]["expected_ms"] = members.member[i].cost * 1000 if measured else None


cdef _candidates(Backend backend, int64_t now):
    cdef Members members = backend.members
    cdef ServerRow *row
    cdef Server server
    cdef int i
    found = []
    for i in range(members.count):
        server = <Server>backend.servers[i]
        row = members.board.server(members.member[i].slot)
        found.append({
            "server": server.name, "address": server.address, "state": STATES[row.state], "admin": ADMINS[row.admin],
            "backup": members.member[i].tier == 1, "in_flight": members.in_flight(i),
            "max_connections": members.limit(i) or None,
            "weight": members.effective_weight(i), "load": row.reported - 1 if row.reported else None,
            "ejected": EJECTIONS[row.ejected], "slow_start": row.ramp or None,
            "sessions": members.board.sessions(members.member[i].slot, now) if backend.affinity is not None else None,
            "token": backend.affinity.example(i) if backend.affinity is not None else None,
            "score": (members.in_flight(i) + 1) / members.effective_weight(i),
        })
    return found
