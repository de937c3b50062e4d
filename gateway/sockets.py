"""Every socket that the supervisor opens for its children: listening for clients, for reports and for operators."""

import errno
import socket
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from itertools import chain, islice
from typing import Final

from gateway.board import WORKERS
from gateway.config import Site
from gateway.config.model import Listen

BACKLOG: Final = 4096
FEW: Final = 64
"""Clients that may wait where operators ask."""
ADMIN: Final = "admin"
"""The one socket of control that is not UDP."""


class StartError(Exception):
    """The gateway can't start; the text says why and what to do."""


Place = tuple[Listen, socket.socket]
"""A socket with the address it was opened for."""


class Sockets:
    """Every listening socket: at least one per worker and address, and those of control by their names: "reports" of
    load agents, reports of other "sites" (both UDP), and "admin".

    Closing one of an address resets the connections that wait in it, and a client may always come between the last
    accept and the close. So those of an address that stays are never closed: when there are fewer workers, some
    accept from several, until there are more again.
    """

    def __init__(
        self,
        workers: dict[int, list[Place]] | None = None,
        control: dict[str, Place] | None = None,
    ) -> None:
        self.workers = workers or {}
        self.control = control or {}

    def adapt(self, site: Site, leaving: AbstractSet[int] = frozenset()) -> "Sockets":
        """The sockets for `site`: what is open is kept and shared out anew, what is missing is opened.

        `leaving` are numbers of workers that still finish requests; until they have, nobody else gets them.
        Raises StartError; `self` stays as it is.
        """
        wanted = tuple(listen for frontend in site.frontends for listen in frontend.listen)
        fresh = Sockets()
        opened: list[socket.socket] = []
        try:
            known = {listen for listen, _ in next(iter(self.workers.values()), ())}
            for listen in wanted:
                if listen not in known:
                    _probe(listen)
            numbers = self._numbers(site.workers, leaving)
            fresh.workers = {number: [] for number in numbers}
            for listen in wanted:
                shares = {number: self._of(number, listen) for number in numbers}
                spare = [sock for number in self.workers if number not in shares for sock in self._of(number, listen)]
                missing = len(numbers) - len(spare) - sum(map(len, shares.values()))
                for _ in range(missing):
                    opened.append(_listen(listen))
                    spare.append(opened[-1])
                _share_out(spare, shares.values())
                for number, share in shares.items():
                    fresh.workers[number] += [(listen, sock) for sock in share]
            for name, listen in _of_control(site).items():
                place = self.control.get(name)
                if place is None or place[0] != listen:
                    place = listen, _listen_alone(listen) if name == ADMIN else _bind(listen, socket.SOCK_DGRAM)
                    opened.append(place[1])
                fresh.control[name] = place
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

    def _of(self, number: int, listen: Listen) -> list[socket.socket]:
        return [sock for place, sock in self.workers.get(number, ()) if place == listen]

    def close_except(self, kept: "Sockets") -> None:
        """Close what `kept` does not have."""
        keep = {id(sock) for places in kept.workers.values() for _, sock in places}
        for places in self.workers.values():
            for _, sock in places:
                if id(sock) not in keep:
                    sock.close()
        for name, (_, sock) in self.control.items():
            if name not in kept.control or kept.control[name][1] is not sock:
                sock.close()


def _of_control(site: Site) -> dict[str, Listen]:
    """Where control listens, by the names of the sockets."""
    found = {
        "reports": site.load_reports.listen if site.load_reports is not None else None,
        "sites": site.sites.listen if site.sites is not None else None,
        ADMIN: site.admin.listen,
    }
    return {name: listen for name, listen in found.items() if listen is not None}


def _listen_alone(listen: Listen) -> socket.socket:
    """A socket for few clients."""
    sock = _bind(listen, socket.SOCK_STREAM)
    sock.listen(FEW)
    return sock


def _share_out(spare: Iterable[socket.socket], shares: Collection[list[socket.socket]]) -> None:
    """Make the shares as even as they can be, moving as little as possible: each socket gets as many clients."""
    for sock in spare:
        min(shares, key=len).append(sock)
    while len(most := max(shares, key=len)) > len(least := min(shares, key=len)) + 1:
        least.append(most.pop())


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
