"""The gateway that the fuzzer of connections drives: one worker's data plane in this process, without its processes.

It is made once: an input gets a fresh Plan, cleared rows of the board and the entrance of its variant. This module is
the only one that knows how the data plane is put together.
"""

import logging
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

import gateway.proxy.plan
from gateway.board import Board
from gateway.config.loader import Loaded, load
from gateway.config.snapshot import Snapshot
from gateway.proxy.http2_client import withdraw
from gateway.proxy.listener import Listener, announce_drain, retire_clients
from gateway.proxy.loop import EventLoop
from gateway.proxy.plan import Plan
from gateway.proxy.worker_context import WorkerContext
from gateway.reports import Traffic
from gateway.secrets.vault import Secrets
from gateway.wire.pages import pages
from tests.support.certificates import Authority
from tests.support.waiting import free_port

SERVERS = 3
OWN = b"a gateway's own key, of 32 bytes"
"""Servers that there are; a site works with two of them, and another two after a reload."""
FORMS = ([0, 1], [1, 2], [0, 1, 2])
"""Servers that the site works with, in each form of its file."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind of site."""

    name: str
    tls: bool = False
    http2: bool = False
    """In all forms of its file but the last."""
    h2: bool = False
    """Servers are spoken to in HTTP/2."""
    secure: bool = False
    """Servers are spoken to over TLS."""
    proxied: bool = False
    unix: bool = False
    queue: bool = False
    retried: tuple[int, ...] = ()
    affinity: bool = False
    attempts: int = 2
    most: int | None = None
    """Requests in flight that a server takes."""
    header_bytes: int = 32 * 1024
    body_bytes: int = 1 << 30
    connections: int = 10000
    per_source: int = 200

    def site(
        self, addresses: list[str], members: list[int], listen: str, certificate: dict[str, str]
    ) -> dict[str, Any]:
        """Return the site file with these servers."""
        servers = []
        for number in members:
            server: dict[str, Any] = {"name": f"s{number}", "address": addresses[number]}
            if self.most is not None:
                server["max_connections"] = self.most
            servers.append(server)
        backend: dict[str, Any] = {
            "balance": "round-robin",
            "servers": servers,
            "retries": {"attempts": self.attempts, "on": ["connect", "reset", *self.retried], "budget": "100%"},
        }
        if self.h2:
            backend["h2"] = True
        if self.secure:
            backend["tls"] = {"ca": certificate["ca"], "server_name": "localhost"}
        if self.queue:
            backend["queue"] = {"limit": 3, "timeout": "5s"}
        if self.affinity:
            backend["affinity"] = {"cookie": "SRV", "key_file": certificate["key"]}
        frontend: dict[str, Any] = {
            "name": "front",
            "listen": listen,
            "limits": {
                "header_bytes": self.header_bytes,
                "url_bytes": min(self.header_bytes, 16 * 1024),
                "body_bytes": self.body_bytes,
                "connections": self.connections,
                "connections_per_source": self.per_source,
            },
        }
        frontend["http2"] = self.http2 and members != FORMS[-1]
        if self.tls:
            frontend["tls"] = {"certificates": [{name: certificate[name] for name in ("cert", "key")}]}
        if self.proxied:
            frontend["proxy_protocol"] = True
            frontend["trusted_proxies"] = ["127.0.0.0/8"]
        return {
            "workers": 1,
            "node": "gw",
            "access_log": "-",
            "frontends": [frontend],
            "backends": {"app": backend},
        }


VARIANTS = (
    Variant("plain"),
    Variant("queue", queue=True, most=1),
    Variant("retries", retried=(503,), attempts=3),
    Variant("affinity", affinity=True, most=2),
    Variant("tls", tls=True, queue=True, most=1),
    Variant("proxy", proxied=True, queue=True, most=1),
    Variant("limits", header_bytes=2048, body_bytes=50_000, connections=4, per_source=3, attempts=0),
    Variant("unix", unix=True, queue=True, most=2, retried=(503,)),
    Variant("tls+proxy", tls=True, proxied=True),
    Variant("h2", http2=True),
    Variant("h2+queue", http2=True, queue=True, most=2, retried=(503,)),
    Variant("h2+tls", http2=True, tls=True, affinity=True),
    Variant("to-h2", h2=True),
    Variant("h2-to-h2", http2=True, h2=True, retried=(503,)),
    Variant("to-h2+queue", h2=True, queue=True, most=2, affinity=True, unix=True),
    Variant("h2-to-h2+limits", http2=True, h2=True, body_bytes=50_000, attempts=0, most=40),
    Variant("to-tls", secure=True),
    Variant("tls-to-tls", tls=True, secure=True, queue=True, most=2, retried=(503,)),
    Variant("to-h2-tls", secure=True, h2=True),
    Variant("h2-to-h2-tls", http2=True, tls=True, secure=True, h2=True, retried=(503,)),
)


def _server_contexts(authority: Authority) -> dict[tuple[bool, int], ssl.SSLContext]:
    """What servers speak TLS by: in HTTP/2 or not, the newest version or (the second server) TLS 1.2."""
    made, pair = {}, authority.issue("localhost")
    for h2 in (False, True):
        for number in range(SERVERS):
            context = made[h2, number] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.cert, pair.key)
            context.set_alpn_protocols(["h2" if h2 else "http/1.1"])
            if number == 1:
                context.maximum_version = ssl.TLSVersion.TLSv1_2
    return made


class Clock(EventLoop):
    """A worker's loop, whose time the driver moves."""

    def __init__(self) -> None:
        self.skipped = 0.0
        super().__init__()

    def time(self) -> float:
        return time.monotonic() + self.skipped

    def turn(self) -> None:
        """Run what is due."""
        self.call_soon(self.stop)
        self.run_forever()


class Errors(logging.Handler):
    """What the gateway logs as a fault of its own, and exceptions that nothing caught."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.found: list[str] = []
        self.format = logging.Formatter().format  # type: ignore[method-assign]

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.CRITICAL:
            self.found.append(self.format(record))

    def unraisable(self, what: Any) -> None:
        """Take an exception that Python could not raise."""
        self.found.append(f"unraisable: {what.exc_value!r} in {what.object!r}")


class Site:
    """Entrances, servers' addresses and the data plane between them."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._directory = tempfile.TemporaryDirectory(prefix="fuzz")
        directory = Path(self._directory.name)
        self._authority: Authority | None = None
        self.errors = Errors()
        logging.getLogger("gateway").addHandler(self.errors)
        logging.getLogger("gateway").propagate = False
        sys.unraisablehook = self.errors.unraisable
        self.paths = [str(directory / f"{number}.sock") for number in range(SERVERS)]
        self.ports = [free_port() for _ in range(SERVERS)]
        self.sockets: dict[str, socket.socket] = {}
        self._loaded: dict[str, tuple[Loaded, ...]] = {}
        self._secrets: dict[str, tuple[Secrets, ...]] = {}
        self._snapshots: dict[tuple[int | str, ...], Snapshot] = {}
        self.snapshot: Snapshot
        self._null = os.open(os.devnull, os.O_WRONLY)
        self._open()

    def _prepare(self, variant: Variant) -> None:
        """Open the entrance of a variant, and read its site files."""
        directory = Path(self._directory.name)
        certificate: dict[str, str] = {}
        if variant.tls or variant.affinity or variant.secure:
            if self._authority is None:
                self._authority = Authority(directory)
                self.client_context = self._authority.client_context()
                self.client_context_http2 = self._authority.client_context()
                self.client_context_http2.set_alpn_protocols(["h2"])
                self.server_contexts = _server_contexts(self._authority)
            certificate = {**self._authority.issue("localhost").as_site(), "ca": str(self._authority.ca)}
        sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # as gateway/supervisor/sockets.py: accepted ones inherit it
        sock.settimeout(0)
        self.sockets[variant.name] = sock
        addresses = [f"unix:{self.paths[n]}" if variant.unix else f"127.0.0.1:{self.ports[n]}" for n in range(SERVERS)]
        forms = []
        for members in FORMS:
            path = directory / f"{variant.name}-{members}.yaml"
            listen = f"127.0.0.1:{sock.getsockname()[1]}"
            path.write_text(yaml.safe_dump(variant.site(addresses, members, listen, certificate)))
            forms.append(load(path))
        self._loaded[variant.name] = tuple(forms)
        self._secrets[variant.name] = tuple(replace(Secrets.read(form), own=OWN) for form in forms)

    def _open(self) -> None:
        self.loop = Clock()
        self.poller = self.loop.poller
        self.board = Board()
        self.board.set_pulse(0, 1.0)
        self.listener: Listener | None = None

    def renew(self) -> None:
        """Begin anew after a fault: what it left behind must not disturb the next input."""
        if self.listener is not None:
            self.listener.stop()
        self.poller.stop()
        self.loop.close()
        self.errors.found.clear()
        for sock in self.sockets.values():
            while True:
                try:
                    sock.accept()[0].close()
                except BlockingIOError:
                    break
        self._open()

    def begin(self, variant: Variant) -> None:
        """Be the gateway of this variant, as after its start."""
        self.errors.found.clear()  # other tests of this process may have logged some
        if variant.name not in self._loaded:
            self._prepare(variant)
        self._history: tuple[int | str, ...] = (variant.name,)
        self._work_by(0)
        for slot in range(8):
            self.board.clear_server(slot)
        for row in range(4):
            self.board.clear_traffic(row)
        self.context = WorkerContext(self.poller, self.board, 0)
        self.plan = Plan(self.context, writes=True)
        with _settled():
            self.plan.apply(self.snapshot, self.secrets, 1, self._null)
        (self._listen,) = self.plan.frontends
        self.socket = self.sockets[variant.name]
        self.listener = Listener(self.context, self.plan.frontends[self._listen], self.socket)

    def _work_by(self, form: int) -> None:
        """Take the snapshot that follows: which server has which row depends on those before."""
        loaded = self._loaded[str(self._history[0])][form]
        self.secrets = self._secrets[str(self._history[0])][form]
        self._history = (*self._history, form)
        self.form = form
        known = self._snapshots.get(self._history)
        if known is None:
            known = Snapshot.first(loaded) if len(self._history) == 2 else self.snapshot.next(loaded)
            if len(self._snapshots) < 2000:
                self._snapshots[self._history] = known
        self.snapshot = known

    def reload(self, form: int) -> None:
        """Work by another form of the site file: 0 to 2."""
        self._work_by(form)
        with _settled():
            self.plan.apply(self.snapshot, self.secrets, 1, self._null)
        assert self.listener is not None
        self.listener.frontend = self.plan.frontends[self._listen]
        if not self.offers_http2:
            withdraw(self.poller, last=False)

    def stop_accepting(self) -> None:
        """Accept what waits, and nothing more."""
        if self.listener is not None:
            self.listener.accept_waiting()
            self.listener.stop()
            self.listener = None

    def drain(self) -> None:
        """Begin to stop, as a worker does on SIGTERM."""
        self.context.draining = True
        self.stop_accepting()
        announce_drain(self.poller)
        for server in self.plan.servers.values():
            server.retire()

    def retire(self) -> int:
        """Tell clients that the worker drains; return how many are left."""
        return retire_clients(self.poller)

    def skip(self, ms: int) -> None:
        """Let so many ms pass."""
        if not self.offers_http2:
            withdraw(self.poller, last=True)
        self.poller.skip(ms)
        self.loop.skipped += ms / 1000
        self.loop.turn()

    def end(self) -> None:
        """Take the entrance away; connections must be gone."""
        self.stop_accepting()
        if self.context.log is not None:
            self.context.log.close()
            self.context.log = None
        for server in self.plan.servers.values():
            server.retire()

    @property
    def offers_http2(self) -> bool:
        """Whether the entrance speaks HTTP/2."""
        return bool(self.plan.frontends[self._listen].offers_http2)

    @property
    def members(self) -> list[int]:
        """The numbers of the servers that the site works with."""
        return FORMS[self.form]

    @property
    def in_flight(self) -> dict[str, int]:
        """Requests in flight by server."""
        return {f"{key[1]}": self.board.in_flight(slot) for key, slot in self.snapshot.slots.items()}

    def passed_through(self) -> Traffic:
        """Return the frontend's row of the board."""
        return self.board.passed_through(self.snapshot.traffic["frontend", "front"])


class _Draws:
    randbits = staticmethod(lambda _: 1)


PAGES = pages({})


@contextmanager
def _settled() -> Iterator[None]:
    """Let an input run the same way each time, and soon: policies draw from a seed, and pages are made once."""
    plan: Any = gateway.proxy.plan
    before = plan.secrets, plan.pages
    plan.secrets, plan.pages = _Draws, lambda _: PAGES
    try:
        yield
    finally:
        plan.secrets, plan.pages = before
