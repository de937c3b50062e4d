"""The state that all connections of a worker share."""

import ipaddress
import os
import resource
import time
from hashlib import blake2b
from math import ceil

from gateway.wire.request_id cimport start_ids
from gateway.wire.target cimport A_MERGE, A_PARAMETERS, A_SLASH

from qos.rates cimport rate_of

from gateway.config.address import UNIX
from gateway.proxy.password_checks import PasswordChecks
from gateway.proxy.program_questions import ProgramQuestions

from qos.rates import RateTable

cdef enum:
    OWN_DESCRIPTORS = 64        # descriptors of a worker other than connections
    ALONE = 64 * 1024           # bytes of a table of rates that is not shared with other workers


cdef class ClientProtocol:
    cdef Handler open(self, Conn conn, WorkerContext context):
        """Create the handler of a client's connection (listener.ClientConn)."""
        raise NotImplementedError


cdef class Gauge:
    def __init__(self, Board board, int traffic, int worker):
        """traffic: the frontend's row of the Board."""
        self.board = board
        self.row = board.traffic(traffic, worker)


cdef class Frontend:
    """Limits (bytes, seconds), TLS context and trusted networks of a frontend."""

    def __init__(self, str name, *, int header_bytes, int url_bytes, int header_count, int64_t body_bytes,
                 double header_timeout, double idle_timeout, double body_rate, int connections,
                 int connections_per_source, bint proxy_protocol, bint merge_slashes, bint encoded_slashes,
                 bint path_parameters, tls, trusted, str client_from, Gauge gauge, ClientProtocol protocol,
                 bint guards=False, double handshakes_per_source=0, bytes secret=b"", str hsts="", bint http2=False):
        """secret: of the table in which handshakes are counted. hsts: value of Strict-Transport-Security."""
        self.name = name
        self.log_name = name.encode()
        self.bounds.head = header_bytes
        self.bounds.target = url_bytes
        self.bounds.fields = header_count
        self.body_bytes = body_bytes
        self.header_ms = max(1, round(header_timeout * 1000))
        self.idle_ms = max(1, round(idle_timeout * 1000))
        self.body_rate = body_rate
        self.connections = connections
        self.connections_per_source = connections_per_source
        self.proxy_protocol = proxy_protocol
        self.accept = ((A_MERGE if merge_slashes else 0) | (A_SLASH if encoded_slashes else 0)
                       | (A_PARAMETERS if path_parameters else 0))
        self.gauge = gauge
        self.tls = tls
        self.guards = guards
        if handshakes_per_source:
            self.handshake_rate = rate_of(handshakes_per_source, ceil(handshakes_per_source))
            self.handshake_key = blake2b(b"handshakes " + self.log_name, key=secret, digest_size=16).digest()
        self.hsts = f"Strict-Transport-Security: {hsts}\r\n".encode() if hsts else None
        self.protocol = protocol
        self.offers_http2 = http2
        self.client_from = client_from.lower().encode()
        self.trusts_unix = UNIX in trusted
        self.trusted = tuple([network for network in trusted if network != UNIX]) or None

    cpdef bint trusts(self, str address) except -1:
        """Whether a peer's statements about the origin of a request are trusted."""
        if not address:
            return self.trusts_unix
        if self.trusted is None:
            return False
        parsed = ipaddress.ip_address(address)
        for network in self.trusted:
            if parsed in network:
                return True
        return False


cdef class WorkerContext:
    """rates: the qos.rates.RateTable that all workers share; None: a private one. sessions: the shared SessionTable, or
    None.
    """

    def __init__(self, Poller poller, Board board, int worker, rates=None, SessionTable sessions=None):
        self.poller = poller
        self.board = board
        self.worker = worker
        self.view = View()
        self.admission = Admission(RateTable(bytearray(ALONE), os.urandom(16)) if rates is None else rates)
        self.sessions = sessions
        self.passwords = PasswordChecks(poller.loop)
        self.programs = ProgramQuestions(poller.loop, None)
        start_ids(&self.ids)
        self.most_clients = max(8, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN_DESCRIPTORS) // 2)
        self.custom_pages = frozenset()
        self.learned = ()

    cdef bytes date(self):
        """A Date line for responses of the gateway itself (RFC 9110 section 6.6.1)."""
        cdef int64_t wall
        if self.poller.now >= self.date_due:
            wall = time.time_ns()
            self.date_due = self.poller.now + 1_000_000_000 - wall % 1_000_000_000
            moment = time.gmtime(wall // 1_000_000_000)
            self.date_line = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", moment).encode()
            self.dated_of = None
        return self.date_line

    cdef bytes via_and_date(self):
        """`via`, and a Date line for a response that has none."""
        cdef bytes line = self.date()
        if self.dated_of is not self.via:
            self.dated_via = self.via + line
            self.dated_of = self.via
        return self.dated_via
