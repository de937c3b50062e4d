from libc.stdint cimport int64_t, uint8_t
from gateway.board cimport Board, TrafficRow
from gateway.proxy.conn cimport Conn, Handler, Poller
from gateway.proxy.admission cimport Admission
from gateway.proxy.session_gate cimport SessionGate
from gateway.proxy.tls cimport ServerContext
from gateway.rules.routes cimport RouteTable
from gateway.rules.view cimport View
from gateway.wire.head cimport Bounds
from gateway.wire.request_id cimport RequestIds
from qos.sessions cimport SessionTable

cdef class ClientProtocol:
    """How the clients of a frontend speak: makes the handler for a connection that was accepted."""
    cdef Handler open(self, Conn conn, WorkerContext context)

cdef class Gauge:
    """What passes through a frontend in this worker; lives on over reloads."""
    cdef Board board
    cdef TrafficRow *row
    cdef int64_t said                   # when somebody was last turned away aloud, in ns

cdef class Frontend:
    """How to treat the clients of one entrance."""
    cdef readonly str name
    cdef bytes log_name
    cdef Bounds bounds
    cdef int64_t body_bytes
    cdef int64_t header_ms
    cdef int64_t idle_ms
    cdef double body_rate               # bytes per second; 0: any
    cdef int connections                # in this worker
    cdef int connections_per_source     # in all workers
    cdef bint proxy_protocol
    cdef readonly int accept            # of wire/target.pxd: what of paths is taken as harmless
    cdef readonly Gauge gauge
    cdef ServerContext tls              # or None
    cdef readonly ClientProtocol protocol   # how its clients speak
    cdef object trusted                 # networks, or None
    cdef readonly bytes client_from     # see wire/origin.pyx
    cdef bint trusts_unix               # who connects to a Unix socket, and so has no address

    cpdef bint trusts(self, str address) except -1

cdef class WorkerContext:
    """What all connections of a worker share: the current snapshot in compiled form, the log, the mood."""
    cdef readonly Poller poller
    cdef readonly Board board
    cdef readonly int worker
    cdef public RouteTable routes
    cdef readonly View view             # of the request that is being routed
    cdef public bytes via               # a complete header line
    cdef public dict pages              # status -> (header lines, body)
    cdef public frozenset custom_pages  # statuses whose page is the site's own
    cdef public tuple learned           # names of cookies that servers set and affinity marks
    cdef public object log              # log.AccessLog, or None
    cdef readonly Admission admission
    cdef readonly SessionTable sessions     # of all workers, or None
    cdef public dict classes            # QosClass by name; None: there are none
    cdef public SessionGate gate        # or None: every client is let in
    cdef public bint admits             # there is something to ask admission for
    cdef RequestIds ids
    cdef int clients                    # connections of clients
    cdef readonly int most_clients      # that there is room for: each may need a second descriptor, for a server
    cdef public bint draining
    cdef int64_t date_due               # until when date_line holds, monotonic, in ns
    cdef bytes date_line
    cdef bytes dated_via                # `via` and `date_line`; made of `dated_of`
    cdef bytes dated_of

    cdef bytes date(self)
    cdef bytes via_and_date(self)
