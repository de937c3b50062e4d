"""A simulated back-end server with its load agent, as a program of its own (see `main`).

Its executors only wait, so that the three servers of the demo are unequal on any machine, and what each
reports is its own load. A real server's agent measures the machine (`loadagent run`).
"""

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from gateway.demo.page import page
from gateway.demo.pool import Pool
from loadagent.agent import run_agent
from loadagent.config import AgentConfig

EXECUTORS = 4
PR_SET_PDEATHSIG = 1  # prctl(2)
BACKGROUND_WORK, BACKGROUND_PAUSE = (
    0.05,
    0.003,
)  # seconds that a job keeps an executor, and until the next one


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of server: seconds of work per request, and executors that other work keeps busy."""

    about: str
    seconds: float
    background: int = 0


KINDS = {
    "app1": Kind("Fast: 5 ms of work per request.", 0.005),
    "app2": Kind("Slow: 40 ms of work per request.", 0.040),
    "app3": Kind("Fast but busy: other work occupies three of its four executors.", 0.005, 3),
}


@dataclass(frozen=True, slots=True)
class Program:
    """Its settings, in JSON. `listener` is an inherited, listening socket; `gateway` takes the reports."""

    name: str
    listener: int
    parent: int
    gateway: str
    key_file: str

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises ValueError, TypeError."""
        return cls(**json.loads(text))


class DemoServer:
    """Answers `/` (page), `/who` (name), `/load` (JSON, percent), `/healthz`."""

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self._kind = kind
        self._pool = Pool(EXECUTORS, time.monotonic)
        self._count = 0

    def application(self) -> web.Application:
        """Return it as an aiohttp application."""
        application = web.Application()
        routes: tuple[tuple[str, Callable[[web.Request], Awaitable[web.Response]]], ...] = (
            ("/who", self.who),
            ("/load", self.load),
            ("/healthz", self.healthz),
            ("/{path:.*}", self.index),
        )
        for path, handler in routes:
            application.router.add_get(path, handler)
        return application

    async def background(self) -> None:
        """Keep executors busy with work that belongs to no request, indefinitely."""

        async def job() -> None:
            while True:
                async with self._pool.executor():
                    await asyncio.sleep(BACKGROUND_WORK)
                await asyncio.sleep(BACKGROUND_PAUSE)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._kind.background):
                group.create_task(job())

    async def _work(self) -> float:
        """Do a request's work and return the seconds that it took, waiting included."""
        start = time.monotonic()
        async with self._pool.executor():
            await asyncio.sleep(self._kind.seconds)
        self._count += 1
        return time.monotonic() - start

    def _answer(self, **content: Any) -> web.Response:
        return web.Response(**content, headers={"X-Server": self.name, "Cache-Control": "no-store"})

    async def index(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Answer with the page."""
        seconds = await self._work()
        text = page(self.name, self._kind.about, self._pool.load, seconds * 1000, self._count)
        return self._answer(text=text, content_type="text/html")

    async def who(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Answer with the name."""
        await self._work()
        return self._answer(text=f"{self.name}\n")

    async def load(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Answer with the busy share in percent, without an executor, so that a full server can answer, too."""
        content = {"server": self.name, "load": round(100 * self._pool.load, 1), "requests": self._count}
        return self._answer(text=json.dumps(content), content_type="application/json")

    async def healthz(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Answer a health check."""
        return self._answer(text="OK\n")


def agent(program: Program, port: int) -> AgentConfig:
    """Return what the server's agent is to do: report the load of the server at `port`, and nothing else."""
    url = {"get": f"http://127.0.0.1:{port}/load", "full": 100, "every": "500ms"}
    return AgentConfig.model_validate(
        {
            "server": program.name,
            "gateways": [program.gateway],
            "key_file": program.key_file,
            "metrics": {"url": url},
        }
    )


async def serve(program: Program) -> None:
    """Run server and agent until cancelled."""
    server = DemoServer(program.name, KINDS[program.name])
    runner = web.AppRunner(server.application(), access_log=None)
    await runner.setup()
    with socket.socket(fileno=program.listener) as listener:
        port = listener.getsockname()[1]
        await web.SockSite(runner, listener).start()
        async with asyncio.TaskGroup() as group:
            group.create_task(server.background())
            group.create_task(run_agent(agent(program, port)))
            group.create_task(asyncio.Event().wait())


def main() -> None:
    """Serve as the first argument says (a Program) until the demo ends: the kernel then sends SIGTERM."""
    program = Program.read(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which then drains
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == program.parent:  # else the demo ended before it could be followed
        asyncio.run(serve(program))
