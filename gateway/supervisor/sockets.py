"""Every socket that the supervisor opens for its children, by role, name and process."""

import errno
import logging
import socket
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, TypeAlias

from gateway.config import Loaded
from gateway.config.model import Listen
from gateway.process.child import Place
from gateway.supervisor import unix_socket
from gateway.supervisor.roles import ROLES, Role, SocketPlan
from gateway.supervisor.unix_socket import FileId, Occupied

log = logging.getLogger(__name__)

_FREEBIND: Final = 15

Group: TypeAlias = dict[int, list[Place]]
"""Sockets of one name by the number of the process that has them."""


class StartError(Exception):
    """The gateway can't start; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A socket, and the process that has it."""

    role: str
    name: str
    number: int
    place: Place


class Sockets:
    """The sockets of all roles: `groups` by role and name. `numbers` are those of the processes of each role.

    They are opened by the supervisor so that they are root's, where it is root: with SO_REUSEPORT any process of the
    same user could share an address, and with SO_REUSEADDR any could take what comes to a UDP port (socket(7)).

    Closing one of several on an address resets the connections that wait in it, and a client may always come between
    the last accept and the close. So those of an address that stays are never closed: when there are fewer processes,
    some accept from several, until there are more again.

    A Unix socket is one for all processes, each with a descriptor of its own. Its file is removed with its address, and
    only by its owner: `files` has those that this process made or took over, by their paths.
    """

    def __init__(self, groups: Mapping[str, Mapping[str, Group]] | None = None) -> None:
        self.groups: dict[tuple[str, str], Group] = {
            (role, name): group for role, names in (groups or {}).items() for name, group in names.items()
        }
        self.numbers: dict[str, list[int]] = defaultdict(list)
        for (role, _), group in self.groups.items():
            self.numbers[role] = sorted({*self.numbers[role], *group})
        self.files: dict[str, FileId] = {}
        self.modes: dict[str, int] = {}
        """Permissions of Unix sockets, by their paths."""

    def __iter__(self) -> Iterator[Opened]:
        for (role, name), group in self.groups.items():
            for number, places in group.items():
                for place in places:
                    yield Opened(role, name, number, place)

    def of(self, role: Role, number: int) -> dict[str, list[Place]]:
        """The sockets of a process, by name."""
        return {
            name: group[number] for (owner, name), group in self.groups.items() if owner == role.name if number in group
        }

    def adapt(self, loaded: Loaded, leaving: Mapping[str, AbstractSet[int]] | None = None) -> "Sockets":
        """The sockets for a site file: open sockets are kept and redistributed, missing ones are opened.

        `leaving` are numbers of processes, by role, that still finish requests; until they have, no other gets them.
        Raises StartError; `self` stays as it is.
        """
        fresh = Sockets()
        opened: list[socket.socket] = []
        plans = {(role.name, name): plan for role in ROLES for name, plan in role.sockets(loaded.site).items()}
        for plan in plans.values():
            fresh.modes.update(plan.modes)
        try:
            for key, plan in plans.items():
                self._probe_new(self.groups.get(key, {}), plan)
            self._number(fresh, loaded, leaving or {})
            for key, plan in plans.items():
                fresh.groups[key] = self._adapted(key, plan, fresh, opened)
        except StartError:
            for path in fresh.files.keys() - self.files.keys():
                _remove(path, fresh.files[path])
            for sock in opened:
                sock.close()
            raise
        fresh.change_modes()
        return fresh

    def _number(self, fresh: "Sockets", loaded: Loaded, leaving: Mapping[str, AbstractSet[int]]) -> None:
        """The numbers in use, lowest first, then new ones. A cell of the Board has one process at a time."""
        for role in ROLES:
            alike = [other.name for other in ROLES if other.traffic] if role.traffic else [role.name]
            taken = {n for name in alike for n in (*self.numbers[name], *fresh.numbers[name], *leaving.get(name, ()))}
            free = (n for n in range(role.most) if n not in taken)
            count = role.instances(loaded)
            numbers = list(islice(chain(sorted(self.numbers[role.name]), free), count))
            if len(numbers) < count:
                finishing = len(leaving.get(role.name, ()))
                raise StartError(f"{finishing} processes still finish their requests; reload when they have")
            fresh.numbers[role.name] = numbers

    def _adapted(self, key: tuple[str, str], plan: SocketPlan, fresh: "Sockets", opened: list[socket.socket]) -> Group:
        """The sockets of one name; the new ones are added to `opened`."""
        before, numbers = self.groups.get(key, {}), fresh.numbers[key[0]]
        group: Group = {number: [] for number in numbers}
        for listen in plan.listens:
            if not numbers:
                break
            if listen.path:
                shares = self._shared(before, listen, plan, fresh, numbers, opened)
            elif plan.spread:
                shares = _spread(before, listen, plan, numbers, opened)
            else:
                kept = [sock for number in before for sock in _on(before, number, listen, plan)][:1]
                if not kept:
                    kept.append(_open(listen, plan))
                    opened += kept
                shares = {numbers[0]: kept}
            for number, share in shares.items():
                group[number] += [(listen, sock) for sock in share]
        return group

    def _probe_new(self, before: Group, plan: SocketPlan) -> None:
        """Make sure that no other program has a new address: SO_REUSEPORT would share it without a word."""
        known = {listen for listen, _ in next(iter(before.values()), ())}
        for listen in plan.listens:
            if plan.spread and listen not in known and not listen.path:
                _open(listen, plan, shared=False).close()

    def _shared(
        self,
        before: Group,
        listen: Listen,
        plan: SocketPlan,
        fresh: "Sockets",
        numbers: Collection[int],
        opened: list[socket.socket],
    ) -> dict[int, list[socket.socket]]:
        """A descriptor of the Unix socket `listen` for each process; the new ones are added to `opened`."""
        path = listen.path
        shares = {number: _on(before, number, listen, plan) for number in numbers}
        source = next(chain.from_iterable(_on(before, number, listen, plan) for number in before), None)
        if path in self.files:
            fresh.files[path] = self.files[path]
        if source is None:
            source = _listen_at(listen, plan)
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
        paths = {each.place[0].path for each in self}
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

    def close_except(self, kept: "Sockets") -> None:
        """Close what `kept` does not have."""
        for path, file in self.files.items():
            if kept.files.get(path) != file:
                _remove(path, file)
        keep = {id(each.place[1]) for each in kept}
        for each in self:
            if id(each.place[1]) not in keep:
                each.place[1].close()

    def close_others(self, role: Role, number: int) -> None:
        """Close what is not for this process."""
        for each in self:
            if (each.role, each.number) != (role.name, number):
                each.place[1].close()


def _on(group: Group, number: int, listen: Listen, plan: SocketPlan) -> list[socket.socket]:
    """What a process has open on an address."""
    return [sock for place, sock in group.get(number, ()) if place == listen and sock.type == plan.kind]


def _spread(
    before: Group, listen: Listen, plan: SocketPlan, numbers: Collection[int], opened: list[socket.socket]
) -> dict[int, list[socket.socket]]:
    """At least one socket on `listen` for each of these processes; the new ones are added to `opened`."""
    shares = {number: _on(before, number, listen, plan) for number in numbers}
    spare = [sock for number in before if number not in shares for sock in _on(before, number, listen, plan)]
    missing = len(numbers) - len(spare) - sum(map(len, shares.values()))
    for _ in range(missing):
        opened.append(_open(listen, plan, shared=True))
        spare.append(opened[-1])
    _share_out(spare, shares.values())
    return shares


def _share_out(spare: Iterable[socket.socket], shares: Collection[list[socket.socket]]) -> None:
    """Make the shares as even as they can be, moving as little as possible: each socket gets as many clients."""
    for sock in spare:
        min(shares, key=len).append(sock)
    while len(most := max(shares, key=len)) > len(least := min(shares, key=len)) + 1:
        least.append(most.pop())


def _open(listen: Listen, plan: SocketPlan, *, shared: bool = False) -> socket.socket:
    """A socket on an address, `shared` with others of this user. Raises StartError."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    sock = socket.socket(family, plan.kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if plan.kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listen.host in plan.later:
            sock.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((listen.host, listen.port))
        if plan.kind == socket.SOCK_STREAM:
            sock.listen(plan.backlog)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {listen}: {_why(error)}") from None
    return sock


def _listen_at(listen: Listen, plan: SocketPlan) -> socket.socket:
    """A Unix socket for all processes."""
    try:
        return unix_socket.listen(listen.path, plan.modes[listen.path], plan.backlog)
    except Occupied as error:
        raise StartError(f"cannot listen on {listen}: {error}") from None
    except OSError as error:
        raise StartError(f"cannot listen on {listen}: {(error.strerror or str(error)).lower()}") from None


def _remove(path: str, file: FileId) -> None:
    try:
        unix_socket.remove(path, file)
    except OSError as error:
        log.error("cannot remove unix:%s: %s", path, error.strerror)


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program is using it (see `ss -ltunp`)"
    if error.errno == errno.EACCES:
        return "ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    return (error.strerror or str(error)).lower()
