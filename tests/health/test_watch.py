import asyncio
import logging

import pytest

from gateway.board import DOWN, UNKNOWN, UP, Board
from gateway.config.model import Check
from gateway.health.probe import Target
from gateway.health.result import Outcome, Result
from gateway.health.watch import Watch

TARGET = Target("app/app1", 3, ("127.0.0.1", 1), "app1")
CHECK = Check.model_validate({"tcp": True, "interval": "2s", "rise": 2, "fall": 3})
GOOD = Result(Outcome.OK, 0.003, "connected")
BAD = Result(Outcome.TCP_CONNECT_REFUSED, 0.001, "Connection refused")


def test_states_go_to_the_board_and_the_log(caplog: pytest.LogCaptureFixture) -> None:
    board = Board()
    watch = Watch(TARGET, CHECK, board)
    states = []
    with caplog.at_level(logging.INFO):
        for result in (GOOD, BAD, BAD, BAD, GOOD, GOOD):
            watch.observe(result)
            states.append(board.state(3))
    assert states == [UP, UP, UP, DOWN, DOWN, UP]
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "server app/app1 is UP: OK after 1 good check (connected, 3 ms)"),
        (
            "WARNING",
            "server app/app1 is DOWN: TCP_CONNECT_REFUSED after 3 failed checks (Connection refused, 1 ms)",
        ),
        ("INFO", "server app/app1 is UP: OK after 2 good checks (connected, 3 ms)"),
    ]


@pytest.mark.parametrize("state, first_bad", [(UNKNOWN, DOWN), (UP, UP), (DOWN, DOWN)])
def test_it_begins_where_the_board_stands(state: int, first_bad: int) -> None:
    board = Board()
    board.set_state(3, state)
    watch = Watch(TARGET, CHECK, board)
    watch.observe(BAD)
    assert board.state(3) == first_bad


def test_it_looks_more_often_while_undecided() -> None:
    watch = Watch(TARGET, CHECK, Board())
    delays = []
    for result in (GOOD, BAD, BAD, BAD, GOOD, GOOD):
        watch.observe(result)
        delays.append(watch.delay())
    assert delays == [2.0, 0.5, 0.5, 2.0, 0.5, 2.0]
    assert repr(watch) == "<Watch app/app1 <Counter UP, 0 against>>"


async def test_checks_come_at_their_interval_and_the_check_takes_part_of_it() -> None:
    board = Board()
    watch = Watch(TARGET, CHECK, board)
    slept: list[float] = []

    async def probe(target: Target, check: Check) -> Result:
        assert (target, check) == (TARGET, CHECK)
        return Result(Outcome.OK, 0.9)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 50:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await watch.run(probe, sleep)
    assert board.state(3) == UP
    assert 0.0 <= slept[0] <= 0.5
    assert all(0.9 <= pause <= 1.3 for pause in slept[1:])
    assert len(set(slept)) > 40  # each a little different
