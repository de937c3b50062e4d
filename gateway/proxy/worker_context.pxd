from libc.stdint cimport int64_t, uint8_t
from gateway.board cimport Board, TrafficRow
from gateway.proxy.conn cimport Conn, Handler, Poller
from gateway.proxy.admission cimport Admission
from gateway.proxy.session_gate cimport SessionGate
from gateway.rules.routes cimport RouteTable
from gateway.rules.view cimport View
from gateway.wire.head cimport Bounds
from gateway.wire.request_id cimport RequestIds
from qos.rates cimport Rate
from qos.sessions cimport SessionTable

cdef class ClientProtocol:
    """The protocol of a frontend's clients: creates the handler for an accepted connection."""
    cdef Handler open(self, Conn conn, WorkerContext context)

cdef class Gauge:
    """Counts connections of a frontend in this worker; reloads keep it."""
    cdef Board board
    cdef TrafficRow *row
    cdef int64_t said                   # when a refused client was last logged, in ns

cdef class Frontend:
    """The settings of a frontend."""
    cdef readonly str name
    cdef bytes log_name
    cdef Bounds bounds
    cdef int64_t body_bytes
    cdef int64_t header_ms
    cdef int64_t idle_ms
    cdef double body_rate               # bytes per second; 0: no limit
    cdef int connections                # in this worker
    cdef int connections_per_source     # in all workers
    cdef bint proxy_protocol
    cdef readonly int accept            # of wire/target.pxd: path syntax that is accepted
    cdef readonly Gauge gauge
    cdef object tls                     # tls.ServerContext, or None
    cdef Rate handshake_rate            # of one source; interval 0: no limit
    cdef bytes handshake_key            # 16 bytes, for the hash of sources
    cdef bytes hsts                     # a complete header line for responses, or None
    cdef readonly bint guards           # clients' fields about certificates are removed
    cdef readonly ClientProtocol protocol   # protocol of its clients
    cdef readonly bint offers_http2
    cdef object trusted                 # networks, or None
    cdef readonly bytes client_from     # see wire/origin.pyx
    cdef bint trusts_unix               # clients of a Unix socket, which have no address, are trusted

    cpdef bint trusts(self, str address) except -1

cdef class WorkerContext:
    """The state that all connections of a worker share: the current snapshot in compiled form, the log, counters."""
    cdef readonly Poller poller
    cdef readonly Board board
    cdef readonly int worker
    cdef public RouteTable routes
    cdef readonly View view             # of the request being routed
    cdef public bytes via               # a complete header line
    cdef public dict pages              # status -> (header lines, body)
    cdef public frozenset custom_pages  # statuses with a page from the site file
    cdef public tuple learned           # names of cookies that servers set and affinity marks
    cdef public object log              # log.AccessLog, or None
    cdef public object tails            # tail.Tails, while an operator follows requests, or None
    cdef public object tracing          # tracing.Tracing, where the site has it, or None
    cdef public tuple routes_at         # file and line of each route
    cdef readonly Admission admission
    cdef readonly SessionTable sessions     # shared by all workers, or None
    cdef public dict classes            # QosClass by name; None: there are none
    cdef public SessionGate gate        # or None: every client is admitted
    cdef public object passwords        # password_checks.PasswordChecks
    cdef public object programs         # program_questions.ProgramQuestions
    cdef public object challenges       # challenges.Challenges, where a certificate authority asks for proofs, or None
    cdef public bint admits             # whether any request needs admission
    cdef RequestIds ids
    cdef int clients                    # connections of clients
    cdef readonly int most_clients      # limit: each may need a second descriptor, for a server
    cdef public bint draining
    cdef int64_t date_due               # until when date_line is valid, monotonic, in ns
    cdef bytes date_line
    cdef bytes dated_via                # `via` and `date_line`; made of `dated_of`
    cdef bytes dated_of

    cdef bytes date(self)
    cdef bytes via_and_date(self)
