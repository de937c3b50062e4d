import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.board import DOWN, DRAIN, UP, Board
from gateway.config.discovery import Member, Question
from gateway.control import Control
from loadagent.agent import run_agent
from loadagent.config import AgentConfig
from loadagent.report import Report, State, encode
from tests.control.sites import KEY, snapshot
from tests.health.serving import serving
from tests.support.name_server import NameServer
from tests.support.waiting import free_port, soon


class Site:
    """Real servers on loopback, a board, and a control to be stopped at the end."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.board = Board()
        self._stack = stack
        self.found: dict[Question, tuple[Member, ...]] = {}

    async def server(self, body: bytes = b"OK", port: int = 0) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        return await self._stack.enter_async_context(serving(serve, port=port))

    def control(self, reports: socket.socket | None = None) -> Control:
        control = Control(self.board, reports, self.found.update)
        self._stack.push_async_callback(control.close)
        return control

    def agent(self, config: dict[str, object]) -> asyncio.Task[None]:
        task = asyncio.create_task(run_agent(AgentConfig.model_validate(config)))
        self._stack.push_async_callback(asyncio.wait, [task])
        self._stack.callback(task.cancel)
        return task


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(stack)


def reports_socket() -> socket.socket:
    reports = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    reports.bind(("127.0.0.1", 0))
    return reports


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def test_servers_go_down_and_come_back(tmp_path: Path, site: Site) -> None:
    port = free_port()
    first, second = await site.server(), await site.server(port=port)
    check = {"http": "/", "interval": "40ms", "rise": 2, "fall": 2, "expect": {"body": "OK"}}
    servers = [f"127.0.0.1:{port_of(first)}", f"127.0.0.1:{port}"]
    snap = snapshot(tmp_path, {"app": {"servers": servers, "check": check}})
    slots = list(snap.slots.values())
    control = site.control()
    await control.apply(snap)
    await soon(lambda: [site.board.state(slot) for slot in slots] == [UP, UP], "both are up")
    second.close()
    await second.wait_closed()
    await soon(lambda: [site.board.state(slot) for slot in slots] == [UP, DOWN], "the second is down")
    await site.server(port=port)
    await soon(lambda: [site.board.state(slot) for slot in slots] == [UP, UP], "the second is back")


async def test_the_load_that_agents_report_becomes_weights(tmp_path: Path, site: Site) -> None:
    reports = reports_socket()
    listen = f"127.0.0.1:{reports.getsockname()[1]}"
    names = ["idle", "busy"]
    servers = [{"name": name, "address": f"127.0.0.1:{index + 1}"} for index, name in enumerate(names)]
    snap = snapshot(tmp_path, {"app": {"servers": servers}}, load_reports={"listen": listen, "key_file": "agent.key"})
    control = site.control(reports)
    await control.apply(snap)
    for name, load in (("idle", b"10"), ("busy", b"90")):
        measured = await site.server(load)
        site.agent(
            {
                "server": name,
                "gateways": [listen],
                "key_file": str(tmp_path / "agent.key"),
                "interval": "100ms",
                "state": "ready" if name == "idle" else "drain",
                "metrics": {"url": {"get": f"http://127.0.0.1:{port_of(measured)}/", "full": 100, "every": "100ms"}},
            }
        )
    idle, busy = (snap.slots["app", name] for name in names)
    await soon(lambda: site.board.admin(busy) == DRAIN, "the busy server drains")
    assert control.refused["load report"] == {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
        forger.sendto(b"x" * 100, reports.getsockname())
    await soon(lambda: control.refused["load report"] == {"bad signature": 1}, "a forged report is refused")
    assert site.board.admin(idle) == 0


async def test_weights_follow_the_reports_of_two_ready_servers(tmp_path: Path, site: Site) -> None:
    reports = reports_socket()
    address = reports.getsockname()
    servers = [{"name": name, "address": f"127.0.0.1:{index + 1}"} for index, name in enumerate(("idle", "busy"))]
    load_reports = {"listen": f"127.0.0.1:{address[1]}", "key_file": "agent.key"}
    snap = snapshot(tmp_path, {"app": {"servers": servers}}, load_reports=load_reports)
    control = site.control(reports)
    await control.apply(snap)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agents:
        for name, load in (("idle", 0.1), ("busy", 0.9)):
            report = Report(name, 1, 1, time.time_ns(), State.READY, metrics={"cpu": load})
            agents.sendto(encode(report, KEY), address)
    idle, busy = (snap.slots["app", name] for name in ("idle", "busy"))
    await soon(lambda: site.board.weight(busy) < 0.9 and site.board.weight(idle) > 1.1, "the weights part")


async def test_a_reload_can_move_the_reports_end_them_and_bring_them_back(tmp_path: Path, site: Site) -> None:
    first, second, third = reports_socket(), reports_socket(), reports_socket()
    addresses = [reports.getsockname() for reports in (first, second, third)]
    backends = {"app": {"servers": [{"name": "a", "address": "127.0.0.1:1"}]}}
    control = site.control(first)
    load_reports = {"listen": "127.0.0.1:8201", "key_file": "agent.key"}
    with_reports = snapshot(tmp_path, backends, load_reports=load_reports)
    slot = with_reports.slots["app", "a"]
    sequence = 0

    async def arrives(address: tuple[str, int]) -> None:
        nonlocal sequence
        sequence += 1
        state = State.READY if site.board.admin(slot) == DRAIN else State.DRAIN
        report = Report("a", 1, sequence, time.time_ns(), state)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
            agent.sendto(encode(report, KEY), address)
        await soon(lambda: site.board.admin(slot) == state.value, f"report {sequence} arrives")

    await control.apply(with_reports)
    await arrives(addresses[0])
    await control.apply(with_reports, second)
    await arrives(addresses[1])
    await soon(lambda: first.fileno() == -1, "the first is closed")
    without = snapshot(tmp_path, backends, with_reports)
    await control.apply(without)
    await soon(lambda: second.fileno() == -1, "the second is closed")
    await control.apply(snapshot(tmp_path, backends, without, load_reports=load_reports), third)
    await arrives(addresses[2])


async def test_servers_of_names_are_followed(site: Site, tmp_path: Path) -> None:
    with NameServer() as names:
        names.records["app.internal", "A"] = ["10.0.0.1"]
        snap = snapshot(tmp_path, {"app": {"servers": ["dns:app.internal:80"]}}, resolver=names.resolver)
        await site.control().apply(snap)
        question = next(question for question in snap.questions if question.kind == "A")
        await soon(lambda: site.found == {question: (Member("10.0.0.1", 80, "app.internal"),)}, "the first")
        names.records["app.internal", "A"] = ["10.0.0.2"]
        await soon(lambda: site.found[question] == (Member("10.0.0.2", 80, "app.internal"),), "the second")


async def test_close_ends_every_task_and_keeps_the_board(tmp_path: Path) -> None:
    board = Board()
    reports = reports_socket()
    control = Control(board, reports, print)
    snap = snapshot(tmp_path, {"app": {"servers": ["127.0.0.1:1"], "check": {"tcp": True, "interval": "10ms"}}})
    (slot,) = snap.slots.values()
    await control.apply(snap)
    await soon(lambda: board.state(slot) == DOWN and board.weight(slot) == 1.0, "state and weight are there")
    await control.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert reports.fileno() == -1
    assert (board.state(slot), board.weight(slot)) == (DOWN, 1.0)


async def test_close_without_a_start() -> None:
    reports = reports_socket()
    await Control(Board(), reports, print).close()
    assert reports.fileno() == -1
