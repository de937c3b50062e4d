"""What operators follow live: the records of requests that end, and the steps of some. See gateway/process/tail.py.

A worker has no Tails while nobody follows: then each of the few places that ask for them costs two instructions.
Nothing waits for a reader (gateway/proxy/packets.pyx).
"""

import json
import logging
import os
import time

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcmp

from gateway.proxy.decide cimport V_ASK, V_FORWARD, V_NO_ROUTE, V_NOT_ADMITTED, V_REFUSE, Decision, decide
from gateway.proxy.packets cimport Packets
from gateway.proxy.reasons cimport add_expectations, candidates, reasons
from gateway.proxy.server cimport Server
from gateway.proxy.transaction cimport (
    T_CALLED, T_CONNECTING, T_RESPONDING, T_SENT, T_TUNNEL, T_WAITING, Transaction,
)
from gateway.rules.question cimport ProgramQuestion, Question
from gateway.rules.view cimport View
from gateway.wire.head cimport Head, sentence_of
from gateway.wire.origin cimport Provenance

from gateway.outcome import OUTCOMES
from gateway.proxy.server import address_text
from gateway.rules.expression import When

cdef enum:
    WINDOWS = 10                # in a second, for `per_second`

log = logging.getLogger(__name__)


cdef class Tail:
    """fd: the writing end, which is the tail's own."""

    def __init__(self, loop, int number, wanted, int fd):
        self.number = number
        self.fd = fd
        self.packets = Packets(loop, fd)
        self.when = When(wanted.when.text, wanted.when.node, {}) if wanted.when is not None else None
        for outcome, (name, _, _) in enumerate(OUTCOMES):
            self.outcomes[outcome] = not wanted.outcomes or name in wanted.outcomes
        self.request_id = wanted.request_id.encode("latin-1", "replace")
        self.steps = wanted.steps
        self.most = wanted.most or -1
        self.per_window = max(1, wanted.per_second // WINDOWS) if wanted.per_second else 0

    def close(self):
        """Send what is left, if it is taken at once, and close the socket."""
        self.packets.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    cdef bint wants(self, Transaction t) except -1:
        """Whether a request is one of those that are followed, by what is known when it comes, but for `when`."""
        return (not self.packets.ended and self.most != 0
                and (not self.request_id or (<uint32_t>PyBytes_GET_SIZE(self.request_id) == t.id_n
                                             and memcmp(PyBytes_AS_STRING(self.request_id), t.id, t.id_n) == 0)))

    cdef int take(self, Transaction t, int64_t now) except -1:
        """Add the record of a request that has ended."""
        if self.per_window:
            if now - self.window >= 1000000000 // WINDOWS:
                self.window = now
                self.in_window = 0
            if self.in_window >= self.per_window:
                self.packets.lost += 1
                return 0
            self.in_window += 1
        if self.most > 0 and not self.steps:
            self.most -= 1
        if self.packets.full():
            self.packets.lost += 1
            return self.packets.send_later()
        return self.packets.add_record(t, now)

    cdef int add_step(self, bytes line) except -1:
        """Add a step: it is sent at once, because a request may hang in it."""
        if self.packets.add_line(line):
            self.packets.count += 1
        self.packets.send()
        return self.packets.send_later()

    cdef int give_up(self) except -1:
        """End because of a mistake in this file, which must not cost a client its request."""
        log.exception("a tail ends")
        self.packets.ended = True
        return 0


cdef class Tails:
    def __init__(self, WorkerContext context):
        self.context = context
        self.tails = []

    def add(self, int number, wanted, int fd):
        """Follow another one; `fd` becomes its own."""
        self.tails.append(Tail(self.context.poller.loop, number, wanted, fd))

    def remove(self, int number):
        """Nobody reads it any more."""
        for tail in [tail for tail in self.tails if tail.number == number]:
            self.tails.remove(tail)
            tail.close()
        if not self.tails:
            self.context.tails = None

    def close(self):
        """End all."""
        for tail in list(self.tails):
            self.remove(tail.number)

    cdef int choose(self, Transaction t, const char *p, Head *h) except -1:
        """Note which tails a request is for, as it was received."""
        cdef Tail tail
        cdef View view = self.context.view
        cdef Provenance provenance = t.downstream.provenance
        cdef bint looked = False, usable = True
        for tail in self.tails:
            if not tail.wants(t):
                continue
            if tail.when is not None:
                if not looked:
                    looked = True
                    provenance.look(p, h)
                    usable = view.look(p, h, provenance.origin.asked_https, provenance.client, provenance.address,
                                       t.frontend.accept) == 0
                try:
                    if not usable or not tail.when.holds(view):
                        continue
                except Exception:
                    tail.give_up()
                    continue
            t.chosen_by |= 1 << tail.number
            if tail.steps and not t.followed:
                if tail.most > 0:
                    tail.most -= 1
                t.steps = Steps(tail, self.context)
                t.followed = 1
        return 0

    cdef int take(self, Transaction t, int64_t now) except -1:
        """Hand the record of a request that has ended to those who want it."""
        cdef Tail tail
        for tail in self.tails:
            if tail.steps:
                if not t.followed or (<Steps>t.steps).tail is not tail:
                    continue
            elif tail.when is not None and not t.chosen_by & (1 << tail.number):
                continue
            elif not tail.wants(t):
                continue
            if tail.outcomes[t.outcome]:
                tail.take(t, now)
                if tail.steps:
                    tail.packets.send()
        return 0


cdef class Steps:
    """The steps of one request, as it goes through them."""

    def __init__(self, Tail tail, WorkerContext context):
        self.tail = tail
        self.context = context

    cdef int follow_decision(self, Decision d, Transaction t, const char *p, Head *h) except -1:
        """Decide on the request as without a tail, and report the reasons."""
        cdef View view = self.context.view
        cdef dict trace = {}
        self.since = t.started
        view.notes = []
        try:
            decide(d, self.context, t.frontend, t.downstream.provenance, p, h, trace)
            try:
                self._add_decision(t, d, trace)
            except Exception:
                self.tail.give_up()
        finally:
            view.notes = None
        return 0

    cdef int _add_decision(self, Transaction t, Decision d, dict trace) except -1:
        if d.verdict == V_REFUSE:
            return self._add(t, "refused", {"why": sentence_of(d.reason)})
        found = reasons(self.context.view, d, trace)
        for route in found["routes"]:
            route["at"] = self.context.routes_at[route["route"]]
        method = t.head.p[t.method.at:t.method.at + t.method.n].decode("latin-1")
        host = t.head.p[t.host.at:t.host.at + t.host.n].decode("latin-1")
        target = t.head.p[t.target.at:t.target.at + t.target.n].decode("latin-1")
        found.update(
            asked=f"{method} {target}", host=host, frontend=t.frontend.name,
            verdict="backend" if d.verdict == V_FORWARD else "no_route" if d.verdict == V_NO_ROUTE
                    else "not_admitted" if d.verdict == V_NOT_ADMITTED else asks(d.question) if d.verdict == V_ASK
                    else "respond",
            backend=d.backend.name if d.verdict == V_FORWARD else None,
        )
        return self._add(t, "decided", found)

    cdef int server_chosen(self, Transaction t, int i) except -1:
        """A server was picked; it has not got the request yet."""
        try:
            self._server_chosen(t, i)
        except Exception:
            self.tail.give_up()
        return 0

    cdef int _server_chosen(self, Transaction t, int i) except -1:
        servers = candidates(t.attempt.backend, t.poller.now)
        add_expectations(t.attempt.backend, servers)
        affinity = t.attempt.backend.affinity
        tried = [(<Server>t.attempt.backend.servers[t.attempt.args.tried.index[n]]).name
                 for n in range(t.attempt.args.tried.count)]
        for server in servers:
            del server["token"]                     # a secret of the client that has it
            server["address"] = address_text(server["address"])
        self.pooled = True
        return self._add(t, "server", {
            "backend": t.attempt.backend.name, "server": (<Server>t.attempt.backend.servers[i]).name,
            "candidates": servers, "tried": tried,
            "affinity": None if affinity is None else str(affinity), "kept": i == t.attempt.belongs,
        })

    cdef int failed(self, Transaction t, int outcome, int64_t detail) except -1:
        """The server, or the connection to it, has failed the request."""
        try:
            self._failed(t, outcome, detail)
        except Exception:
            self.tail.give_up()
        return 0

    cdef int _failed(self, Transaction t, int outcome, int64_t detail) except -1:
        from gateway.proxy.transaction import detail_text
        name, _, meaning = OUTCOMES[outcome]
        return self._add(t, "failed", {
            "server": t.attempt.server.name, "outcome": name,
            "why": f"{meaning}{detail_text(outcome, detail, t.bytes_out)}",
        })

    cdef int status_retried(self, Transaction t, int status) except -1:
        """The server has answered with a status for which another server is tried."""
        return self._add(t, "failed", {"server": t.attempt.server.name, "outcome": "status", "why": f"status {status}"})

    cdef int become(self, Transaction t, int state) except -1:
        """The request goes over to another state."""
        try:
            self._become(t, state)
        except Exception:
            self.tail.give_up()
        return 0

    cdef int _become(self, Transaction t, int state) except -1:
        if state == T_WAITING:
            return self._add(t, "waits", {
                "reason": asks(t.question) if t.question is not None else "rate" if t.delay is not None else "room",
            })
        if state == T_CALLED:
            return self._add(t, "called", {})
        if state == T_CONNECTING:
            self.pooled = False
            return self._add(t, "connects", {"server": t.attempt.server.name})
        if state == T_SENT:
            return self._add(t, "sent", {
                "server": t.attempt.server.name, "address": address_text(t.attempt.server.address),
                "connection": "reused" if self.pooled else "new",
            })
        if state == T_RESPONDING or state == T_TUNNEL:
            return self._add(t, "answered", {"server": t.attempt.server.name, "status": t.status})
        return 0

    cdef int _add(self, Transaction t, str step, dict more) except -1:
        cdef int64_t now = max(t.poller.now, time.monotonic_ns())
        said = {
            "step": step, "request_id": t.id[:t.id_n].decode("latin-1"), "ms": round((now - t.started) * 1e-6, 3),
            "took_ms": round((now - self.since) * 1e-6, 3), **more,
        }
        self.since = now
        return self.tail.add_step(json.dumps(said).encode() + b"\n")


cdef str asks(Question question):
    """What a request waits for that has such a question."""
    return "map" if type(question) is ProgramQuestion else "login"
