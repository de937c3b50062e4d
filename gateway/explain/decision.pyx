"""The handling of a request as plain data: the same decision as for traffic, with its reasons.

The steps are those of gateway/proxy/transaction.pyx up to the connection to a server; nothing is counted, sent or
queued.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

from gateway.proxy.backend cimport Backend
from gateway.proxy.decide cimport V_ASK, V_FORWARD, V_NOT_ADMITTED, V_REFUSE, V_RESPOND, Decision, decide
from gateway.proxy.worker_context cimport Frontend, WorkerContext
from gateway.proxy.overload cimport Overload
from gateway.proxy.qos_class cimport ADMITS_ALWAYS, QosClass
from gateway.proxy.queue cimport WaitQueue
from gateway.proxy.reasons cimport add_expectations, candidates, reasons
from gateway.proxy.server cimport Server
from gateway.proxy.session_gate cimport G_GO, SessionGate
from gateway.proxy.transaction cimport Downstream, Transaction, new_transaction
from gateway.rules.question cimport ProgramQuestion
from gateway.rules.rate_limit cimport Charge, RateLimit
from gateway.rules.view cimport View
from gateway.wire.head cimport Head, R_BODY_TOO_LARGE, R_OK, find_end, scan_request, sentence_of, status_of
from gateway.wire.origin cimport Provenance
from gateway.wire.request_id cimport ID_LENGTH
from qos.delay cimport too_late

SESSIONS = ("live", "live", "adopted", "new", "waiting", "early", "asset", "full")  # by Admitted of qos/sessions.pxd

EXAMPLE_ID = b"0" * ID_LENGTH     # id of every request here, so that the output is reproducible

cdef Head _head


def decision_on(WorkerContext context, Frontend frontend, str listener, bytes head, str client, *, bint https,
                assumed=None, bint verified=False):
    """The handling of a request head received by `frontend`, as plain data.

    Either refused: (status, why), or what gateway/proxy/reasons.pyx finds and outcome: "respond" with status, lines,
    body, or "backend" with its name, affinity, candidates, server (None: none can take
    it), set_cookie, head (for the server), edits (of the answer). session: how it comes by one, or None. admitted:
    "go", "waits", or the outcome of a request that admission refuses, by `assumed`
    (gateway.config.expectation.Assumption); None: by what is on the Board. verified: the client has shown a valid
    certificate.
    """
    cdef bytes padded = head + b"\0" * 16
    cdef const char *p = PyBytes_AS_STRING(padded)
    cdef uint32_t seen = 0, end = 0
    cdef View view = context.view
    cdef Decision d = Decision()
    cdef Downstream asking = Downstream()
    cdef Transaction t
    cdef dict trace = {}
    cdef int why = find_end(p, <uint32_t>len(head), &seen, &end)
    if why == R_OK:
        why = scan_request(p, end, &_head, &frontend.bounds)
    if why == R_OK and _head.content_length > frontend.body_bytes:
        why = R_BODY_TOO_LARGE
    if why != R_OK:
        return {"refused": (status_of(why), sentence_of(why))}
    trusts = (<object>frontend).trusts if frontend.trusts(client) else None
    asking.provenance = Provenance(client.encode(), https, listener.encode(), context.via, trusts,
                                   frontend.client_from)
    asking.provenance.guarded = frontend.guards
    asking.provenance.here = _address_of(listener)
    asking.provenance.verified = verified
    t = new_transaction(context)
    t.begin(asking, frontend, p, &_head)
    t.id_n = ID_LENGTH
    memcpy(t.id, PyBytes_AS_STRING(EXAMPLE_ID), ID_LENGTH)
    d.id = t.id
    d.id_n = t.id_n
    view.notes = []
    view.reproducible = True
    try:
        decide(d, context, frontend, asking.provenance, p, &_head, trace)
        while d.verdict == V_ASK:
            view.settled = view.settled or {}
            if type(d.question) is ProgramQuestion:
                view.settled[d.question.key] = _supposed(<ProgramQuestion>d.question, assumed)
            else:
                view.settled[d.question.key] = (<object>d.question).check()
            view.notes = []
            decide(d, context, frontend, asking.provenance, p, &_head, trace)
        if d.verdict == V_REFUSE:
            return {"refused": (status_of(d.reason), sentence_of(d.reason))}
        found = {**reasons(view, d, trace), "session": None, "admitted": "go"}
        t.pages = view.pages
        if d.verdict != V_NOT_ADMITTED and _over(t, view, d, found, assumed):
            pass
        elif d.verdict == V_FORWARD:
            if not _waits(context, t, d, found) and not _full(d, found, assumed):
                found.update(_forwarded(context, t, d))
        elif d.verdict == V_RESPOND:
            lines = d.respond.lines
            if d.respond.body is not None and view.response_edits is not None:
                view.response_edits.settle_status(d.respond.status)
                lines = view.response_edits.merged(lines)
            found.update(outcome="respond", status=d.respond.status, lines=lines.decode("latin-1"),
                         body=b"" if d.respond.closes else d.respond.body, closes=d.respond.closes)
        else:
            status = 403 if d.verdict == V_NOT_ADMITTED else 404
            if d.verdict == V_NOT_ADMITTED:
                found["admitted"] = "not_admitted"
            found.update(outcome="respond", status=status, lines="", body=None)
        if found["outcome"] == "respond" and found["body"] is None:
            lines, found["body"] = t.page_of(found["status"])
            found["lines"] = lines.decode() + found["lines"]
        return found
    finally:
        view.notes = view.settled = None
        view.reproducible = False
        t.put_back()


cdef object _supposed(ProgramQuestion question, assumed):
    """What the program of a map says of a key, by assumption: it is not run here."""
    value = None if assumed is None else assumed.programs.get(question.name, {}).get(question.text.decode("latin-1"))
    return None if value is None else value.encode("latin-1", "replace")


cdef bytes _address_of(str listener):
    """The address that clients of a listener reach; 127.0.0.1 where that is not known."""
    host = listener.rpartition(":")[0].strip("[]")
    return host.encode() if host not in ("0.0.0.0", "::") and (":" in host or host[:1].isdigit()) else b"127.0.0.1"


cdef bint _waits(WorkerContext context, Transaction t, Decision d, dict found) except -1:
    """Whether the request lacks a session, under the assumptions; both are noted in `found`."""
    cdef SessionGate gate = context.gate
    cdef View view = context.view
    cdef int what
    if gate is None or (d.klass is not None and d.klass.admits == ADMITS_ALWAYS):
        return False
    what = gate.foresee(view)
    found["session"] = SESSIONS[gate.what]
    found["admission"].append(f"sessions: {SESSIONS[gate.what]}")
    if what == G_GO:
        return False
    status, lines, body = gate.reply(what, view, t.head.p + t.target.at, t.target.n, view.klass)
    found.update(outcome="respond", status=status, lines=lines.decode("latin-1"), body=body, site=view.site)
    return True


cdef bint _over(Transaction t, View view, Decision d, dict found, assumed) except -1:
    """Whether an exhausted rate (by assumption) refuses the request; noted in `found`."""
    cdef RateLimit limit
    cdef Charge charge
    cdef list limits = [charge.limit for charge in view.charges or ()]
    if d.klass is not None and d.klass.admits == ADMITS_ALWAYS:
        return False
    if d.klass is not None and d.klass.limit is not None:
        limits.append(d.klass.limit)
    for limit in limits:
        if assumed is None or limit.name not in assumed.over or limit.dry_run:
            continue
        if d.verdict == V_FORWARD and limit.max_delay:
            found["admitted"] = "waits"
            continue
        lines, body = t.page_of(429)
        lines += limit.refusal(1)
        found.update(outcome="respond", status=429, lines=lines.decode("latin-1"), body=body,
                     admitted="rate_limited")
        return True
    return False


cdef bint _full(Decision d, dict found, assumed) except -1:
    """Whether the class's concurrency or a full queue refuses the request; noted in `found`.

    The rules are those of Transaction._admit and WaitQueue.
    """
    cdef Backend backend = d.backend
    cdef WaitQueue queue = backend.queue
    cdef Overload overload = backend.overload
    cdef QosClass klass = d.klass
    cdef int64_t there, waiting, own, limit = 0
    cdef double waited = 0
    name = backend.name
    if assumed is None:
        there = overload.in_flight() if overload is not None else 0
        waiting = queue.board.passed_through(queue.traffic).queued
        own = klass.in_flight() if klass is not None else 0
    else:
        there, waiting = assumed.in_flight.get(name, 0), assumed.queued.get(name, 0)
        own, waited = assumed.class_in_flight, assumed.waited
    if overload is not None:
        limit = overload.concurrency
        if overload.adaptive:
            limit = <int64_t>overload.board.limits[overload.traffic].limit or 10 * max(1, overload.members.count)
            limit = assumed.limit.get(name, limit) if assumed is not None else limit
    why = None
    if klass is not None and klass.concurrency and own >= klass.concurrency and not klass.dry_run:
        why = "waits" if queue.limit else "class_full"
    elif (limit and there >= limit) or waiting:
        why = "waits"
    if why == "waits" and waiting >= queue.limit:
        why = "queue_full"
    elif why == "waits" and overload is not None and overload.target:
        if too_late(<int64_t>(waited * 1e9), overload.target):
            why = "shed"
    if limit:
        found["admission"].append(f"overload control: {there} of {limit} at servers, {waiting} wait")
    if why is None:
        return False
    found["admitted"] = why
    found["admission"].append(why.replace("_", " "))
    if why == "waits":
        return False
    found.update(outcome="respond", status=503, lines="", body=None)
    return True


cdef _forwarded(WorkerContext context, Transaction t, Decision d):
    cdef View view = context.view
    cdef Backend backend = d.backend
    cdef int i
    t.attempt.backend = backend
    t.attempt.args.now = t.started
    servers = candidates(backend, t.started)
    t.prepare(d.p, view.h)
    i = t.attempt.pick(t.started)
    add_expectations(backend, servers)
    edits = None
    if view.response_edits is not None:
        names, lines = view.response_edits.listed()
        edits = {"without": [name.decode("latin-1") for name in names], "with": lines.decode("latin-1")}
    return {
        "outcome": "backend", "backend": backend.name, "candidates": servers,
        "affinity": None if backend.affinity is None else str(backend.affinity),
        "kept": backend.affinity is not None and i >= 0 and i == t.attempt.belongs,
        "server": (<Server>backend.servers[i]).name if i >= 0 else None,
        "head": t.upstream_head.p[:t.upstream_head.n].decode("latin-1"), "edits": edits,
    }
