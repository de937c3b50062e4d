"""What is learned of servers from their answers, with a clock of our own."""

import pytest

from gateway.balance.estimate import answered, drift, expected, picked
from gateway.balance.policies import new_policy
from gateway.balance.policy import Members
from gateway.board import Board

MS = 1_000_000


class Clock:
    """Milliseconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000 * MS

    def wait(self, milliseconds: float) -> int:
        self.now += round(milliseconds * MS)
        return self.now


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def serve(board: Board, clock: Clock, slot: int, *, takes: float, failed: bool = False, worker: int = 0) -> None:
    """One request with no other ahead of it, answered after `takes` ms."""
    since = clock.now
    ahead = picked(board, slot, worker, since)
    answered(board, slot, worker, clock.wait(takes), since, ahead, failed=failed)


def test_nothing_is_known_of_a_server_that_has_not_answered(board: Board, clock: Clock) -> None:
    assert expected(board, 0, 4, clock.now) == 0.0
    assert drift(board, 0, 4, clock.now) == 1.0


@pytest.mark.parametrize("slots", [1, 4])
def test_the_wait_for_requests_ahead_is_learned(board: Board, clock: Clock, slots: int) -> None:
    """A server that does `slots` things at a time, 20 ms each, first come first served."""
    for burst in range(1, 40):
        began = clock.now
        arrivals = [picked(board, 0, burst % 3, began) for _ in range(burst % 12 + 1)]
        for index, ahead in enumerate(arrivals):
            end = began + (index // slots + 1) * 20 * MS
            answered(board, 0, burst % 3, end, began, ahead)
            clock.now = end
    for ahead in (0, 8):
        truth = 0.020 * (ahead // slots + 1)
        assert expected(board, 0, 4, clock.now, ahead) == pytest.approx(truth, rel=0.3)
    # What one more request ahead adds.
    slope = expected(board, 0, 4, clock.now, 9) - expected(board, 0, 4, clock.now, 8)
    assert slope == pytest.approx(0.020 / slots, rel=0.2)


def test_a_server_that_turns_slow_is_noticed_within_a_few_answers(board: Board, clock: Clock) -> None:
    for _ in range(500):
        serve(board, clock, 0, takes=10)
    assert drift(board, 0, 4, clock.now) == 1.0
    for _ in range(8):
        serve(board, clock, 0, takes=120)
    assert expected(board, 0, 4, clock.now) > 0.030
    for _ in range(8):
        serve(board, clock, 0, takes=120)
    assert expected(board, 0, 4, clock.now) > 0.090


def test_one_endless_answer_is_not_yet_a_slow_server(board: Board, clock: Clock) -> None:
    for _ in range(500):
        serve(board, clock, 0, takes=10)
    serve(board, clock, 0, takes=30_000)
    assert expected(board, 0, 4, clock.now) < 0.020


def test_requests_that_are_overdue_count_before_they_are_answered(board: Board, clock: Clock) -> None:
    for _ in range(100):
        serve(board, clock, 0, takes=10)
    since = [picked(board, 0, worker, clock.now) for worker in (0, 1, 2, 3)]
    assert len(since) == 4
    assert drift(board, 0, 4, clock.wait(5)) == 1.0
    assert drift(board, 0, 4, clock.wait(1000)) > 3


def test_a_good_answer_after_a_long_silence_keeps_the_previous_estimate(board: Board, clock: Clock) -> None:
    for _ in range(100):
        serve(board, clock, 0, takes=10)
    for _ in range(20):
        serve(board, clock, 0, takes=200)
    slow = expected(board, 0, 4, clock.now)
    clock.wait(60_000)
    assert expected(board, 0, 4, clock.now) == slow  # silence says nothing
    serve(board, clock, 0, takes=10)
    assert 0.030 < expected(board, 0, 4, clock.now) < slow
    for _ in range(20):
        serve(board, clock, 0, takes=10)
        clock.wait(1000)
    assert expected(board, 0, 4, clock.now) < 0.013


def test_a_server_that_fails_fast_does_not_look_quick(board: Board, clock: Clock) -> None:
    for _ in range(50):
        serve(board, clock, 0, takes=20)
        serve(board, clock, 1, takes=20)
    for _ in range(50):
        serve(board, clock, 1, takes=0.1, failed=True)
    assert expected(board, 1, 4, clock.now) > 3 * expected(board, 0, 4, clock.now)
    assert board.streak(1) == 50
    serve(board, clock, 1, takes=20)
    assert board.streak(1) == 0


def test_one_that_never_did_anything_but_fail_does_not_attract_requests_either(board: Board, clock: Clock) -> None:
    members = Members(board, [(0, 1.0, 0, False, "good"), (1, 1.0, 0, False, "bad")], 1)
    policy = new_policy("measured")
    sent = [0, 0]
    for _ in range(400):
        server = policy.choose(members, (), clock.wait(3))
        sent[server] += 1
        serve(board, clock, server, takes=20 if server == 0 else 0.1, failed=server == 1)
    assert sent[1] < 12


def test_measurements_of_all_workers_are_combined(board: Board, clock: Clock) -> None:
    for _ in range(50):
        serve(board, clock, 0, takes=10, worker=0)
        serve(board, clock, 0, takes=30, worker=1)
    assert expected(board, 0, 2, clock.now) == pytest.approx(0.020, rel=0.05)


def test_requests_of_a_dead_worker_do_not_stay_overdue(board: Board, clock: Clock) -> None:
    for _ in range(50):
        serve(board, clock, 0, takes=10, worker=1)
    picked(board, 0, 0, clock.now)
    board.clear_worker(0, 1, 1)
    assert drift(board, 0, 4, clock.wait(10_000)) == 1.0


def test_the_quicker_server_gets_the_request_until_its_queue_is_longer(board: Board, clock: Clock) -> None:
    for _ in range(300):
        serve(board, clock, 0, takes=10)
        serve(board, clock, 1, takes=40)
    # One at a time: each request ahead costs what one takes.
    for slot, takes in ((0, 10), (1, 40)):
        for _ in range(100):
            began = clock.now
            for index, ahead in enumerate([picked(board, slot, 0, began) for _ in range(4)]):
                answered(board, slot, 0, clock.wait(takes), began, ahead)
                assert index == ahead
    members = Members(board, [(0, 1.0, 0, False, "quick"), (1, 1.0, 0, False, "slow")], 1)
    policy = new_policy("measured")
    order = []
    for _ in range(10):
        server = policy.choose(members, (), clock.now)
        order.append(server)
        board.add_in_flight(server, 0, 1)
    assert order[:2] == [0, 0]
    assert order.count(1) == 2


def test_a_server_out_of_favour_is_asked_now_and_then(board: Board, clock: Clock) -> None:
    for _ in range(100):
        serve(board, clock, 0, takes=10)
        serve(board, clock, 1, takes=300)
    members = Members(board, [(0, 1.0, 0, False, "quick"), (1, 1.0, 0, False, "slow")], 1)
    policy = new_policy("measured")
    sent = [0, 0]
    for _ in range(8000):
        server = policy.choose(members, (), clock.now)
        sent[server] += 1
        serve(board, clock, server, takes=10)  # both are quick now, and it has to be found out
    assert sent[1] > 1000
