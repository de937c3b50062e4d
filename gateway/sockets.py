"""Every socket that the supervisor opens for its children: listening for clients, and for load reports."""

import errno
import socket
from collections.abc import Set as AbstractSet
from itertools import chain, islice
from typing import Final

from gateway.board import WORKERS
from gateway.config import Site
from gateway.config.model import Listen

BACKLOG: Final = 4096


class StartError(Exception):
    """The gateway can't start; the text says why and what to do."""


class Sockets:
    """Every listening socket: one per worker and address, and one for load reports."""

    def __init__(
        self,
        workers: dict[int, dict[Listen, socket.socket]] | None = None,
        reports: tuple[Listen, socket.socket] | None = None,
    ) -> None:
        self.workers = workers or {}
        self.reports: socket.socket | None = None
        self._reports_listen: Listen | None = None
        if reports is not None:
            self._reports_listen, self.reports = reports

    @property
    def reports_place(self) -> tuple[Listen, socket.socket] | None:
        """The socket for load reports with its address."""
        if self._reports_listen is None or self.reports is None:
            return None
        return self._reports_listen, self.reports

    def adapt(self, site: Site, leaving: AbstractSet[int] = frozenset()) -> "Sockets":
        """The sockets for `site`: what is open is kept, the rest is opened.

        `leaving` are numbers of workers that still finish requests; until they have, nobody else gets them.
        Raises StartError; `self` stays as it is.
        """
        wanted = tuple(listen for frontend in site.frontends for listen in frontend.listen)
        fresh = Sockets()
        opened: list[socket.socket] = []
        try:
            known = next(iter(self.workers.values()), {})
            for listen in wanted:
                if listen not in known:
                    _probe(listen)
            for number in self._numbers(site.workers, leaving):
                have = self.workers.get(number, {})
                fresh.workers[number] = {}
                for listen in wanted:
                    if listen not in have:
                        opened.append(_listen(listen))
                    fresh.workers[number][listen] = have[listen] if listen in have else opened[-1]
            if site.load_reports is not None:
                fresh._reports_listen = site.load_reports.listen
                if fresh._reports_listen == self._reports_listen:
                    fresh.reports = self.reports
                else:
                    fresh.reports = _bind(site.load_reports.listen, socket.SOCK_DGRAM)
        except StartError:
            for sock in opened:
                sock.close()
            raise
        return fresh

    def _numbers(self, count: int, leaving: AbstractSet[int]) -> list[int]:
        """The numbers in use, lowest first, then new ones: a cell of the Board has one worker at a time."""
        free = (n for n in range(WORKERS) if n not in self.workers and n not in leaving)
        numbers = list(islice(chain(sorted(self.workers), free), count))
        if len(numbers) < count:
            raise StartError(f"{len(leaving)} workers still finish their requests; reload when they have")
        return numbers

    def close_except(self, kept: "Sockets") -> None:
        """Close what `kept` does not have."""
        keep = {id(sock) for sockets in kept.workers.values() for sock in sockets.values()}
        for sockets in self.workers.values():
            for sock in sockets.values():
                if id(sock) not in keep:
                    sock.close()
        if self.reports is not None and self.reports is not kept.reports:
            self.reports.close()


def _bind(listen: Listen, kind: socket.SocketKind, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((listen.host, listen.port))
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {listen}: {_why(error)}") from None
    return sock


def _listen(listen: Listen) -> socket.socket:
    """One of several sockets on the same address; the kernel spreads clients over them (socket(7))."""
    sock = _bind(listen, socket.SOCK_STREAM, shared=True)
    sock.listen(BACKLOG)
    return sock


def _probe(listen: Listen) -> None:
    """Make sure that nobody else listens there: SO_REUSEPORT would share with another gateway without a word."""
    with _bind(listen, socket.SOCK_STREAM) as sock:
        sock.listen(1)


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program is using it (see `ss -ltnp`)"
    if error.errno == errno.EACCES:
        return "ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    return (error.strerror or str(error)).lower()
