"""Every socket that the supervisor opens for its children: listening for clients, for reports and for operators."""

import errno
import logging
import socket
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain, islice
from typing import Final

from gateway.board import WORKERS
from gateway.config import Site
from gateway.config.model import Listen
from gateway.supervisor import unix_socket
from gateway.supervisor.unix_socket import FileId, Occupied

log = logging.getLogger(__name__)

BACKLOG: Final = 4096
FEW: Final = 64
"""Clients that may wait where operators ask."""
ADMIN: Final = "admin"
"""The one socket of control that is not UDP."""
HINTS: Final = "hints"
_FREEBIND: Final = 15


class StartError(Exception):
    """The gateway can't start; the text says why and what to do."""


Place = tuple[Listen, socket.socket]
"""A socket with the address it was opened for."""


class Sockets:
    """Every listening socket: at least one per worker and address, and those of control by their names: "reports" of
    load agents, reports of other "sites" and "hints" of this cluster's gateways (all UDP), and "admin".

    Those are opened by the supervisor so that they are root's, where it is root: with SO_REUSEPORT any process of the
    same user could share an address, and with SO_REUSEADDR any could take what comes to a UDP port (socket(7)).

    Closing one of an address resets the connections that wait in it, and a client may always come between the last
    accept and the close. So those of an address that stays are never closed: when there are fewer workers, some
    accept from several, until there are more again.

    A Unix socket is one for all workers, each with a descriptor of its own. Its file is removed with its address, and
    only by its owner: `files` has those that this process made or took over, by their paths.
    """

    def __init__(
        self,
        workers: dict[int, list[Place]] | None = None,
        control: dict[str, Place] | None = None,
    ) -> None:
        self.workers = workers or {}
        self.control = control or {}
        self.files: dict[str, FileId] = {}
        self.modes: dict[str, int] = {}
        """Permissions of Unix sockets, by their paths."""

    def adapt(self, site: Site, leaving: AbstractSet[int] = frozenset()) -> "Sockets":
        """The sockets for `site`: what is open is kept and shared out anew, what is missing is opened.

        `leaving` are numbers of workers that still finish requests; until they have, nobody else gets them.
        Raises StartError; `self` stays as it is.
        """
        wanted = tuple(listen for frontend in site.frontends for listen in frontend.listen)
        fresh = Sockets()
        fresh.modes = {
            listen.path: frontend.socket_mode
            for frontend in site.frontends
            for listen in frontend.listen
            if listen.path
        }
        opened: list[socket.socket] = []
        try:
            known = {listen for listen, _ in next(iter(self.workers.values()), ())}
            for listen in wanted:
                if listen not in known and not listen.path:
                    _probe(listen)
            numbers = self._numbers(site.workers, leaving)
            fresh.workers = {number: [] for number in numbers}
            for listen in wanted:
                shares = self._shared(listen, fresh, opened) if listen.path else self._spread(listen, numbers, opened)
                for number, share in shares.items():
                    fresh.workers[number] += [(listen, sock) for sock in share]
            for name, listen in _of_control(site).items():
                place = self.control.get(name)
                if place is None or place[0] != listen:
                    place = listen, _open(name, listen)
                    opened.append(place[1])
                fresh.control[name] = place
        except StartError:
            for path in fresh.files.keys() - self.files.keys():
                _remove(path, fresh.files[path])
            for sock in opened:
                sock.close()
            raise
        fresh.change_modes()
        return fresh

    def _spread(
        self, listen: Listen, numbers: Collection[int], opened: list[socket.socket]
    ) -> dict[int, list[socket.socket]]:
        """At least one socket on `listen` for each of these workers; the new ones are added to `opened`."""
        shares = {number: self._of(number, listen) for number in numbers}
        spare = [sock for number in self.workers if number not in shares for sock in self._of(number, listen)]
        missing = len(numbers) - len(spare) - sum(map(len, shares.values()))
        for _ in range(missing):
            opened.append(_listen(listen))
            spare.append(opened[-1])
        _share_out(spare, shares.values())
        return shares

    def _shared(self, listen: Listen, fresh: "Sockets", opened: list[socket.socket]) -> dict[int, list[socket.socket]]:
        """A descriptor of the Unix socket `listen` for each worker of `fresh`; the new ones are added to `opened`."""
        path = listen.path
        shares = {number: self._of(number, listen) for number in fresh.workers}
        source = next(chain.from_iterable(self._of(number, listen) for number in self.workers), None)
        if path in self.files:
            fresh.files[path] = self.files[path]
        if source is None:
            source = _listen_at(listen, fresh.modes[path])
            opened.append(source)
            next(iter(shares.values())).append(source)
            file = unix_socket.file_of(path)
            if file is not None:
                fresh.files[path] = file
        for share in shares.values():
            if not share:
                opened.append(source.dup())
                share.append(opened[-1])
        return shares

    def take_over(self, files: Mapping[str, FileId]) -> None:
        """See to the files of Unix sockets that a predecessor left: those of addresses that went are removed."""
        paths = {listen.path for places in self.workers.values() for listen, _ in places}
        for path, file in files.items():
            if path not in paths:
                _remove(path, file)
            else:
                self.files.setdefault(path, file)
        self.change_modes()

    def leave_files(self) -> None:
        """Remove no file of a Unix socket any more: a successor does."""
        self.files.clear()

    def change_modes(self) -> None:
        """Give the files of Unix sockets the permissions that the site says."""
        for path, file in self.files.items():
            try:
                unix_socket.change_mode(path, file, self.modes[path])
            except OSError as error:
                log.error("cannot change the permissions of unix:%s: %s", path, error.strerror)

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
        for path, file in self.files.items():
            if kept.files.get(path) != file:
                _remove(path, file)
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
        HINTS: _of_hints(site),
        ADMIN: site.admin.listen,
    }
    return {name: listen for name, listen in found.items() if listen is not None}


def _of_hints(site: Site) -> Listen | None:
    """Where this node hears the other gateways' hints."""
    cluster = site.cluster
    return None if cluster is None or cluster.listen is None else Listen(cluster.nodes[site.node], cluster.listen)


def _open(name: str, listen: Listen) -> socket.socket:
    """A socket of control. Raises StartError."""
    if name == ADMIN:
        return _listen_alone(listen)
    return _bind(listen, socket.SOCK_DGRAM, absent=name == HINTS)


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


def _bind(listen: Listen, kind: socket.SocketKind, *, shared: bool = False, absent: bool = False) -> socket.socket:
    """A socket on `listen`: `shared` with others of this user, or even if this machine has the address later only.

    Raises StartError.
    """
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if absent:
            sock.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
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


def _listen_at(listen: Listen, mode: int) -> socket.socket:
    """A Unix socket for all workers."""
    try:
        return unix_socket.listen(listen.path, mode, BACKLOG)
    except Occupied as error:
        raise StartError(f"cannot listen on {listen}: {error}") from None
    except OSError as error:
        raise StartError(f"cannot listen on {listen}: {(error.strerror or str(error)).lower()}") from None


def _remove(path: str, file: FileId) -> None:
    try:
        unix_socket.remove(path, file)
    except OSError as error:
        log.error("cannot remove unix:%s: %s", path, error.strerror)


def _probe(listen: Listen) -> None:
    """Make sure that nobody else listens there: SO_REUSEPORT would share with another gateway without a word."""
    with _bind(listen, socket.SOCK_STREAM) as sock:
        sock.listen(1)


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program is using it (see `ss -ltunp`)"
    if error.errno == errno.EACCES:
        return "ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    return (error.strerror or str(error)).lower()
