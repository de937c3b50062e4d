"""The listener for operators in the control process: metrics, probes, the API and the page.

Changes go to the supervisor, or to the heartbeat process, as the commands that these obey anyway.
"""

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from gateway.admin import page, report_json
from gateway.admin.access import Access
from gateway.admin.api import ORDER_SECONDS, ROOT, Api, Refused, wanted
from gateway.admin.server import AdminServer, Answer, Asked, BadRequest, Endpoint
from gateway.admin.tls import context
from gateway.config.snapshot import Snapshot
from gateway.control.checks import Pairs
from gateway.control.operations_report import OperationsReport
from gateway.process.channel import Answered, Command
from gateway.process.tail import Wanted
from gateway.process.tail_limits import PACKET
from gateway.reports import GatewayReport, HeartbeatReport
from gateway.system import process_socket
from loadagent.printable import printable_values

INTERVAL: Final = 1.0
"""Seconds from one event to the next."""
MAX_ORDERS: Final = 8
"""Commands under way."""


class Orders:
    """Commands for the supervisor, and their answers. `send` passes one on."""

    def __init__(self, send: Callable[[Command], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._due: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}

    async def order(self, command: str, seconds: float) -> Mapping[str, Any]:
        """Let the supervisor carry out a command; its answer. Raises Refused."""
        answer, descriptors = await self._order(command, seconds)
        _close(descriptors)
        return answer

    async def follow(self, wanted: Wanted, seconds: float) -> tuple[int, socket.socket]:
        """Begin a tail: its number, for `unfollow`, and the end to read. Raises Refused."""
        answer, descriptors = await self._order(f"tail {wanted.text()}", seconds)
        reading = socket.socket(fileno=descriptors[0])
        reading.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        return answer["tail"], reading

    def unfollow(self, number: int) -> None:
        """End a tail."""
        self._send(Command(next(self._numbers), f"untail {number}"))

    async def _order(self, command: str, seconds: float) -> tuple[dict[str, Any], list[int]]:
        if len(self._due) >= MAX_ORDERS:
            raise Refused("too many commands are under way: try again later")
        number = next(self._numbers)
        answer: asyncio.Future[tuple[dict[str, Any], list[int]]] = asyncio.get_running_loop().create_future()
        self._due[number] = answer
        try:
            self._send(Command(number, command))
            async with asyncio.timeout(seconds):
                found, descriptors = await answer
        except TimeoutError:
            raise Refused(f"no answer from the supervisor within {seconds:g} s; it may still carry it out") from None
        finally:
            del self._due[number]
        if "error" in found:
            _close(descriptors)
            raise Refused(str(found["error"]))
        return found, descriptors

    def answered(self, answer: Answered, descriptors: list[int]) -> None:
        """Take an answer with its descriptors; one that comes too late is dropped."""
        due = self._due.get(answer.number)
        if due is not None and not due.done():
            due.set_result((answer.answer, descriptors))
            return
        _close(descriptors)
        if "tail" in answer.answer:
            self.unfollow(answer.answer["tail"])


class AdminListener:
    """Answers by what `operations` reports. An implementation of Running (gateway/admin/api.py)."""

    def __init__(self, operations: OperationsReport, orders: Orders) -> None:
        self._operations = operations
        self._orders = orders
        self._snapshot: Snapshot | None = None
        self._server: AdminServer | None = None
        self._here: AdminServer | None = None
        """At a Unix socket."""
        self._api = Api(self)
        self._applied = asyncio.Event()
        """Set, and replaced, when another snapshot is in use."""

    def apply(self, snapshot: Snapshot, sock: socket.socket | None, pairs: Pairs) -> None:
        """Work by a snapshot from now on; `sock` listens at its `admin.listen`, if that is new.

        `pairs` has the certificate of `admin.tls` with its key, PEM.
        """
        self._snapshot = snapshot
        self._applied.set()
        self._applied = asyncio.Event()
        admin = snapshot.site.admin
        access = Access.of(admin, snapshot.files)
        if self._server is not None and (sock is not None or admin.listen is None):
            self._server.close()
            self._server = None
        tls = None
        if admin.tls is not None:
            tls = context(*pairs[admin.tls.cert, admin.tls.key], access.cas)
        if sock is not None:
            self._server = AdminServer(sock, self._endpoints(), access, tls)
        elif self._server is not None:
            self._server.access, self._server.tls = access, tls
        if self._here is not None:
            self._here.access = access.here(self._here.access.users)

    def answer_here(self, sock: socket.socket, users: Mapping[int, str]) -> None:
        """Answer at a Unix socket, too, for these accounts by their names; after the first snapshot."""
        assert self._snapshot is not None  # noqa: S101 - control serves it then
        access = Access.of(self._snapshot.site.admin, self._snapshot.files).here(users)
        self._here = AdminServer(sock, self._endpoints(), access)

    def close(self) -> None:
        """Stop answering."""
        for server in self._servers():
            server.close()

    def _servers(self) -> list[AdminServer]:
        return [server for server in (self._server, self._here) if server is not None]

    def _knows(self, asked: Asked) -> bool:
        """Whether a caller may still do what it might when it asked."""
        return any(server.access.knows(asked.caller, asked.token, asked.peer) for server in self._servers())

    def _endpoints(self) -> dict[str, dict[str, Endpoint]]:
        return {
            **page.endpoints(),
            "/metrics": {"GET": Endpoint(role="read", answer=_at_once(self._operations.metrics))},
            "/healthz": {"GET": Endpoint(role=None, answer=_at_once(self._operations.healthz))},
            "/readyz": {"GET": Endpoint(role=None, answer=_at_once(self._operations.readyz))},
            f"{ROOT}/events": {"GET": Endpoint(role="read", events=self._events)},
            f"{ROOT}/logs": {"GET": Endpoint(role="operate", events=self._logs)},
            **self._api.endpoints(),
        }

    async def _events(self, asked: Asked) -> AsyncIterator[str]:
        """The status, once a second, to a caller whose token still counts."""
        while self._knows(asked):
            yield self._api.status_text()
            await asyncio.sleep(INTERVAL)

    async def _logs(self, asked: Asked) -> AsyncIterator[str]:
        """Requests as they end, or their steps, to a caller whose token still counts. Raises BadRequest."""
        try:
            number, reading = await self._orders.follow(wanted(asked), ORDER_SECONDS)
        except Refused as error:
            raise BadRequest(str(error), 503) from None
        try:
            yield ""
            while self._knows(asked):
                lines = await _packet(reading)
                if lines is None:
                    return
                for line in lines or [""]:
                    yield line
        finally:
            reading.close()
            self._orders.unfollow(number)

    # ----------------------------------------------------------------------------------------------------- for the API

    def report(self) -> GatewayReport:
        """What control knows."""
        return self._operations.report()

    def overheard(self) -> HeartbeatReport | None:
        """What the heartbeat process has said last."""
        return self._operations.overheard()

    async def order(self, command: str, seconds: float) -> Mapping[str, Any]:
        """Let the supervisor carry out a command; its answer. Raises Refused."""
        return await self._orders.order(command, seconds)

    async def order_heartbeat(self, command: str) -> HeartbeatReport:
        """Let the heartbeat process carry out a command; its report then. Raises Refused."""
        assert self._snapshot is not None  # noqa: S101 - nothing is answered before the first one
        directory = self._snapshot.site.admin.sockets
        try:
            answer = await asyncio.to_thread(process_socket.ask, directory, command)
            return report_json.heartbeat(printable_values(answer))
        except (process_socket.NoAnswer, report_json.Unreadable) as error:
            raise Refused(str(error)) from None

    async def in_force(self, serial: int, seconds: float) -> None:
        """Wait until the snapshot in use has the override of this number. Raises Refused."""
        try:
            async with asyncio.timeout(seconds):
                while self._snapshot is None or self._snapshot.overrides.serial < serial:
                    await self._applied.wait()
        except TimeoutError:
            raise Refused(f"set, but not in force within {seconds:g} s") from None


async def _packet(reading: socket.socket) -> list[str] | None:
    """The lines of the next packet; none if none comes within INTERVAL; None: no worker will send another one."""
    try:
        async with asyncio.timeout(INTERVAL):
            packet = await asyncio.get_running_loop().sock_recv(reading, PACKET)
    except TimeoutError:
        return []
    return [line.decode(errors="replace") for line in packet.splitlines()] if packet else None


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _at_once(page: Callable[[], Answer]) -> Callable[[Asked], Any]:
    async def answer(_: Asked) -> Answer:
        return page()

    return answer
