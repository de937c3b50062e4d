"""The interface between a Transaction, its Downstream (a client) and its Upstream (a server).

A protocol towards clients is a subclass of Downstream, a protocol towards servers a subclass of Upstream. Both own
bytes and sockets, and do not know routes, servers, retries or logs; the Transaction knows those, and no sockets.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from gateway.proxy.attempt cimport Attempt
from gateway.proxy.backend cimport Backend
from gateway.proxy.conn cimport Conn, Handler, Work
from gateway.proxy.worker_context cimport Frontend, WorkerContext
from gateway.proxy.openssl cimport SSL
from gateway.proxy.qos_class cimport QosClass
from gateway.proxy.server cimport Server, ServerConn
from gateway.proxy.tunnel cimport Tunnel
from gateway.rules.question cimport Question
from gateway.rules.view cimport Edits
from gateway.wire.edit cimport Out
from gateway.wire.head cimport Head
from gateway.wire.origin cimport Provenance
from gateway.wire.request_id cimport ID_MAX

# The states of a transaction; their edges are in the table of transaction.pyx.
cdef enum State:
    T_NEW = 0               # being decided on
    T_WAITING               # in a WaitQueue
    T_CALLED                # its turn has come
    T_CONNECTING            # to a server
    T_SENT                  # the request is being sent, or the server has it; no final response yet
    T_RESPONDING            # the response head has been passed on
    T_TUNNEL                # after a 101: a Tunnel uses the connections
    T_ENDED
    T_STATES

# The event that the transaction waits for, which determines what an expired deadline means.
cdef enum Awaited:
    A_NONE = 0
    A_BODY                  # more of the request's body
    A_READER                # the client, to take more of the response
    A_ROOM                  # room at a server
    A_CONNECT
    A_SERVER                # to take more of the request, or to respond

cdef struct Span:
    uint32_t at             # offset in `head`
    uint32_t n

cdef class Downstream(Handler):
    """A request's client: the interface for the transaction."""
    cdef Transaction transaction        # None between requests
    cdef Provenance provenance          # properties of the client's connection
    cdef bytes address                  # the client's, as text; empty: it has none
    cdef uint16_t port                  # the client's; 0: none
    cdef uint32_t room                  # bytes of a response to read at a time; set by `takes`

    cdef int interim(self, const char *p, Head *h) except -1
    cdef int head(self, const char *p, Head *h, int framing, bytes extra) except -1
    cdef int body(self, const char *p, size_t n) except -1
    cdef int end(self, Out *trailers) except -1
    cdef int answer(self, int status, bytes lines, bytes body, bint close) except -1
    cdef bint takes(self) noexcept
    cdef int resume(self) except -1
    cdef int abort(self, bint at_once) except -1
    cdef int over(self) except -1
    cdef Conn splice_target(self)
    cdef int check_upgrade(self, const char *p, Head *h) except -1
    cdef Tunnel upgrade(self, const char *p, Head *h, bytes extra)
    cdef int give_ahead(self, Tunnel tunnel) except -1
    cdef SSL *tls_state(self) noexcept
    cdef int descriptor(self) noexcept
    cdef ServerConn own(self)
    cdef int keep(self, ServerConn conn, int64_t ms) except -1

cdef class Upstream(Handler):
    """A request's server: the interface for the transaction."""
    cdef Transaction transaction        # None between requests

    cdef int begin(self, Transaction t) except -1
    cdef int body(self, const char *p, size_t n) except -1
    cdef int end(self, Out *trailers) except -1
    cdef bint takes(self) noexcept
    cdef int resume(self) except -1
    cdef int abort(self) except -1
    cdef Conn splice_target(self)
    cdef Conn hand_over(self)

cdef class Transaction(Work):
    """One request, from the last byte of its head to its record in the log."""
    cdef uint8_t state
    cdef uint8_t awaited
    cdef WorkerContext context
    cdef Frontend frontend
    cdef Downstream downstream          # None once it has ended
    cdef Upstream upstream              # the current server, or None
    cdef Tunnel tunnel
    cdef readonly Attempt attempt
    # the request
    cdef char[ID_MAX] id                # its id: received or generated
    cdef uint32_t id_n
    cdef Out head                       # as received
    cdef Out upstream_head              # for the server; kept for a retry
    cdef Out replay                     # the body as sent so far, while it is short enough to be sent again
    cdef Out trailers                   # as received
    cdef Edits request_edits            # what rules change in the head, or None
    cdef Span method
    cdef Span target
    cdef Span host
    cdef Span user_agent
    cdef Span referer
    cdef Span upgrade                   # the protocol that the client wants to upgrade to; empty: none
    cdef uint8_t method_code
    cdef uint8_t minor                  # of HTTP/1.minor
    cdef uint8_t http2
    cdef uint8_t https
    cdef uint8_t grpc                   # it is a call of gRPC, by a client that can take its status
    cdef uint8_t overdue                # the deadline of the call has passed
    cdef uint16_t broken_off            # the HTTP status that stands for why the response is broken off
    cdef object call_timer              # of that deadline, or None
    cdef uint8_t has_body
    cdef uint8_t binds                  # its credentials authenticate the connection it is sent over
    cdef bytes client                   # address as text, of the peer or as reported by trusted proxies; empty: none
    cdef int64_t content_length         # of the request; -1: none given
    cdef uint8_t request_done           # the whole request has been received
    cdef uint8_t repeatable             # its method may be repeated
    cdef uint8_t replay_lost            # body bytes that are not in `replay` were sent to a server
    cdef uint8_t server_blocks          # the server has not taken earlier data
    cdef uint8_t client_blocks          # the client has not taken earlier data
    cdef int64_t body_clock             # when the body would have begun if the server had never blocked it, in ns
    cdef int64_t blocked                # since when the server blocks, in ns
    # the response
    cdef Out response_trailers
    cdef Edits edits                    # of its head, or None
    cdef dict pages                     # status -> (header lines, body): pages of its routes; None: none
    # the record
    cdef uint16_t status                # of the response; 0: none yet
    cdef uint8_t outcome                # outcome.pxd
    cdef uint8_t unsaid                 # a try has failed, and this has not been logged yet
    cdef int64_t detail                 # a Reason, an errno or a number of missing bytes, by outcome
    cdef str klass                      # the class set by rules, or None
    cdef int64_t body_bytes             # largest body, as routes require; -1: as the frontend has it
    cdef bytes user                     # that has logged in by basic_auth; None: none
    cdef Question question              # that its decision waits for; None: it does not
    cdef dict settled                   # the answers to such questions, by key; None: there are none
    cdef uint32_t charged               # limits of routes that have counted it before such a question
    cdef bytes rule                     # the rule that responded, if a file has several
    cdef bytes why                      # and why it did; or None
    cdef QosClass qos                   # limits of that class, or None
    cdef uint8_t session                # Admitted of qos/sessions.pxd, plus 1; 0: it needs no session
    cdef bytes ticket                   # a Set-Cookie line with its session's ticket, or None
    cdef uint8_t in_class               # counted among its class's requests at servers
    cdef uint8_t over                   # over a limit with dry_run
    cdef uint8_t due                    # its delay by a rate limit is over
    cdef object delay                   # the timer of the delay, or None
    cdef int64_t bandwidth              # bytes per second of the response body; 0: no limit
    cdef int64_t turn                   # bytes of its class's total bandwidth that it may send; negative: overdrawn
    cdef object pace                    # the timer until which reading is paused, or None
    cdef int64_t started                # monotonic, in ns
    cdef int64_t answered               # when the head of the server's response arrived
    cdef int lane                       # the lane in which it waits for room
    cdef int64_t queued                 # when it last began to wait for a server, in ns
    cdef int64_t wait_ends              # until when it waits, in ns
    cdef int64_t waited                 # total wait for servers so far, in ns
    cdef uint64_t bytes_in              # body bytes from the client
    cdef uint64_t bytes_out             # body bytes to the client
    cdef uint8_t chosen_by              # a bit for each tail whose expression it matches
    cdef uint8_t followed               # an operator follows its steps
    cdef object steps                   # tail.Steps if so
    cdef object trace                   # tracing.Trace where the site has tracing, or None
    cdef Transaction next_spare

    # called by the Downstream
    cdef int begin(self, Downstream downstream, Frontend frontend, const char *p, Head *h) except -1
    cdef int start(self, const char *p, Head *h) except -1
    cdef int _begin_call(self, const char *p, Head *h) except -1
    cdef bint takes_body(self) noexcept
    cdef int on_body(self, const char *p, size_t n) except -1
    cdef int on_body_spliced(self, size_t n) except -1
    cdef int on_trailers(self, const char *p, size_t n) except -1
    cdef int _end_request(self, Upstream upstream) except -1
    cdef int _leave_out_trailers(self) except -1
    cdef int on_request_end(self) except -1
    cdef int on_body_blocked(self) except -1
    cdef int on_reader_ready(self) except -1
    cdef int on_client_left(self) except -1
    cdef int on_given_up(self, int outcome) except -1
    cdef int refuse(self, int reason) except -1
    # called by the Upstream
    cdef bint takes_answer(self) except -1
    cdef size_t answer_room(self, size_t most) noexcept
    cdef int on_interim(self, const char *p, Head *h) except -1
    cdef int on_answer(self, const char *p, Head *h, int framing) except -1
    cdef int on_answer_body(self, const char *p, size_t n) except -1
    cdef int on_answer_spliced(self, size_t n) except -1
    cdef int on_answer_trailers(self, const char *p, size_t n) except -1
    cdef int on_answer_end(self) except -1
    cdef int on_upgrade(self, const char *p, Head *h, const char *ahead, size_t n) except -1
    cdef int on_server_progress(self) except -1
    cdef int on_server_ready(self) except -1
    cdef int on_failure(self, int outcome, int64_t detail) except -1

    cdef int put_back(self) except -1
    cdef int begin_nameless(self, Downstream downstream, Frontend frontend, bint https) except -1
    cdef int _carry_out(self, const char *p, Head *h) except -1
    cdef int _ask(self, Question question) except -1
    cdef int _decide_again(self) except -1
    cdef int prepare(self, const char *p, Head *h) except -1
    cdef tuple page_of(self, int status)
    cdef int _close(self, int status) except -1
    cdef int _choose_for_tails(self, const char *p, Head *h) except -1
    cdef int _begin_trace(self, const char *p, Head *h) except -1
    cdef void _take_id(self, const char *p, Head *h, Provenance provenance) noexcept
    cdef int _reset(self, Downstream downstream, Frontend frontend, int64_t now) except -1
    cdef int _become(self, int state) except -1
    cdef int _await(self, int what, int64_t ms) except -1
    cdef int _await_turn(self) except -1
    cdef bint _may_go_on(self, bint patient) except -1
    cdef bint _has_session(self) except -1
    cdef int _delay(self, int64_t ns) except -1
    cdef int _admit(self) except -1
    cdef void _enter_class(self) noexcept
    cdef void _leave_class(self) noexcept
    cdef int _choose(self) except -1
    cdef int _wait(self, bint again) except -1
    cdef bint _ahead_of_pace(self) except -1
    cdef size_t _piece(self, int64_t bandwidth) noexcept
    cdef void _limit_bandwidth(self, int64_t bandwidth) noexcept
    cdef bint _go(self, int i, bint fresh) except -1
    cdef int64_t _body_ms(self) noexcept
    cdef void _body_may_flow(self) noexcept
    cdef int _keep_body(self, const char *p, size_t n) except -1
    cdef int _report(self, int outcome, int64_t detail, str what) except -1
    cdef str _called(self, Server server)
    cdef int _say(self, str what) except -1
    cdef int _send(self, object conn) except -1
    cdef bint _fail(self, int outcome, int64_t detail) except -1
    cdef bint _after_refusal(self) except -1
    cdef int _let_go(self) except -1
    cdef bint answer_begun(self) noexcept
    cdef int _page(self, int status, int outcome) except -1
    cdef int _answer(self, int status, bytes lines, bytes body, int outcome, bint close) except -1
    cdef bytes _extra(self, const char *p, Head *h)
    cdef int _finish(self, int outcome) except -1
    cdef int _record(self, int64_t now) except -1

cdef Transaction new_transaction(WorkerContext context)
