import logging
from pathlib import Path

import pytest

from gateway.board import DOWN, DRAIN, MAINTENANCE, READY, UP, Board
from gateway.config.overrides import AdminState, Override, Overrides
from gateway.control.publisher import Publisher
from gateway.health.agent import Line
from loadagent.report import Report, State
from tests.control.sites import snapshot

A, B, C = ("app", "a"), ("app", "b"), ("app", "c")
SERVERS: list[dict[str, object]] = [
    {"name": "a", "address": "127.0.0.1:1"},
    {"name": "b", "address": "127.0.0.1:2"},
    {"name": "c", "address": "127.0.0.1:3", "weight": 2},
]


def report(load: float | None, state: State = State.READY) -> Report:
    return Report("x", 1, 1, 1, state, metrics={} if load is None else {"cpu": load})


class Bench:
    """A publisher on a board, with a clock to turn."""

    def __init__(self, directory: Path, board: Board | None = None, **backend: object) -> None:
        self.directory = directory
        self.board = board or Board()
        self.now = 100.0
        self.publisher = Publisher(self.board, self.now)
        self.snapshot = snapshot(directory, {"app": {"servers": SERVERS, **backend}})
        self.publisher.apply(self.snapshot)

    def hear(self, loads: dict[tuple[str, str], float]) -> None:
        for key, load in loads.items():
            self.publisher.hear(key, report(load), self.now)

    def run(self, seconds: float, loads: dict[tuple[str, str], float] | None = None) -> list[float]:
        """Tick for some time, with reports if there are any, and return the weights on the board."""
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            self.hear(loads or {})
            self.publisher.tick(self.now)
        return self.weights()

    def weights(self) -> list[float]:
        return [self.board.weight(slot) for slot in self.snapshot.slots.values()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_without_reports_weights_are_the_configured_ones(bench: Bench) -> None:
    bench.publisher.tick(bench.now)
    assert bench.weights() == [1.0, 1.0, 2.0]
    assert bench.run(5.0) == [1.0, 1.0, 2.0]


def test_reports_move_weights_smoothly_and_silence_moves_them_back(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    loads = {A: 0.8, B: 0.2, C: 0.2}
    first = bench.run(0.5, loads)
    assert 0.8 < first[0] < 1.0
    assert bench.run(20.0, loads) == pytest.approx([1 / 3, 4 / 3, 8 / 3], rel=0.01)
    assert bench.run(2.5) == pytest.approx([1 / 3, 4 / 3, 8 / 3], rel=0.01)  # not stale yet
    assert bench.run(60.0) == [1.0, 1.0, 2.0]
    assert [message for message in caplog.messages if "app/a" in message] == [
        "server app/a: no load report for 3 s; its weight returns to neutral"
    ]


def test_only_the_measured_policy_has_measured_weights(tmp_path: Path) -> None:
    bench = Bench(tmp_path, balance="weighted-round-robin")
    assert bench.run(10.0, {A: 0.9, B: 0.1}) == [1.0, 1.0, 2.0]


def test_servers_out_of_rotation_neither_count_nor_fall(bench: Bench) -> None:
    bench.board.set_state(bench.snapshot.slots[A], DOWN)
    assert bench.run(30.0, {A: 0.95, B: 0.5, C: 0.5}) == pytest.approx([1.0, 1.0, 2.0], rel=0.01)


def test_the_agents_state_is_the_administrative_state_and_outlives_the_agent(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    slot = bench.snapshot.slots[A]
    with caplog.at_level(logging.INFO):
        for state, admin in ((State.DRAIN, DRAIN), (State.MAINTENANCE, MAINTENANCE), (State.READY, READY)):
            for _ in range(2):
                bench.publisher.hear(A, report(None, state), bench.now)
            assert bench.board.admin(slot) == admin
        bench.publisher.hear(A, report(0.5, State.DRAIN), bench.now)
    bench.run(60.0)
    assert bench.board.admin(slot) == DRAIN
    assert [message for message in caplog.messages if "its agent reports" in message] == [
        f"server app/a: its agent reports {word}" for word in ("DRAIN", "MAINTENANCE", "READY", "DRAIN")
    ]


def test_a_new_process_goes_on_from_the_board(bench: Bench, tmp_path: Path) -> None:
    loads = {A: 0.8, B: 0.2, C: 0.2}
    before = bench.run(20.0, loads)
    bench.board.set_state(bench.snapshot.slots[A], UP)
    bench.board.set_admin(bench.snapshot.slots[B], DRAIN)
    successor = Bench(tmp_path, bench.board)
    successor.publisher.tick(successor.now)
    assert successor.weights() == before
    assert bench.board.state(bench.snapshot.slots[A]) == UP
    assert bench.board.admin(bench.snapshot.slots[B]) == DRAIN


def test_a_reload_keeps_what_is_known_and_begins_afresh_for_the_new(bench: Bench, tmp_path: Path) -> None:
    before = bench.run(20.0, {A: 0.8, B: 0.2, C: 0.2})
    moved = [
        *SERVERS[:2],
        {"name": "c", "address": "127.0.0.1:4", "weight": 3},
        {"name": "d", "address": "127.0.0.1:5"},
    ]
    after = snapshot(tmp_path, {"app": {"servers": moved}}, bench.snapshot)
    for key in (C, ("app", "d")):  # as a server that had the row before may have left it
        bench.board.set_state(after.slots[key], DOWN)
        bench.board.set_admin(after.slots[key], DRAIN)
        bench.board.set_weight(after.slots[key], 77.0)
    bench.publisher.apply(after)
    bench.publisher.tick(bench.now)
    board, slots = bench.board, after.slots
    assert slots[A] == bench.snapshot.slots[A]
    assert [board.weight(slots[key]) for key in (A, B)] == before[:2]
    assert [board.weight(slots[key]) for key in (C, ("app", "d"))] == [3.0, 1.0]
    assert {board.state(slots[key]) for key in (C, ("app", "d"))} == {0}
    assert {board.admin(slots[key]) for key in (C, ("app", "d"))} == {READY}


def test_a_changed_weight_is_approached(bench: Bench, tmp_path: Path) -> None:
    bench.run(5.0, {A: 0.5, B: 0.5, C: 0.5})
    heavier = [{**SERVERS[0], "weight": 10}, *SERVERS[1:]]
    bench.publisher.apply(snapshot(tmp_path, {"app": {"servers": heavier}}, bench.snapshot))
    assert 1.0 < bench.run(0.5, {A: 0.5, B: 0.5, C: 0.5})[0] < 4.0
    assert bench.run(30.0)[0] == 10.0


def override(bench: Bench, key: tuple[str, str], state: AdminState, overrules: AdminState | None = None) -> None:
    """Let a command set a state, as the supervisor would."""
    given = Overrides({"/".join(key): Override(state, None, overrules, bench.now)})
    bench.snapshot = bench.snapshot.with_overrides(given)
    bench.publisher.apply(bench.snapshot)


def test_a_command_and_the_agent_are_decided_in_one_place(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    slot = bench.snapshot.slots[A]
    override(bench, A, "drain")
    assert bench.board.admin(slot) == DRAIN
    with caplog.at_level(logging.INFO):
        bench.publisher.hear(A, report(None, State.MAINTENANCE), bench.now)
        assert bench.board.admin(slot) == MAINTENANCE
        bench.publisher.hear(A, report(None, State.READY), bench.now)
    assert bench.board.admin(slot) == DRAIN
    assert caplog.messages[-1] == "server app/a: its agent reports READY; by command it is DRAIN"
    bench.publisher.hear(A, report(None, State.MAINTENANCE), bench.now)
    bench.snapshot = bench.snapshot.with_overrides(Overrides())
    bench.publisher.apply(bench.snapshot)
    assert bench.board.admin(slot) == MAINTENANCE  # its agent's


def test_ready_overrules_a_dead_agent_until_it_says_something_else(bench: Bench) -> None:
    slot = bench.snapshot.slots[A]
    bench.publisher.hear(A, report(None, State.DRAIN), bench.now)
    override(bench, A, "ready", "drain")
    assert bench.board.admin(slot) == READY
    bench.publisher.hear(A, report(None, State.DRAIN), bench.now)
    assert bench.board.admin(slot) == READY
    bench.publisher.hear(A, report(None, State.READY), bench.now)
    bench.publisher.hear(A, report(None, State.DRAIN), bench.now)
    assert bench.board.admin(slot) == DRAIN  # a new drain


def test_ready_overrules_an_agent_that_wants_no_requests(bench: Bench) -> None:
    slot = bench.snapshot.slots[A]
    bench.publisher.hear_line(A, Line(share=0.0), bench.now)
    override(bench, A, "ready", "drain")
    bench.publisher.hear_line(A, Line(share=0.0), bench.now)
    assert bench.board.admin(slot) == READY
    bench.publisher.hear_line(A, Line(share=0.5), bench.now)
    bench.publisher.hear_line(A, Line(share=0.0), bench.now)
    assert bench.board.admin(slot) == DRAIN


@pytest.mark.parametrize("state, admin", [("drain", DRAIN), ("ready", READY)])
def test_a_new_process_knows_the_commands(bench: Bench, state: AdminState, admin: int) -> None:
    slot = bench.snapshot.slots[A]
    overrules: AdminState | None = "drain" if state == "ready" else None
    override(bench, A, state, overrules)
    successor = Publisher(bench.board, bench.now)
    successor.apply(bench.snapshot)
    assert bench.board.admin(slot) == admin
    successor.hear(A, report(None, State.DRAIN), bench.now)
    assert bench.board.admin(slot) == admin
    successor.apply(bench.snapshot.with_overrides(Overrides()))
    assert bench.board.admin(slot) == DRAIN  # its agent's


def test_a_weight_by_command_replaces_the_configured_one(bench: Bench) -> None:
    weighed = bench.snapshot.with_overrides(Overrides({"app/a": Override(None, 9)}))
    bench.publisher.apply(weighed)
    assert bench.run(60.0)[0] == 9.0
    assert weighed.members("app")[0][1] == 9.0
