"""One more kind of process, as an addition would look: two that answer datagrams. `install` it before gateway.cli."""

import asyncio
import os
import socket
from functools import partial

from gateway.config.address import Listen
from gateway.hardening import roles as privileges
from gateway.process.child import ChildContext, LoopChild, Update, Work, run_loop
from gateway.supervisor import roles

PORT = "ECHO_PORT"
"""In the environment: where they listen, on 127.0.0.1."""


class Echo(LoopChild):
    """Answers each datagram with its process id, user id, and the version of its configuration."""

    def __init__(self, context: ChildContext) -> None:
        super().__init__(context.channel)
        self._version = context.snapshot.version
        self._sockets = [sock for _, sock in context.sockets["echo"]]

    async def start(self) -> None:
        for sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock, partial(self._answer, sock))
        self.ready(self._version)

    async def go_over(self, update: Update) -> None:
        self._version = update.packed.snapshot.version
        self.ready(self._version)

    def drain(self, seconds: float) -> None:  # noqa: ARG002 - nothing runs for long
        self.end()

    def _answer(self, sock: socket.socket) -> None:
        try:
            _, client = sock.recvfrom(100)
        except BlockingIOError:
            return
        sock.sendto(f"{os.getpid()} {os.geteuid()} {self._version}".encode(), client)


def prepare(context: ChildContext) -> Work:
    return partial(run_loop, lambda: Echo(context))


ROLE = roles.Role(
    name="echo",
    prepare=prepare,
    privileges=privileges.CONTROL,
    instances=lambda _: 2,
    numbered=True,
    most=4,
    sockets=lambda _: {
        "echo": roles.SocketPlan((Listen("127.0.0.1", int(os.environ[PORT])),), socket.SOCK_DGRAM, spread=True)
    },
    wave=1,
)


def install() -> None:
    """Add the role to the table of this process."""
    roles.ROLES = (*roles.ROLES, ROLE)  # type: ignore[misc]
