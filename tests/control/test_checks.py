import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.board import DOWN, UNKNOWN, UP, Board
from gateway.config.model import Backend, Check
from gateway.control.checks import Checks
from gateway.health.probe import Probe, Target
from gateway.health.result import Outcome, Result
from tests.control.sites import snapshot
from tests.support.waiting import soon

CHECK = {"tcp": True, "interval": "10ms"}


class Servers(Probe):
    """In place of real servers: answers by name, notes each check and the state before it, and can break."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.states: list[int] = []
        self.down: set[str] = set()
        self.broken = False
        self.checks: list[tuple[str, str | tuple[str, int], str]] = []

    async def check(self, target: Target, check: Check) -> Result:
        assert check.interval == 0.01
        self.states.append(self.board.state(target.slot))
        self.checks.append((target.name, target.address, target.host))
        if self.broken:
            raise RuntimeError("broken")
        await asyncio.sleep(0)
        return Result(Outcome.TCP_CONNECT_REFUSED if target.name in self.down else Outcome.OK, 0.0)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def servers(board: Board) -> Servers:
    return Servers(board)


@pytest.fixture
async def checks(board: Board, servers: Servers) -> AsyncIterator[Checks]:
    running = Checks(board, servers)
    yield running
    await running.close()
    assert len(asyncio.all_tasks()) == 1


def backend(*addresses: str, **options: object) -> dict[str, object]:
    servers = [{"name": f"s{index}", "address": address} for index, address in enumerate(addresses)]
    return {"servers": servers, "check": CHECK, **options}


async def test_every_server_with_a_check_is_watched(
    tmp_path: Path, board: Board, servers: Servers, checks: Checks
) -> None:
    servers.down.add("app/s1")
    unchecked = {"servers": ["127.0.0.1:9"]}
    site = snapshot(tmp_path, {"app": backend("127.0.0.1:1", "[::1]:2", "unix:/run/x.sock"), "raw": unchecked})
    board.set_state(site.slots["raw", "127.0.0.1:9"], DOWN)  # left over from a check that is gone
    await checks.apply(site)
    states = {"app/s0": UP, "app/s1": DOWN, "app/s2": UP}
    for name, state in states.items():
        slot = site.slots["app", name[4:]]
        await soon(lambda slot=slot, state=state: board.state(slot) == state, name)  # type: ignore[misc]
    assert board.state(site.slots["raw", "127.0.0.1:9"]) == UNKNOWN
    assert set(servers.checks) == {
        ("app/s0", ("127.0.0.1", 1), "127.0.0.1:1"),
        ("app/s1", ("::1", 2), "[::1]:2"),
        ("app/s2", "/run/x.sock", "localhost"),
    }


async def test_a_reload_leaves_the_unchanged_alone_and_stops_what_is_gone(
    tmp_path: Path, board: Board, servers: Servers, checks: Checks
) -> None:
    first = snapshot(tmp_path, {"app": backend("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")})
    await checks.apply(first)
    running = {key: task for key, (_, task) in checks._running.items()}
    second = snapshot(tmp_path, {"app": backend("127.0.0.1:1", "127.0.0.1:9")}, first)
    await checks.apply(second)
    after = {key: task for key, (_, task) in checks._running.items()}
    assert after.keys() == {("app", "s0"), ("app", "s1")}
    assert after["app", "s0"] is running["app", "s0"]
    assert running["app", "s1"].cancelled()  # moved
    assert running["app", "s2"].cancelled()  # gone
    await soon(lambda: ("app/s1", ("127.0.0.1", 9), "127.0.0.1:9") in servers.checks, "the new address is checked")
    await soon(lambda: board.state(second.slots["app", "s1"]) == UP, "s1 is up")


async def test_another_check_starts_over_from_the_state_there_is(
    tmp_path: Path, board: Board, servers: Servers, checks: Checks
) -> None:
    servers.down.add("app/s0")
    first = snapshot(tmp_path, {"app": backend("127.0.0.1:1")})
    board.set_state(first.slots["app", "s0"], UP)
    second = snapshot(tmp_path, {"app": backend("127.0.0.1:1", check={**CHECK, "fall": 5})}, first)
    await checks.apply(first)
    await checks.apply(second)
    await soon(lambda: len(servers.states) > 5, "six checks")
    assert servers.states[:6] == [UP] * 5 + [DOWN]


async def test_a_check_that_breaks_is_logged_and_goes_on(
    tmp_path: Path,
    board: Board,
    servers: Servers,
    checks: Checks,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.control.tasks.RESTART_DELAY", 0.01)
    servers.broken = True
    site = snapshot(tmp_path, {"app": backend("127.0.0.1:1")})
    await checks.apply(site)
    await soon(lambda: "checking app/s0 failed; restarting in 0.01 s" in caplog.messages, "it breaks")
    servers.broken = False
    await soon(lambda: board.state(site.slots["app", "s0"]) == UP, "it goes on")


@pytest.mark.parametrize("given, tls, expected", [
    (None, None, None), (None, {"verify": False}, False), (False, {"verify": False}, None), (True, None, True),
    (True, {"verify": False}, False), ({"server_name": "a.example"}, {"verify": False}, True),
    ({"verify": False}, None, False),
])  # fmt: skip
def test_checks_speak_tls_as_requests_do_unless_they_say_otherwise(
    *, given: object, tls: object, expected: bool | None
) -> None:
    check = {"http": "/"} if given is None else {"http": "/", "tls": given}
    made = Backend.model_validate({"name": "app", "servers": ["127.0.0.1:1"], "check": check, "tls": tls or False})
    found = made.tls_of_check(made.servers[0])
    assert (found.verify if found is not None else None) is expected
