"""The listener for operators in the control process: metrics, probes, the API and the page.

Changes go to the supervisor, or to the heartbeat process, as the commands that these obey anyway.
"""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from gateway.admin import page, report_json
from gateway.admin.access import Access
from gateway.admin.api import ROOT, Api, Refused
from gateway.admin.server import AdminServer, Answer, Asked, Endpoint
from gateway.admin.tls import context
from gateway.config.snapshot import Snapshot
from gateway.control.checks import Pairs
from gateway.control.operations_report import OperationsReport
from gateway.process.channel import Answered, Command
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
        self._due: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def order(self, command: str, seconds: float) -> Mapping[str, Any]:
        """Let the supervisor carry out a command; its answer. Raises Refused."""
        if len(self._due) >= MAX_ORDERS:
            raise Refused("too many commands are under way: try again later")
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._due[number] = answer
        try:
            self._send(Command(number, command))
            async with asyncio.timeout(seconds):
                found = await answer
        except TimeoutError:
            raise Refused(f"no answer from the supervisor within {seconds:g} s; it may still carry it out") from None
        finally:
            del self._due[number]
        if "error" in found:
            raise Refused(str(found["error"]))
        return found

    def answered(self, answer: Answered) -> None:
        """Take an answer; one that comes too late is dropped."""
        due = self._due.get(answer.number)
        if due is not None and not due.done():
            due.set_result(answer.answer)


class AdminListener:
    """Answers by what `operations` reports. An implementation of Running (gateway/admin/api.py)."""

    def __init__(self, operations: OperationsReport, orders: Orders) -> None:
        self._operations = operations
        self._orders = orders
        self._snapshot: Snapshot | None = None
        self._server: AdminServer | None = None
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

    def close(self) -> None:
        """Stop answering."""
        if self._server is not None:
            self._server.close()

    def _endpoints(self) -> dict[str, dict[str, Endpoint]]:
        return {
            **page.endpoints(),
            "/metrics": {"GET": Endpoint(role="read", answer=_at_once(self._operations.metrics))},
            "/healthz": {"GET": Endpoint(role=None, answer=_at_once(self._operations.healthz))},
            "/readyz": {"GET": Endpoint(role=None, answer=_at_once(self._operations.readyz))},
            f"{ROOT}/events": {"GET": Endpoint(role="read", events=self._events)},
            **self._api.endpoints(),
        }

    async def _events(self, asked: Asked) -> AsyncIterator[str]:
        """The status, once a second, to a caller whose token still counts."""
        while self._server is not None and self._server.access.knows(asked.caller, asked.token, asked.peer):
            yield self._api.status_text()
            await asyncio.sleep(INTERVAL)

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


def _at_once(page: Callable[[], Answer]) -> Callable[[Asked], Any]:
    async def answer(_: Asked) -> Answer:
        return page()

    return answer
