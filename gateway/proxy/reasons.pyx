"""The reasons of a decision and of the choice of a server, as plain data: for `explain`, `test` and `trace`."""

from libc.stdint cimport int64_t

from gateway.balance.policy cimport Members
from gateway.board cimport ServerRow
from gateway.proxy.qos_class cimport ADMITS_BY_LIMITS
from gateway.proxy.server cimport Server
from gateway.rules.actions cimport Respond
from gateway.rules.rate_limit cimport Charge

STATES = ("unknown", "up", "down")
ADMINS = ("ready", "drain", "maintenance")
EJECTIONS = ("no", "out", "probed")


cdef dict reasons(View view, Decision d, dict trace):
    """How a request was seen and decided on; `view`, `d` and `trace` are as `decide` has left them.

    scheme, client, uri (in normal form), sites (load by name), classes and routes (one dict for each that was tried),
    maps (texts, of each look-up), class, arrived (the site that has just sent the client), site (that it is sent to);
    admission: texts, of the limits of its class and routes.
    """
    routes = []
    before = trace["uri"]
    for route, why_not, _, uri in trace["routes"]:
        routes.append({
            "route": route.index, "why_not": why_not, "uri": uri.decode("latin-1"), "rewritten": uri != before,
            "does": [] if why_not else [*[step.text for step in route.steps], *_ends(route.action)],
            "notes": _notes(view, route, why_not),
        })
        before = uri
    return {
        "scheme": "https" if view.https else "http", "client": view.client.decode("latin-1"),
        "uri": trace["uri"].decode("latin-1"), "sites": trace.get("sites", {}),
        "classes": [{"class": name, "why_not": why_not} for name, why_not in trace.get("classes", ())],
        "routes": routes, "maps": list(dict.fromkeys([said for text, said in view.notes if text == "map"])),
        "admission": _admission(view, d), "class": view.klass, "arrived": view.arrived,
        "site": view.site,
    }


cdef list _ends(action):
    """What a route does that ends the search."""
    if action is None:
        return []
    if type(action) is Backend:
        own = " with settings of the route's own" if (<Backend>action).settings is not None else ""
        return [f"backend {(<Backend>action).name}{own}"]
    return [f"respond {(<Respond>action).status}"] if type(action) is Respond else []


cdef list _notes(View view, route, why_not):
    """The notes of a route's steps on what they did."""
    texts = () if why_not else {step.text for step in route.steps}
    return [said for text, said in view.notes if text in texts]


cdef list _admission(View view, Decision d):
    """Why admission would refuse or delay the request, in readable form."""
    cdef Charge charge
    found = [] if d.klass is None else [d.klass.text]
    if d.klass is None or d.klass.admits == ADMITS_BY_LIMITS:
        for charge in view.charges or ():
            found.append(f"{charge.limit.name}: {charge.limit.text}")
    return found


cdef list candidates(Backend backend, int64_t now):
    """The servers of a backend with what the Board and the agents say of them, in the order of the site file."""
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


cdef int add_expectations(Backend backend, list found) except -1:
    """The input of a policy that measures, to what `candidates` has found: the expected response time of each."""
    cdef Members members = backend.members
    cdef int i
    for i in range(members.count):
        measured = members.member[i].cost > 0 and members.member[i].estimate.answers > 0
        found[i]["expected_ms"] = members.member[i].cost * 1000 if measured else None
    return 0
