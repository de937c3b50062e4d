from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from gateway.board import Board
from gateway.proxy.challenges import Challenges
from gateway.proxy.conn import Poller
from gateway.proxy.log import AccessLog
from gateway.proxy.password_checks import PasswordChecks
from gateway.proxy.program_questions import ProgramQuestions
from gateway.proxy.qos_class import QosClass
from gateway.proxy.session_gate import SessionGate
from gateway.proxy.tail import Tails
from gateway.proxy.tls import ServerContext
from gateway.proxy.tracing import Tracing
from gateway.rules.routes import RouteTable
from gateway.rules.view import View
from qos.rates import RateTable
from qos.sessions import SessionTable

class Admission:
    rates: RateTable

class ClientProtocol: ...

class Gauge:
    def __init__(self, board: Board, traffic: int, worker: int) -> None: ...

class Frontend:
    name: str
    gauge: Gauge
    offers_http2: bool
    def __init__(
        self,
        name: str,
        *,
        header_bytes: int,
        url_bytes: int,
        header_count: int,
        body_bytes: int,
        header_timeout: float,
        idle_timeout: float,
        body_rate: float,
        connections: int,
        connections_per_source: int,
        proxy_protocol: bool,
        merge_slashes: bool,
        encoded_slashes: bool,
        path_parameters: bool,
        tls: ServerContext | None,
        trusted: Iterable[IPv4Network | IPv6Network | str],
        client_from: str,
        gauge: Gauge,
        protocol: ClientProtocol,
        guards: bool = False,
        handshakes_per_source: float = 0,
        secret: bytes = b"",
        hsts: str = "",
        http2: bool = False,
    ) -> None: ...

class WorkerContext:
    poller: Poller
    board: Board
    worker: int
    routes: RouteTable
    view: View
    via: bytes
    pages: dict[int, tuple[bytes, bytes]]
    custom_pages: frozenset[int]
    learned: tuple[bytes, ...]
    log: AccessLog | None
    tails: Tails | None
    tracing: Tracing | None
    routes_at: tuple[str, ...]
    draining: bool
    admission: Admission
    classes: dict[str, QosClass] | None
    gate: SessionGate | None
    sessions: SessionTable | None
    passwords: PasswordChecks
    programs: ProgramQuestions
    challenges: Challenges | None
    admits: bool
    most_clients: int
    def __init__(
        self,
        poller: Poller,
        board: Board,
        worker: int,
        rates: RateTable | None = None,
        sessions: SessionTable | None = None,
    ) -> None: ...
