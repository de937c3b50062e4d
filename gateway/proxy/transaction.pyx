"""The life of a request: decision, admission, possibly waiting, attempts at servers, response, record.

             ┌────────────► T_WAITING ──► T_CALLED ─┐            every state may go to T_ENDED:
             │                  ▲  ▲          │     │            _finish is the one way there, and runs once
    T_NEW ───┤                  │  └──────────┘     │
             ├────► T_CONNECTING ◄──────────────────┤
             │            │ ▲                       │
             └─────────► T_SENT ◄───────────────────┘            a try that fails goes back: to another server
                          │  │                                   (T_CONNECTING, T_SENT), or to wait (T_WAITING)
              T_TUNNEL ◄──┘  └──► T_RESPONDING

A transaction is made for each request and holds all its state; none of it remains anywhere when the transaction has
ended. It waits for one event at a time (Awaited), which determines the meaning of an expired deadline. Its Downstream
and its Upstream call it when something has happened (on_...), and it calls them to get something done; none of these
calls makes a connection read, so none re-enters its caller.

Transactions are recycled: after the first few, a request allocates nothing here.
"""

import errno as _errno
import logging
import socket

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free
from libc.string cimport memcpy

from gateway.board cimport CountRow, Passed, record
from gateway.proxy.conn cimport FOREVER
from gateway.proxy.admission cimport Admission
from gateway.proxy.decide cimport V_ASK, V_FORWARD, V_NO_ROUTE, V_NOT_ADMITTED, V_REFUSE, Decision, decide
from gateway.proxy.log cimport AccessLog
from gateway.outcome cimport (
    CAUSE_STATUS, O_ANSWERED, O_BUG, O_CALL_TIMEOUT, O_CLASS_FULL, O_CLIENT_LEFT, O_CLIENT_TIMEOUT, O_CONNECT_TIMEOUT,
    O_NOT_ADMITTED, O_NO_DESCRIPTOR, O_NO_ROUTE, O_NO_SERVER, O_OK, O_QUEUE_FULL, O_QUEUE_TIMEOUT, O_RATE_LIMITED,
    O_REFUSED, O_RESPONSE_CUT, O_RESPONSE_INVALID, O_RETRIED, O_SERVER_TIMEOUT, O_SESSIONS_FULL, O_SHED, O_STALE,
    O_STOPPED, O_STREAM_REFUSED, O_STREAM_RESET, O_TUNNEL_CUT_BY_CLIENT, O_TUNNEL_CUT_BY_SERVER, O_TUNNEL_IDLE,
    O_WAITING, O_WEBSOCKET_NOT_SPOKEN, SIDE_GATEWAY, SIDE_SERVER, outcome_of_errno, outcome_row,
)
from gateway.proxy.lanes cimport NO_CLASS, Lanes
from gateway.proxy.overload cimport Overload
from gateway.proxy.qos_class cimport ADMITS_ALWAYS
from gateway.proxy.queue cimport SHED, WaitQueue
from gateway.proxy.retry cimport cause_of
from gateway.proxy.server cimport P_AUTHENTICATED, S_CONNECTING, Server, ServerConn, TlsServer
from gateway.proxy.session_gate cimport G_FULL, G_GO, G_REDIRECT, SessionGate
from gateway.proxy.states cimport Machine, edges_of, step
from gateway.proxy.tail cimport Steps, Tails
from gateway.proxy.tracing cimport Trace, Tracing
from gateway.proxy.tunnel cimport END_CUT_BY_FIRST, END_CUT_BY_SECOND, END_IDLE, END_STOPPED
from gateway.rules.actions cimport Respond
from gateway.rules.question cimport ProgramQuestion, Question
from gateway.rules.view cimport View
from gateway.wire.authentication cimport binds_request
from gateway.wire.edit cimport edit_request, out_append, out_reserve
from gateway.wire.grpc cimport call_timeout, error_lines, is_grpc
from gateway.wire.head cimport (
    F_AUTHORIZATION, F_CONTENT_TYPE, F_DATE, F_REFERER, F_USER_AGENT, M_HEAD, M_OTHER, R_BODY_TOO_LARGE, R_NO_SWITCH,
    R_NOT_ASKED, R_OK, R_TIMEOUT, Field, same_any, scan_request, sentence_of, status_of,
)
from gateway.wire.request_id cimport ID_LENGTH, find_request_id, next_id
from gateway.wire.wide cimport WIDE
from qos.sessions cimport A_ASSET

from gateway.load.orca import load as orca_load
from gateway.outcome import OUTCOMES
from gateway.proxy.server import address_text
from gateway.proxy.tls_to_servers import text_of
from gateway.wire.pages import page
from gateway.wire.proxy_protocol import header
from loadagent.printable import printable

log = logging.getLogger(__name__)

cdef enum:
    REPLAY = 64 * 1024      # bytes of a body that are buffered for a retry
    KEPT = 256              # transactions kept for reuse
    LARGE = 16 * 1024       # a buffer that has grown beyond this is freed
    PIECES = 20             # per second, of a response with a bandwidth
    PACED = 1024            # bytes per piece, at least
    TURN = 128 * 1024       # largest turn in bytes, where a class has a bandwidth: as much as is read at once

cdef int64_t ASK_MS = 30_000                    # until a question of its decision must be answered
cdef Head _again                                # of a request that is decided on a second time

cdef int64_t BODY_GRACE_NS = 10_000_000_000     # before body_rate applies
cdef int64_t LOG_PERIOD_NS = 10_000_000_000          # between two log lines about the same failure of a server

HTTP2_ERRORS = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)
"""By code (RFC 9113 section 7)."""
STATES = ("new", "waiting", "called", "connecting", "sent", "responding", "tunnel", "ended")

cdef Machine _machine
_machine.next[<int>T_NEW] = 1 << T_WAITING | 1 << T_CONNECTING | 1 << T_SENT | 1 << T_ENDED
_machine.next[<int>T_WAITING] = 1 << T_CALLED | 1 << T_ENDED
_machine.next[<int>T_CALLED] = 1 << T_WAITING | 1 << T_CONNECTING | 1 << T_SENT | 1 << T_ENDED
_machine.next[<int>T_CONNECTING] = 1 << T_CONNECTING | 1 << T_SENT | 1 << T_WAITING | 1 << T_ENDED
_machine.next[<int>T_SENT] = (1 << T_CONNECTING | 1 << T_SENT | 1 << T_WAITING | 1 << T_RESPONDING | 1 << T_TUNNEL
                              | 1 << T_ENDED)
_machine.next[<int>T_RESPONDING] = 1 << T_ENDED
_machine.next[<int>T_TUNNEL] = 1 << T_ENDED

cdef Decision _decision = Decision()            # a process decides on one request at a time
cdef dict _said = {}                            # for backends, as Server.said
cdef int _live = 0                              # begun and not ended
cdef Transaction _spare = None                  # head of a chain
cdef int _spares = 0


def edges():
    """{(state, next state): number of transitions in this process} for every possible transition."""
    return edges_of(&_machine, STATES)


def live():
    """The number of transactions of this process that have begun and not ended."""
    return _live


cdef class Downstream(Handler):
    cdef int interim(self, const char *p, Head *h) except -1:
        """Pass on an interim response (RFC 9110 section 15.2)."""
        raise NotImplementedError

    cdef int head(self, const char *p, Head *h, int framing, bytes extra) except -1:
        """Pass on the head of the response; `extra`: complete lines to add, Via first."""
        raise NotImplementedError

    cdef int body(self, const char *p, size_t n) except -1:
        """Pass on a piece of the response body; the bytes stay valid until the end of this event, or the next read."""
        raise NotImplementedError

    cdef int end(self, Out *trailers) except -1:
        """The response is complete; trailers: as received."""
        raise NotImplementedError

    cdef int answer(self, int status, bytes lines, bytes body, bint close) except -1:
        """Send a response of the gateway itself, completely. close: read nothing more from this client."""
        raise NotImplementedError

    cdef bint takes(self) noexcept:
        """Whether the client has taken the earlier data."""
        return True

    cdef int resume(self) except -1:
        """More of the request's body can be taken: continue to read it after this event."""
        raise NotImplementedError

    cdef int abort(self, bint at_once) except -1:
        """The response cannot be completed: end it so that the client notices; `over` follows.

        at_once: drop the data that the client has not taken yet; otherwise it gets all that was passed on before.
        """
        raise NotImplementedError

    cdef int over(self) except -1:
        """The transaction has ended: drop the reference to it."""
        raise NotImplementedError

    cdef Conn splice_target(self):
        """The connection that pieces of the body may be spliced to unchanged, or None."""
        return None

    cdef int check_upgrade(self, const char *p, Head *h) except -1:
        """Whether a 101 completes the handshake of this client: R_OK, or why not."""
        return R_OK

    cdef Tunnel upgrade(self, const char *p, Head *h, bytes extra):
        """Pass on a 101; return the tunnel, whose first side is this client."""
        raise NotImplementedError

    cdef int give_ahead(self, Tunnel tunnel) except -1:
        """Give the tunnel the data that the client has already sent for it."""
        return 0

    cdef SSL *tls_state(self) noexcept:
        """The TLS state of the client's connection; NULL without TLS."""
        return NULL

    cdef int descriptor(self) noexcept:
        """That of the client's connection."""
        return -1

    cdef ServerConn own(self):
        """The private server connection of this client, or None."""
        return None

    cdef int keep(self, ServerConn conn, int64_t ms) except -1:
        """Keep an idle server connection, for this client alone and no longer than `ms`."""
        return conn.close()


cdef class Upstream(Handler):
    cdef int begin(self, Transaction t) except -1:
        """Send the head of the request."""
        raise NotImplementedError

    cdef int body(self, const char *p, size_t n) except -1:
        """Send a piece of its body; the bytes stay valid until the end of this event, or the next read."""
        raise NotImplementedError

    cdef int end(self, Out *trailers) except -1:
        """The request is complete; trailers: as received."""
        raise NotImplementedError

    cdef bint takes(self) noexcept:
        """Whether the server has taken the earlier data."""
        raise NotImplementedError

    cdef int resume(self) except -1:
        """More of the response can be taken: continue to read it after this event."""
        raise NotImplementedError

    cdef int abort(self) except -1:
        """The response is no longer needed: the server sees the connection or stream closed."""
        raise NotImplementedError

    cdef Conn splice_target(self):
        """The connection that pieces of the body may be spliced to unchanged, or None."""
        return None

    cdef Conn hand_over(self):
        """The connection becomes part of a tunnel."""
        raise NotImplementedError


cdef class Transaction(Work):
    def __cinit__(self):
        self.attempt = Attempt()
        self.attempt.reset()
        self.state = T_ENDED

    def __dealloc__(self):
        free(self.head.p)
        free(self.upstream_head.p)
        free(self.replay.p)
        free(self.trailers.p)
        free(self.response_trailers.p)

    def __repr__(self):
        return f"<Transaction {STATES[self.state]} {self.attempt!r}>"

    # ---------------------------------------------------------------------------------------------- beginning, deciding

    cdef int _reset(self, Downstream downstream, Frontend frontend, int64_t now) except -1:
        global _live
        self.state = T_NEW
        self.downstream = downstream
        self.client = downstream.address
        self.frontend = frontend
        self.trailers.n = self.response_trailers.n = self.replay.n = 0
        self.replay_lost = 0
        self.request_done = not self.has_body
        self.server_blocks = self.client_blocks = 0
        self.status = 0
        self.detail = 0
        self.outcome = 0
        self.unsaid = 0
        self.started = now
        self.answered = 0
        self.waited = 0
        self.wait_ends = 0
        self.over = 0
        self.session = 0
        self.kept = False
        self.ticket = None
        self.due = 0
        self.bandwidth = self.turn = 0
        self.bytes_in = self.bytes_out = 0
        self.chosen_by = 0
        self.place = -1
        _live += 1
        return 0

    cdef int begin_nameless(self, Downstream downstream, Frontend frontend, bint https) except -1:
        """For input that is not a request: it gets a response and a record, and nothing else."""
        self.method.n = self.target.n = self.host.n = self.user_agent.n = self.referer.n = self.upgrade.n = 0
        self.method_code = M_OTHER
        self.minor = 1
        self.http2 = self.grpc = 0
        self.has_body = self.binds = 0
        self.content_length = -1
        self.https = https
        self.id_n = ID_LENGTH
        next_id(&self.context.ids, self.id)
        return self._reset(downstream, frontend, self.poller.now)

    cdef int begin(self, Downstream downstream, Frontend frontend, const char *p, Head *h) except -1:
        """Take over the head parsed at p: the caller's buffer is not needed after `start`."""
        cdef int i
        self.head.n = 0
        out_append(&self.head, p, h.length)
        self.method.at = 0
        self.method.n = h.method_len
        self.target.at = h.target
        self.target.n = h.target_len
        self.host.at = h.host
        self.host.n = h.host_len
        self.user_agent.n = self.referer.n = self.upgrade.n = 0
        if h.upgrade:
            self.upgrade.at = h.fields[h.upgrade_field].value
            self.upgrade.n = h.fields[h.upgrade_field].value_len
        for i in range(h.count):
            if h.fields[i].known == F_USER_AGENT:
                self.user_agent.at = h.fields[i].value
                self.user_agent.n = h.fields[i].value_len
            elif h.fields[i].known == F_REFERER:
                self.referer.at = h.fields[i].value
                self.referer.n = h.fields[i].value_len
        self.method_code = h.method
        self.minor = h.minor
        self.http2 = h.http2
        self.grpc = h.http2 and h.kinds >> F_CONTENT_TYPE & 1 and is_grpc(p, h)
        self.content_length = h.content_length
        self.has_body = h.chunked or h.content_length > 0
        self.binds = h.kinds & (1 << F_AUTHORIZATION) and binds_request(p, h)
        self.https = downstream.provenance.origin.https
        self._take_id(p, h, downstream.provenance)
        return self._reset(downstream, frontend, self.poller.now)

    cdef void _take_id(self, const char *p, Head *h, Provenance provenance) noexcept:
        """Take the request's id from a trusted proxy, or make one."""
        cdef const char *at = NULL
        if provenance.trusts is not None and find_request_id(p, h, &at, &self.id_n):
            memcpy(self.id, at, self.id_n)
        else:
            self.id_n = ID_LENGTH
            next_id(&self.context.ids, self.id)

    cdef int start(self, const char *p, Head *h) except -1:
        """Decide on the request with head h at p, and carry out the decision."""
        if self.has_body:
            self.body_clock = self.blocked = self.poller.now
        if self.grpc:
            self._begin_call(p, h)
        if self.context.tails is not None:
            self._choose_for_tails(p, h)
        if self.context.tracing is not None:
            self._begin_trace(p, h)
        return self._carry_out(p, h)

    cdef int _begin_call(self, const char *p, Head *h) except -1:
        """End a gRPC call when its own deadline passes."""
        cdef int64_t ns = call_timeout(p, h)
        self.overdue = 0
        if ns >= 0:
            self.call_timer = self.poller.loop.call_later(ns * 1e-9, self._call_over)
        return 0

    def _call_over(self):
        """A deadline that clients choose says nothing about a server."""
        self.call_timer = None
        self.overdue = 1
        self._let_go()
        if self.answer_begun():
            self.broken_off = 504
            self.downstream.abort(False)
            self._finish(O_CALL_TIMEOUT)
        else:
            self._page(504, O_CALL_TIMEOUT)
        self.poller.settle()

    cdef int _carry_out(self, const char *p, Head *h) except -1:
        cdef Decision d = _decision
        cdef View view = self.context.view
        cdef Respond respond
        cdef bytes lines, body
        d.id = self.id
        d.id_n = self.id_n
        if not self.followed:
            decide(d, self.context, self.frontend, self.downstream.provenance, p, h, None)
        else:
            (<Steps>self.steps).follow_decision(d, self, p, h)
        self.client = self.downstream.provenance.client
        self.https = self.downstream.provenance.origin.asked_https
        if d.verdict == V_REFUSE:
            return self.refuse(d.reason)
        self.klass = view.klass
        self.bandwidth = view.bandwidth
        if view.pages is not None:
            self.pages = view.pages
        self.user = view.user
        self.body_bytes = view.body_bytes
        if d.verdict == V_ASK:
            self.qos = d.klass
            return self._ask(d.question)
        if self.context.admits:
            self.qos = d.klass
            if self.qos is not None:
                self._limit_bandwidth(self.qos.bandwidth)
                self._limit_bandwidth(self.qos.total_bandwidth)
            if d.verdict == V_NOT_ADMITTED:
                return self._page(403, O_NOT_ADMITTED)
            if not self._may_go_on(d.verdict == V_FORWARD):
                return 0
            if d.verdict == V_FORWARD and self.context.gate is not None and not self._has_session():
                return 0
        if d.verdict == V_FORWARD:
            self.attempt.begin(d.backend)
            self.prepare(d.p, h)
            if self.context.admits and self.context.admission.wait:
                return self._delay(self.context.admission.wait)
            return self._admit()
        if d.verdict == V_NO_ROUTE:
            return self._page(404, O_NO_ROUTE)
        respond = d.respond
        self.rule = respond.rule
        self.why = respond.why
        if respond.closes:
            return self._close(respond.status)
        if respond.body is None:
            if self.grpc and respond.status >= 400:
                return self._answer(respond.status, respond.lines, None, O_ANSWERED, False)
            if not respond.lines:
                return self._page(respond.status, O_ANSWERED)
            lines, body = self.page_of(respond.status)
            return self._answer(respond.status, lines + respond.lines, body, O_ANSWERED, False)
        lines = respond.lines
        if view.response_edits is not None:
            view.response_edits.settle_status(respond.status)
            lines = view.response_edits.merged(lines)
        return self._answer(respond.status, lines, respond.body, O_ANSWERED, False)

    cdef int _choose_for_tails(self, const char *p, Head *h) except -1:
        """Find out which operators follow this request. A separate function: it is rare."""
        return (<Tails>self.context.tails).choose(self, p, h)

    cdef int _begin_trace(self, const char *p, Head *h) except -1:
        """Give the request its trace. A separate function, as above."""
        return (<Tracing>self.context.tracing).begin(self, p, h)

    cdef int prepare(self, const char *p, Head *h) except -1:
        """Write the head for the server, and store the input of the pick."""
        cdef Backend backend = self.attempt.backend
        cdef View view = self.context.view
        cdef Provenance provenance = self.downstream.provenance
        cdef ServerConn own = self.downstream.own()
        cdef bytes extra, whole
        cdef const char *uri = view.uri
        cdef uint32_t uri_len = view.uri_len
        if view.sent_len:
            whole = view.sent[:view.sent_len] + view.uri[view.path_len:view.uri_len]
            uri = PyBytes_AS_STRING(whole)
            uri_len = <uint32_t>PyBytes_GET_SIZE(whole)
        self.edits = view.response_edits
        if view.request_edits is None and self.trace is None:
            edit_request(&self.upstream_head, p, h, uri, uri_len, &provenance.origin, NULL, 0, self.id, self.id_n)
        else:
            extra = b""
            if view.request_edits is not None:
                view.request_edits.leave_out(p, h, True)
                extra = view.request_edits.added()
                self.request_edits = view.request_edits
            if self.trace is not None:
                extra = (<Trace>self.trace).lines(p, h, extra)
            edit_request(&self.upstream_head, p, h, uri, uri_len, &provenance.origin,
                         PyBytes_AS_STRING(extra), <uint32_t>PyBytes_GET_SIZE(extra), self.id, self.id_n)
        self.repeatable = backend.retries.repeatable(self.method_code, self.head.p + self.method.at, self.method.n)
        self.replay_lost = not (self.repeatable or backend.may_refuse)  # never sent again, so not buffered
        self.attempt.args.now = self.started
        self.attempt.belongs = backend.look_at(&self.attempt.args, p, h, view, self.head.p, self.head.n)
        if own is not None and own.private == P_AUTHENTICATED:
            self.attempt.bound = backend.index_of(own.server)
        if backend.overload is not None and backend.overload.fair_by is not None:
            self.fair = backend.overload.fair_by.key(view)
        return 0

    # -------------------------------------------------------------------------------------------------------- questions

    cdef int _ask(self, Question question) except -1:
        """Wait for the answer that the decision needs, unless the client's rate is exhausted or too many wait."""
        cdef View view = self.context.view
        cdef int status
        cdef uint32_t charged
        if view.charges is not None and (self.qos is None or self.qos.admits != ADMITS_ALWAYS):
            klass, self.qos = self.qos, None        # which counts the request when it goes on
            charged = <uint32_t>len(view.charges)
            if not self._may_go_on(False):
                return 0
            self.qos = klass
            self.charged = charged
        status = self._asked_of(question).ask(question, self.client, id(self), self._answered)
        if status:
            return self._page(status, O_RATE_LIMITED if status == 429 else O_QUEUE_FULL)
        self.question = question
        self.queued = self.poller.now
        self._become(T_WAITING)
        return self._await(A_ROOM, ASK_MS)

    def _asked_of(self, question):
        """Who answers such questions."""
        return self.context.programs if type(question) is ProgramQuestion else self.context.passwords

    def _answered(self, answer):
        """Tell the answer."""
        if self.settled is None:
            self.settled = {}
        self.settled[self.question.key] = answer
        self.question = None
        self.due = 1
        self.poller.turn_of(self)

    cdef int _decide_again(self) except -1:
        """Decide on the request by its head as received, now that its question is answered."""
        cdef View view = self.context.view
        out_reserve(&self.head, WIDE)
        scan_request(self.head.p, self.head.n, &_again, &self.frontend.bounds)      # it was a request before
        if self.http2:
            _again.http2 = 1
            _again.chunked = self.has_body and self.content_length < 0
        view.settled = self.settled
        try:
            return self._carry_out(self.head.p, &_again)
        finally:
            view.settled = None

    # -------------------------------------------------------------------------------------------- admission and waiting

    cdef bint _may_go_on(self, bint patient) except -1:
        """Count the request by the rate limits that apply; False: it has been refused with a response.

        patient: it may be delayed, by the `wait` of the admission.
        """
        cdef Admission admission = self.context.admission
        cdef View view = self.context.view
        cdef int64_t wait
        cdef bytes body
        if self.charged and view.charges is not None:
            view.charges = view.charges[self.charged:] or None
        wait = admission.charge(view, self.qos, self.poller.now, patient)
        self.over = admission.over
        if wait >= 0:
            admission.wait = wait
            return True
        lines, body = self.page_of(429)
        self._answer(429, lines + admission.limit.refusal(admission.wait), body, O_RATE_LIMITED, False)
        return False

    cdef bint _has_session(self) except -1:
        """Whether `qos: sessions:` lets the request go to a server; False: it has its response."""
        cdef SessionGate gate = self.context.gate
        cdef View view = self.context.view
        cdef const char *target = self.head.p + self.target.at
        cdef int what, status
        cdef bytes lines, body
        if self.qos is not None and self.qos.admits == ADMITS_ALWAYS:
            return True
        what = gate.ask(view, target, self.target.n, self.poller.now)
        self.session = <uint8_t>(gate.what + 1)
        self.ticket = gate.line
        if what == G_GO:
            self.kept = gate.what != A_ASSET
            return True
        status, lines, body = gate.reply(what, view, target, self.target.n, self.klass)
        self.rule = self.why = None
        what = O_ANSWERED if what == G_REDIRECT else O_SESSIONS_FULL if what == G_FULL else O_WAITING
        self._answer(status, lines, body, what, False)
        return False

    cdef int _delay(self, int64_t ns) except -1:
        """Continue in `ns`, when the rate limit allows it."""
        self.queued = self.poller.now
        self.delay = self.poller.loop.call_later(ns * 1e-9, self._delay_over)
        self._become(T_WAITING)
        return self._await(A_NONE, FOREVER)

    def _delay_over(self):
        self.delay = None
        self.due = 1
        self.poller.turn_of(self)

    cdef int _admit(self) except -1:
        """Go to a server, unless the class has reached its concurrency or others are waiting."""
        cdef WaitQueue queue = self.attempt.backend.queue
        cdef Overload overload = self.attempt.backend.overload
        if self.qos is not None:
            self.lane = self.qos.lane
            if self.qos.full():
                if self.qos.dry_run:
                    self.over = 1
                elif queue.limit:
                    return self._wait(False)
                else:
                    return self._page(503, O_CLASS_FULL)
        else:
            self.lane = 0 if queue.lanes is None else NO_CLASS
        if queue.limit and queue.busy(self.poller.now):
            return self._wait(False)        # must not overtake waiting requests
        if overload is not None and overload.full(self.poller.now):
            return self._wait(False)
        return self._choose()

    cdef void _enter_class(self) noexcept:
        """Count the request among those of its class that are at servers."""
        cdef Lanes lanes = self.attempt.backend.queue.lanes
        self.in_class = 1
        self.qos.enter()
        if lanes is not None:
            lanes.count(self.lane, 1)

    cdef void _leave_class(self) noexcept:
        """The request is done with servers, or waits for another one."""
        cdef Lanes lanes
        if self.in_class:
            self.in_class = 0
            self.qos.leave()
            lanes = self.attempt.backend.queue.lanes
            if lanes is not None:
                lanes.count(self.lane, -1)

    cdef int _wait(self, bint again) except -1:
        """Wait until a server has room; `again`: the request was called, and there was no room."""
        cdef WaitQueue queue = self.attempt.backend.queue
        if not again:
            self.queued = self.entered = self.poller.now
            self.since = queue.order(self, self.lane, self.started, self.poller.now)
            if queue.full() and not queue.make_room(self, self.lane):
                return self._page(503, O_QUEUE_FULL)
            self.wait_ends = self.queued + queue.wait_ns
        self._leave_class()
        self._become(T_WAITING)
        queue.enter(self, self.lane, again)
        return self._await(A_ROOM, max(0, (self.wait_ends - self.poller.now) // 1000000))

    cdef int on_turn(self) except -1:
        cdef WaitQueue queue
        if self.state != T_WAITING:
            return 0                        # it has left meanwhile
        if self.due:
            self.due = 0
            self.waited += self.poller.now - self.queued
            self.queued = 0
            self._become(T_CALLED)
            if self.attempt.backend is None:
                self._await(A_NONE, FOREVER)
                return self._decide_again()
            return self._admit()
        if self.place == SHED:
            return self._page(503, O_SHED)
        queue = self.attempt.backend.queue
        if queue.called is not self:
            return 0
        queue.turn_taken(self)
        self._become(T_CALLED)
        self._await(A_NONE, FOREVER)
        return self._choose()

    def moved(self, Backend backend):
        """The snapshot has changed during the wait: use the servers of the new one. Returns the lane."""
        backend = backend.like(self.attempt.backend)
        cdef Lanes lanes = backend.queue.lanes
        self.attempt.move(backend)
        self.lane = 0 if lanes is None else lanes.lane_of(self.klass)
        self.qos = None if lanes is None else lanes.klass(self.lane)
        return self.lane

    # ----------------------------------------------------------------------------------------------------------- trying

    cdef int _choose(self) except -1:
        """Pick a server and go to it; repeat while that fails."""
        cdef Attempt attempt = self.attempt
        cdef WaitQueue queue
        cdef int i
        while True:
            queue = attempt.backend.queue
            i = attempt.pick(self.poller.now)
            if i < 0:
                if queue.limit and attempt.backend.members.waiting_helps(&attempt.args.tried):
                    self._say("the request waits for another server")
                    return self._wait(self.state == T_CALLED and self.wait_ends != 0)
                self._say("answered with 502")
                return self._page(502 if attempt.tries else 503, self.outcome or O_NO_SERVER)
            self._say("trying another server")
            if self._go(i, False):
                break
        if queue.count:
            queue.wake(self.poller.now)     # there may be room for several
        return 0

    cdef bint _go(self, int i, bint fresh) except -1:
        """Go to server i of the backend; False: another one must be tried."""
        cdef Attempt attempt = self.attempt
        cdef ServerConn conn, own = None
        if attempt.bound >= 0 or attempt.backend.proxy_version:
            own = self.downstream.own()
            if own is not None and own.introduced is not None and (
                    own.introduced != self.introduction(own.server.proxy_version)):
                own = None              # it was made for another client behind the same trusted proxy
        if self.followed:
            (<Steps>self.steps).server_chosen(self, i)
        conn = attempt.go(i, fresh, own, self.poller, self)
        if self.trace is not None:
            (<Trace>self.trace).begin_try(self)
        if self.qos is not None and not self.in_class:
            self._enter_class()
        if self.queued:
            self.waited += self.poller.now - self.queued
            self.queued = 0
        if conn is None:
            if attempt.turn(attempt.server.error, self.poller.now):
                return self._go(i, True)
            return self._fail(outcome_of_errno(attempt.server.error), attempt.server.error)
        if conn.state == S_CONNECTING:
            self._become(T_CONNECTING)
            self._await(A_CONNECT, attempt.backend.connect_ms)
        else:
            self._send(conn)
        return True

    cdef int on_connected(self, Conn conn) except -1:
        self.attempt.connecting = None
        return self._send(conn)

    cdef int on_connect_failed(self, Conn conn, int error) except -1:
        self.attempt.connecting = None
        if self.attempt.turn(error, self.poller.now):
            if not self._go(self.attempt.chosen, True):
                self._choose()
        elif not self._fail(outcome_of_errno(error), error):
            self._choose()
        return 0

    cdef bytes server_name(self):
        cdef bytes host = self.head.p[self.host.at:self.host.at + self.host.n].lower()
        if host.startswith(b"["):
            return host[1:].partition(b"]")[0]
        return host.partition(b":")[0]

    cdef bytes introduction(self, int version):
        cdef int port = self.downstream.port if self.client is self.downstream.address else 0
        return header(version, (self.client.decode("ascii"), port), address_of(self.downstream.descriptor()))

    cdef int _send(self, object connection) except -1:
        """Send the request over an established connection."""
        cdef ServerConn conn = <ServerConn>connection
        cdef Upstream u = <Upstream>conn.handler
        if u is None:
            u = <Upstream>self.attempt.backend.protocol.open(conn)
        self._become(T_SENT)
        self.upstream = u
        u.begin(self)
        if self.has_body:
            if self.replay.n:
                u.body(self.replay.p, self.replay.n)
                self.poller.settle()        # before more of the body can move the buffer
            if not self.request_done:
                self.server_blocks = 0
                self._body_may_flow()
                self.downstream.resume()
                return self._await_turn()
        self.request_done = 1
        self._end_request(u)
        return self._await(A_SERVER, self.attempt.backend.response_ms)

    cdef bint _fail(self, int outcome, int64_t detail) except -1:
        """The server, or the connection to it, has failed the request: False if another one must be tried."""
        cdef Attempt attempt = self.attempt
        cdef int64_t now = self.poller.now
        cdef bint again, connection_ended = outcome == O_STALE or (outcome == O_STREAM_REFUSED and detail == 0)
        self.detail = detail
        if self.followed:
            (<Steps>self.steps).failed(self, outcome, detail)
        if self.trace is not None:
            (<Trace>self.trace).end_try(self, (<bytes>outcome_row(outcome).name).decode())
        if outcome_row(outcome).side == SIDE_SERVER:
            attempt.count_failure()
            if not connection_ended:        # which says nothing about the server
                attempt.answered(True, now)
        if self.answer_begun():
            # The client has part of a response; only a premature end of the connection shows that the rest is missing.
            self._report(outcome, detail, "the response is truncated")
            self.broken_off = outcome_row(outcome).status
            self.downstream.abort(False)
            self._finish(outcome)
            return True
        again = attempt.backend.retries.after_failure(outcome, detail, self.repeatable, not self.replay_lost,
                                                      attempt.tries)
        if again:
            attempt.cause = cause_of(outcome)
        if again and connection_ended:
            attempt.release(now)
            return self._go(attempt.chosen, True)   # the server closed the connection as the request was sent
        if again and outcome == O_STREAM_REFUSED:
            return self._after_refusal()
        if again:
            self.outcome = outcome          # in case there is no other server
            self.unsaid = 1
            attempt.give_up(now)
            return False
        self._report(outcome, detail, "answered with %d" % outcome_row(outcome).status)
        attempt.release(now)
        self._page(outcome_row(outcome).status, outcome)
        return True

    cdef bint _after_refusal(self) except -1:
        """The server has refused the stream: try another server, or this one again if there is no other; as _fail."""
        cdef Attempt attempt = self.attempt
        cdef int refused = attempt.chosen, i
        attempt.give_up(self.poller.now)
        i = attempt.pick(self.poller.now)
        if i < 0:
            attempt.args.tried.count -= 1
            i = refused
        return self._go(i, False)

    cdef int on_failure(self, int outcome, int64_t detail) except -1:
        """The Upstream has failed, and has closed its connection or stream."""
        self.upstream = None
        if not self._fail(outcome, detail):
            self._choose()
        return 0

    # ----------------------------------------------------------------------------------------------- the request's body

    cdef bint takes_body(self) noexcept:
        """Whether more of the body may be read now: the head has been sent, and the server takes more data."""
        return (self.upstream is not None and (self.state == T_SENT or self.state == T_RESPONDING)
                and self.upstream.takes())

    cdef int on_body(self, const char *p, size_t n) except -1:
        self.bytes_in += n
        if self.content_length < 0 and (
                <int64_t>self.bytes_in > self.frontend.body_bytes
                or (self.body_bytes >= 0 and <int64_t>self.bytes_in > self.body_bytes)):
            return self.refuse(R_BODY_TOO_LARGE)
        self._body_may_flow()
        self.upstream.body(p, n)
        if not self.replay_lost:
            self._keep_body(p, n)
        if self.awaited == A_BODY or self.awaited == A_SERVER:
            self._await_turn()
        return 0

    cdef int on_body_spliced(self, size_t n) except -1:
        """n bytes of the body were spliced to the server."""
        self.bytes_in += n
        self._body_may_flow()
        return self._await_turn()

    cdef void _body_may_flow(self) noexcept:
        """The time for which the body could not be taken does not count against its client."""
        if self.blocked:
            self.body_clock += self.poller.now - self.blocked
            self.blocked = 0

    cdef int _keep_body(self, const char *p, size_t n) except -1:
        """Buffer a piece of the body for a retry; discard the buffer when it becomes too long."""
        if self.replay.n + n > REPLAY:
            self.replay_lost = 1
            self.replay.n = 0
            return 0
        out_append(&self.replay, p, n)
        return 0

    cdef int on_trailers(self, const char *p, size_t n) except -1:
        out_append(&self.trailers, p, n)
        return 0

    cdef int on_request_end(self) except -1:
        self.request_done = 1
        self.attempt.asked = self.poller.now
        self._end_request(self.upstream)
        return self._await_turn()

    cdef int _end_request(self, Upstream upstream) except -1:
        if self.trailers.n:
            self._leave_out_trailers()
        return upstream.end(&self.trailers)

    cdef int _leave_out_trailers(self) except -1:
        """Leave out what clients must not say in a head, since a server may merge trailers into it (RFC 9110 section
        6.5.1): what rules set, and what the gateway tells of the client."""
        cdef set names = {self.downstream.provenance.client_from}
        cdef bytes name, line, kept
        cdef list lines = []
        if self.request_edits is not None:
            names |= self.request_edits.fields()
        names = {name.replace(b"_", b"-") for name in names}
        for line in self.trailers.p[:self.trailers.n].splitlines(keepends=True):
            name = line.partition(b":")[0].lower().replace(b"_", b"-")
            if name not in names and not name.startswith(b"x-client-cert-"):
                lines.append(line)
        kept = b"".join(lines)
        self.trailers.n = 0
        return out_append(&self.trailers, PyBytes_AS_STRING(kept), PyBytes_GET_SIZE(kept))

    cdef int on_body_blocked(self) except -1:
        """The client has more data, which cannot be taken now."""
        if (self.state == T_SENT or self.state == T_RESPONDING) and not self.server_blocks:
            self.server_blocks = 1
            if not self.blocked:
                self.blocked = self.poller.now
            return self._await_turn()
        return 0

    cdef int on_server_ready(self) except -1:
        """The server has taken all data sent to it."""
        self.server_blocks = 0
        if not self.request_done:
            self._body_may_flow()
            self.downstream.resume()
        return self._await_turn()

    # ------------------------------------------------------------------------------------------------------- the answer

    cdef bint takes_answer(self) except -1:
        """Whether more of the response may be read now."""
        if self.downstream.takes():
            return self.bandwidth == 0 or not self._ahead_of_pace()
        if not self.client_blocks:
            self.client_blocks = 1
            self._await_turn()
        return False

    cdef size_t answer_room(self, size_t most) noexcept:
        """Largest number of bytes of the response to read at once."""
        if self.bandwidth == 0:
            return most
        if self.answered and self.qos is not None and self.qos.total_bandwidth:
            return min(most, <size_t>max(<int64_t>PACED, self.turn))
        return min(most, self._piece(self.bandwidth))

    cdef size_t _piece(self, int64_t bandwidth) noexcept:
        """Bytes to send at once, for a bandwidth in bytes per second."""
        return max(<size_t>PACED, <size_t>bandwidth // PIECES)

    cdef void _limit_bandwidth(self, int64_t bandwidth) noexcept:
        """Limit the response to this bandwidth, in bytes per second; 0: no limit."""
        if bandwidth and (self.bandwidth == 0 or bandwidth < self.bandwidth):
            self.bandwidth = bandwidth

    cdef bint _ahead_of_pace(self) except -1:
        """Whether the client has received all that its bandwidth allows by now; a timer resumes reading."""
        cdef int64_t now = self.poller.now
        cdef int64_t due, piece
        if self.pace is not None:
            return True
        if self.answered == 0:
            return False
        due = self.answered + <int64_t>(self.bytes_out * 1e9 / self.bandwidth)
        if self.qos is not None and self.qos.total_bandwidth and self.turn <= 0:
            piece = min(<int64_t>self._piece(self.qos.total_bandwidth // max(1, self.qos.in_flight())), TURN)
            due = max(due, now + self.qos.reserve(piece - self.turn, now))
            self.turn = piece
        if due <= now:
            return False
        self.pace = self.poller.loop.call_later((due - now) * 1e-9, self._pace_over)
        self._await(A_NONE, FOREVER)
        return True

    def _pace_over(self):
        self.pace = None
        if self.upstream is not None:
            self._await_turn()
            self.upstream.resume()
            self.poller.settle()

    cdef int on_reader_ready(self) except -1:
        """The client has taken all data sent to it."""
        self.client_blocks = 0
        if self.upstream is not None:
            self._await_turn()
            self.upstream.resume()
        elif self.tunnel is not None:
            self.tunnel.on_reader_ready()
        return 0

    cdef int on_server_progress(self) except -1:
        """Data has arrived from the server."""
        if self.awaited == A_SERVER or (self.awaited == A_BODY and self.grpc):
            self.deadline(self.attempt.backend.response_ms)
        return 0

    cdef int on_interim(self, const char *p, Head *h) except -1:
        return self.downstream.interim(p, h)

    cdef int on_answer(self, const char *p, Head *h, int framing) except -1:
        """The head of the final response has arrived: pass it on, unless its status requires a retry."""
        cdef Attempt attempt = self.attempt
        cdef Upstream u
        cdef int64_t now = self.poller.now
        cdef int i
        attempt.answered(h.status >= 500, now)
        if self.http2 and self.upgrade.n and h.status < 300:
            # The client would take it for an open tunnel (RFC 8441 section 5).
            u = self.upstream
            self.upstream = None
            u.abort()
            if not self._fail(O_RESPONSE_INVALID, R_NO_SWITCH):
                self._choose()
            return 0
        if attempt.backend.retries.after_status(h.status, self.repeatable and not self.replay_lost, attempt.tries):
            attempt.give_up(now)
            i = attempt.pick(now)
            if i >= 0:
                if self.followed:
                    (<Steps>self.steps).status_retried(self, h.status)
                if self.trace is not None:
                    (<Trace>self.trace).end_try(self, h.status)
                attempt.count_failure()
                attempt.cause = CAUSE_STATUS
                u = self.upstream
                self.upstream = None
                u.abort()
                if not self._go(i, False):
                    self._choose()
                return 0
            attempt.stay()                  # no other server: pass on this response
            attempt.backend.retries.refund()
        self.status = h.status
        self.answered = now
        self._become(T_RESPONDING)
        return self.downstream.head(p, h, framing, self._extra(p, h))

    cdef bytes _extra(self, const char *p, Head *h):
        """Lines to add to the response head; marks its fields that must be left out."""
        cdef Attempt attempt = self.attempt
        cdef bytes extra = self.context.via
        if not h.kinds & (1 << F_DATE) and h.status != 101:
            extra = self.context.via_and_date()     # RFC 9110 section 6.6.1
        if self.edits is not None and h.status != 101:
            self.edits.settle_status(h.status)
            self.edits.leave_out(p, h, False)
            extra = extra + self.edits.added()
        if self.ticket is not None:
            extra = extra + self.ticket
        if self.frontend.hsts is not None and h.status != 101:
            _leave_out_hsts(p, h)           # the server may not know what holds for all names here
            extra = extra + self.frontend.hsts
        if attempt.backend.reads_answers or attempt.backend.moves(attempt.chosen, attempt.belongs, h.status):
            extra += attempt.backend.read_answer(attempt.server, attempt.chosen, attempt.belongs, p, h, self.head.p,
                                                 self.head.n, self.poller.now)
        return extra

    cdef int on_answer_body(self, const char *p, size_t n) except -1:
        self.bytes_out += n
        self.turn -= n
        return self.downstream.body(p, n)

    cdef int on_answer_spliced(self, size_t n) except -1:
        """n bytes of the body were spliced to the client."""
        self.bytes_out += n
        return 0

    cdef int on_answer_trailers(self, const char *p, size_t n) except -1:
        if self.attempt.backend.orca:
            _hear_load(self.attempt.server, p[:n], self.poller.now)
        out_append(&self.response_trailers, p, n)
        return 0

    cdef int on_answer_end(self) except -1:
        """The response is complete, and the Upstream is done with it."""
        self.upstream = None
        self.downstream.end(&self.response_trailers)
        return self._finish(O_OK if self.attempt.tries == 1 else O_RETRIED)

    cdef int on_upgrade(self, const char *p, Head *h, const char *ahead, size_t n) except -1:
        """The server accepts another protocol (RFC 9110 section 7.8): it must be the one that the client requested.

        ahead: bytes after the 101. Returns R_OK, or the reason why it is no valid response; then nothing was done.
        """
        cdef Field *protocol = &h.fields[h.upgrade_field]
        cdef Tunnel tunnel
        cdef Upstream u = self.upstream
        cdef int why = R_OK
        if (protocol.value_len != self.upgrade.n or self.upgrade.n == 0
                or not same_any(p + protocol.value, self.head.p + self.upgrade.at, self.upgrade.n)):
            why = R_NOT_ASKED
        else:
            why = self.downstream.check_upgrade(p, h)
        if why != R_OK:
            return why
        self.attempt.answered(False, self.poller.now)
        self.status = 101
        self.answered = self.poller.now
        self._become(T_TUNNEL)
        self._await(A_NONE, FOREVER)
        tunnel = self.downstream.upgrade(p, h, self._extra(p, h))
        if self.state == T_ENDED:
            return R_OK                     # the client has left meanwhile
        tunnel.work = self
        tunnel.idle_ms = self.attempt.backend.tunnel_ms
        tunnel.second = u.hand_over()
        self.upstream = None
        self.tunnel = tunnel
        tunnel.begin()
        tunnel.give_first(ahead, n)
        if self.state != T_ENDED:
            self.downstream.give_ahead(tunnel)
        return R_OK

    cdef int on_tunnel_end(self, int how) except -1:
        cdef int outcome = O_OK if self.attempt.tries == 1 else O_RETRIED
        if how == END_IDLE:
            outcome = O_TUNNEL_IDLE
        elif how == END_CUT_BY_FIRST:
            outcome = O_TUNNEL_CUT_BY_CLIENT
        elif how == END_CUT_BY_SECOND:
            outcome = O_TUNNEL_CUT_BY_SERVER
        elif how == END_STOPPED:
            outcome = O_STOPPED
        return self._finish(outcome)

    # ---------------------------------------------------------------------------------- the gateway's answers, refusals

    cdef int refuse(self, int reason) except -1:
        """The request is malformed, over a limit or too slow: send the reason, and read no more from this client."""
        cdef int status = status_of(reason)
        cdef int outcome = O_CLIENT_TIMEOUT if reason == R_TIMEOUT else O_REFUSED
        cdef bytes body
        self.detail = reason
        self._let_go()
        if self.answer_begun():
            self.broken_off = status
            self.downstream.abort(False)
            return self._finish(outcome)
        lines, body = self.page_of(status)
        if status not in self.context.custom_pages and (self.pages is None or status not in self.pages):
            body = page(status, sentence_of(reason))
        return self._answer(status, lines, body, outcome, True)

    cdef int _page(self, int status, int outcome) except -1:
        if (outcome_row(outcome).side == SIDE_GATEWAY and not _is_of_one_server(outcome)
                and self.attempt.backend is not None):
            self._report(outcome, 0, "answered with %d" % status)
        lines, body = self.page_of(status)
        return self._answer(status, lines, body, outcome, False)

    cdef tuple page_of(self, int status):
        """Header lines and body of the gateway's own answer."""
        if self.pages is not None and status in self.pages:
            return self.pages[status]
        return self.context.pages[status]

    cdef int _close(self, int status) except -1:
        """Close the client's connection, or its stream, without a response; the log has the status."""
        self.status = status
        self.downstream.abort(True)
        return self._finish(O_ANSWERED)

    cdef int _answer(self, int status, bytes lines, bytes body, int outcome, bint close) except -1:
        """Send a response of the gateway; `lines` are complete header lines. body: None of a call of gRPC alone, whose
        errors have none."""
        self.status = status
        if self.grpc and (outcome != O_ANSWERED or body is None):
            # Trailers-Only; the log has the status that stands for it.
            lines, body = error_lines(status, self.overdue), b""
            status = 200
        if self.method_code != M_HEAD:
            self.bytes_out = len(body)
        if self.ticket is not None:
            lines = lines + self.ticket
        if self.frontend.hsts is not None:
            lines = lines + self.frontend.hsts
        self.downstream.answer(status, b"%sX-Request-ID: %s\r\n" % (lines, self.id[:self.id_n]), body, close)
        return self._finish(outcome)

    cdef int on_client_left(self) except -1:
        """The client's connection or stream has been closed: end its request."""
        if self.tunnel is not None:
            return self.tunnel.end(END_CUT_BY_FIRST)
        if not self.answer_begun():
            self.status = 499
        return self._finish(O_CLIENT_LEFT)

    cdef int on_given_up(self, int outcome) except -1:
        """The gateway ends the request: the worker stops, or has an internal error."""
        if not self.answer_begun():
            self.status = 0             # the client gets no response
        return self._finish(outcome)

    cdef int on_bug(self) except -1:
        if self.downstream is None:
            return 0                        # it has already ended
        self.downstream.abort(True)
        return self.on_given_up(O_BUG)

    # -------------------------------------------------------------------------------------------------------- deadlines

    cdef int _await(self, int what, int64_t ms) except -1:
        self.awaited = what
        self.deadline(ms)
        return 0

    cdef int _await_turn(self) except -1:
        """Wait for the side that must act next."""
        if self.client_blocks:
            return self._await(A_READER, self.frontend.idle_ms)
        if not self.request_done and not self.server_blocks:
            return self._await(A_BODY, self._body_ms())
        return self._await(A_SERVER, self.attempt.backend.response_ms)

    cdef int64_t _body_ms(self) noexcept:
        """How long to wait for more of the body: at most the longest pause, and at most what the lowest rate allows."""
        cdef int64_t ms = self.frontend.idle_ms, due
        if self.grpc:
            return self.attempt.backend.response_ms     # a stream of messages in both directions, at any pace
        if self.frontend.body_rate > 0:
            due = BODY_GRACE_NS + <int64_t>(self.bytes_in * 1e9 / self.frontend.body_rate)
            due = (self.body_clock + due - self.poller.now) // 1000000
            ms = max(0, min(ms, due))
        return ms

    cdef int on_deadline(self) except -1:
        cdef int awaited = self.awaited
        cdef Upstream u
        self.awaited = A_NONE
        if awaited == A_BODY:
            return self.refuse(R_TIMEOUT)
        if awaited == A_READER:
            self.downstream.abort(True)
            return self._finish(O_CLIENT_TIMEOUT)
        if awaited == A_ROOM:
            return self._page(503, O_QUEUE_TIMEOUT)
        if awaited == A_CONNECT:
            self._let_go()
            if not self._fail(O_CONNECT_TIMEOUT, 0):
                self._choose()
        elif awaited == A_SERVER:
            u = self.upstream
            self.upstream = None
            if u is not None:
                u.abort()
            if not self._fail(O_SERVER_TIMEOUT, 0):
                self._choose()
        return 0

    # ---------------------------------------------------------------------------------------------------------- the end

    cdef int _become(self, int state) except -1:
        if not step(&_machine, self.state, state):
            raise RuntimeError(f"a transaction that is {STATES[self.state]} can't become {STATES[state]}")
        if self.followed:
            (<Steps>self.steps).become(self, state)
        self.state = state
        return 0

    cdef bint answer_begun(self) noexcept:
        return self.state == T_RESPONDING or self.state == T_TUNNEL

    cdef int _let_go(self) except -1:
        """Release the server and leave the queue."""
        cdef Upstream u = self.upstream
        cdef ServerConn conn = self.attempt.connecting
        cdef WaitQueue queue
        if u is not None:
            self.upstream = None
            u.abort()
        if conn is not None:
            self.attempt.connecting = None
            conn.close()
        if self.tunnel is not None:
            self.tunnel.abandon()
        if self.state == T_WAITING and self.attempt.backend is None:
            if self.question is not None:
                self._asked_of(self.question).forget(self.question, id(self))
                self.question = None
        elif self.state == T_WAITING:
            if self.delay is not None:
                self.delay.cancel()
                self.delay = None
            queue = self.attempt.backend.queue
            queue.leave(self)
            queue.wake(self.poller.now)
        return 0

    cdef int _finish(self, int outcome) except -1:
        """The request has ended, for whatever reason. Runs exactly once per request."""
        global _live
        cdef int64_t now = self.poller.now
        cdef Downstream downstream = self.downstream
        if self.state == T_ENDED:
            return 0
        self._let_go()
        if self.call_timer is not None:
            self.call_timer.cancel()
            self.call_timer = None
        if self.pace is not None:
            self.pace.cancel()
            self.pace = None
        if self.turn != 0 and self.qos is not None and self.qos.total_bandwidth:
            if self.turn > 0:
                self.qos.give_back(self.turn)
            else:
                self.qos.reserve(-self.turn, now)   # data that was sent with its head
        self._become(T_ENDED)
        _live -= 1
        self.outcome = outcome
        self._await(A_NONE, FOREVER)
        if self.tunnel is not None:
            self.bytes_in += self.tunnel.from_first
            self.bytes_out += self.tunnel.from_second
        self.attempt.release(now)
        self._leave_class()
        if self.queued:
            self.waited += now - self.queued
            self.queued = 0
        self._record(now)
        self.downstream = None
        self.tunnel = None
        self.next_ended = self.poller.ended
        self.poller.ended = self
        return downstream.over()

    cdef int _record(self, int64_t now) except -1:
        """Count the request: for its server, for its frontend by the total time, for its backend by the time until the
        response; and write its log line."""
        cdef Attempt attempt = self.attempt
        cdef Server server = attempt.server
        cdef CountRow *row
        cdef Passed passed
        cdef int64_t end = self.answered if self.status == 101 else now  # the length of a tunnel is no measure of speed
        passed.status = self.status
        passed.outcome = self.outcome
        passed.tries = attempt.tries
        passed.took = end - self.started
        passed.waited = self.waited
        passed.over = self.over
        passed.bytes_in = self.bytes_in
        passed.bytes_out = self.bytes_out
        record(self.frontend.gauge.row, &passed)
        if self.qos is not None:
            record(self.context.board.traffic(self.qos.traffic, self.context.worker), &passed)
        if attempt.backend is not None:
            passed.took = (self.answered or now) - self.started
            record(self.context.board.traffic(attempt.backend.traffic, self.context.worker), &passed)
        if server is not None:
            row = self.context.board.count(server.slot, server.worker)
            row.requests += 1
            row.failures += self.status >= 500 and (self.outcome == O_OK or self.outcome == O_RETRIED)
            row.busy_seconds += (now - attempt.picked) * 1e-9
            row.bytes_in += self.bytes_in
            row.bytes_out += self.bytes_out
        if self.context.log is not None:
            (<AccessLog>self.context.log).add(self, now)
        if self.context.tails is not None:
            (<Tails>self.context.tails).take(self, now)
        if self.trace is not None:
            (<Trace>self.trace).end(self, now)
            self.trace = None
        return 0

    cdef int _report(self, int outcome, int64_t detail, str what) except -1:
        """Log why a server or the gateway failed a request; for similar failures one line in ten seconds."""
        cdef Server server = self.attempt.server
        cdef bint of_server = _is_of_one_server(outcome)
        cdef dict said = server.said if of_server else _said.setdefault(self.attempt.backend.name, {})
        cdef int64_t last
        last, more = said.get(outcome, (0, 0))
        if last and self.poller.now - last < LOG_PERIOD_NS:
            said[outcome] = (last, more + 1)
            return 0
        said[outcome] = (self.poller.now, 0)
        name, _, meaning = OUTCOMES[outcome]
        where = self.attempt.backend.name
        if of_server:
            where = f"{server.backend}/{server.name} ({address_text(server.address)}{self._called(server)})"
        log.warning(
            "%s: %s: %s%s; %s %s: %s%s [request %s]",
            where, name, (meaning[0].lower() + meaning[1:]).removesuffix("."),
            detail_text(outcome, detail, self.bytes_out),
            self.head.p[self.method.at:self.method.at + self.method.n].decode("latin-1"),
            shown(self.head.p[self.target.at:self.target.at + min(self.target.n, 200)]), what,
            f" ({more} similar ones since)" if more else "", self.id[:self.id_n].decode("latin-1"),
        )
        return 0

    cdef str _called(self, Server server):
        """By what other name the server is spoken to in TLS."""
        if not isinstance(server, TlsServer):
            return ""
        called = (<TlsServer>server).called
        if called is None:
            called = shown(self.server_name())
        return f" as {called}" if called else " in TLS"

    cdef int _say(self, str what) except -1:
        """Log what happens to the request after the failed try."""
        if self.unsaid:
            self.unsaid = 0
            self._report(self.outcome, self.detail, what)
        return 0

    cdef int put_back(self) except -1:
        """End without a record, after a decision for `explain` or `test`."""
        global _live
        _live -= 1
        self.state = T_ENDED
        self.downstream = None
        return self.recycle()

    cdef int recycle(self) except -1:
        global _spare, _spares
        self.attempt.reset()
        self.edits = None
        if self.pages is not None:
            self.pages = None
        if self.followed:
            self.followed = 0
            self.steps = None
        self.klass = None
        self.user = None
        self.settled = None
        self.request_edits = None
        self.charged = 0
        self.qos = None
        self.frontend = None
        if (_spares < KEPT and self.head.capacity <= LARGE and self.upstream_head.capacity <= LARGE
                and self.replay.capacity <= LARGE and self.trailers.capacity <= LARGE
                and self.response_trailers.capacity <= LARGE):
            self.next_spare = _spare
            _spare = self
            _spares += 1
        else:
            self.drop_slot()
        return 0


cdef bint _is_of_one_server(int outcome) noexcept nogil:
    """Whether the log says about which server it is."""
    return (outcome_row(outcome).side == SIDE_SERVER or outcome == O_NO_DESCRIPTOR
            or outcome == O_WEBSOCKET_NOT_SPOKEN)


def address_of(int descriptor):
    """The (host, port) that a client has connected to; ("", 0): it is a Unix socket."""
    sock = socket.socket(fileno=descriptor)
    try:
        where = sock.getsockname()
    finally:
        sock.detach()
    return (where[0].partition("%")[0], where[1]) if isinstance(where, tuple) else ("", 0)


def shown(bytes text):
    """Text from a client, with control bytes and non-ASCII bytes replaced."""
    return printable(text.decode("ascii", "backslashreplace"))


def detail_text(int outcome, int64_t detail, uint64_t passed):
    """Details beyond the outcome: the rule that a response violates, the kernel's error, how much is missing."""
    if outcome == O_RESPONSE_INVALID and detail:
        return f" ({sentence_of(detail)})"
    if outcome == O_RESPONSE_CUT:
        return f" (after {passed} of {passed + detail} bytes)" if detail >= 0 else f" (after {passed} bytes)"
    if outcome in (O_STREAM_RESET, O_STREAM_REFUSED):
        return f" ({HTTP2_ERRORS[detail] if detail < len(HTTP2_ERRORS) else detail})" if detail else ""
    if outcome == O_WEBSOCKET_NOT_SPOKEN:
        return ""
    if detail < 0:
        return f" ({text_of(-detail)})"
    if detail:
        return f" ({_errno.errorcode.get(detail, detail)})"
    return ""


cdef Transaction new_transaction(WorkerContext context):
    """A transaction in the ended state: call `begin`."""
    global _spare, _spares
    cdef Transaction t = _spare
    if t is None or t.poller is not context.poller:
        t = Transaction()
        t.take_slot(context.poller)
    else:
        _spare = t.next_spare
        t.next_spare = None
        _spares -= 1
    t.context = context
    return t


cdef int _hear_load(Server server, bytes trailers, int64_t now) except -1:
    """The load that a server reports in its trailers, as gRPC does (ORCA, gRFC A51); clients do not get it."""
    cdef double found
    for line in trailers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() in (b"endpoint-load-metrics", b"endpoint-load-metrics-bin"):
            load = orca_load(value)
            if load is not None:
                found = load
                server.board.hear(server.slot, server.worker, found, now)
    return 0


cdef int _leave_out_hsts(const char *p, Head *h) noexcept:
    """Mark the server's own Strict-Transport-Security: clients take the first of several (RFC 6797 section 8.1)."""
    cdef int i
    for i in range(h.count):
        if h.fields[i].name_len == 25 and same_any(p + h.fields[i].name, b"strict-transport-security", 25):
            h.fields[i].drop = True
    return 0
