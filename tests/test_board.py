"""The shared table, over processes."""

import mmap
import os

import pytest

from gateway.balance.policy import Members
from gateway.board import BOUNDS, DOWN, SERVERS, TRAFFIC, UNKNOWN, UP, Board


def test_a_new_board_is_empty() -> None:
    board = Board()
    assert (board.state(0), board.weight(0), board.in_flight(0), board.requests(SERVERS - 1)) == (UNKNOWN, 0.0, 0, 0)


def test_a_process_reads_the_writes_of_another() -> None:
    board = Board()
    pid = os.fork()
    if pid == 0:
        board.set_state(7, DOWN)
        board.set_weight(7, 2.5)
        board.add_in_flight(7, 3, 2)
        os._exit(0)
    os.waitpid(pid, 0)
    again = Board(board.fd)
    assert (again.state(7), again.weight(7), again.in_flight(7)) == (DOWN, 2.5, 2)
    again.set_state(7, UP)
    board.set_weight(7, 3.0)
    assert (board.state(7), Board(board.fd).state(7)) == (DOWN, DOWN)


def test_no_process_can_truncate_it_or_write_by_its_descriptor() -> None:
    """A process that could would end all others: SIGBUS where they look."""
    board = Board()
    with pytest.raises(OSError, match="Invalid argument"):
        os.ftruncate(board.fd, 0)
    again = os.open(f"/proc/self/fd/{board.fd}", os.O_RDWR)
    try:
        for size in (0, board.size + 4096):
            with pytest.raises(PermissionError):
                os.ftruncate(again, size)
        with pytest.raises(PermissionError):
            os.pwrite(again, b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(again, 4096)
    finally:
        os.close(again)
    assert os.fstat(board.fd).st_size == board.size


def test_a_dead_worker_leaves_nothing_in_flight() -> None:
    board = Board()
    board.add_in_flight(1, 0, 4)
    board.add_in_flight(1, 1, 2)
    board.clear_worker(0, 2, 1)
    assert board.in_flight(1) == 2


def test_traffic_is_summed_over_workers() -> None:
    board = Board()
    for worker in range(2):
        board.set_pulse(worker, 1.0)
    for worker, status, seconds in ((0, 200, 0.0004), (1, 204, 0.0005), (1, 503, 0.3), (1, 499, 31.0), (0, 101, 2.0)):
        board.pass_through(3, worker, status, seconds)
    found = board.passed_through(3)
    assert (found.answers, found.unanswered) == ((1, 2, 0, 0, 1), 1)
    assert [found.durations[BOUNDS.index(bound)] for bound in (0.0005, 0.001, 0.5, 2.0)] == [2, 0, 1, 1]
    assert found.durations[-1] == 1
    assert sum(found.durations) == 5
    assert found.seconds == pytest.approx(33.3009)
    board.clear_traffic(3)
    assert board.passed_through(3).answers == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("row", [-1, TRAFFIC])
def test_rows_of_traffic_are_checked(row: int) -> None:
    with pytest.raises(IndexError, match="not on the board"):
        Board().passed_through(row)


def test_a_cleared_server_is_new() -> None:
    board = Board()
    board.set_state(1, DOWN)
    board.add_in_flight(1, 0, 4)
    board.clear_server(1)
    assert (board.state(1), board.in_flight(1)) == (UNKNOWN, 0)


@pytest.mark.parametrize("slot", [-1, SERVERS])
def test_slots_are_checked(slot: int) -> None:
    with pytest.raises(IndexError, match="not on the board"):
        Board().state(slot)


@pytest.mark.parametrize("sessions", [0, 1, 100, 3000])
def test_sessions_are_counted_about_right_and_forgotten(sessions: int) -> None:
    board = Board()
    minute = 60 * 10**9
    members = Members(board, [(0, 1.0, 0, False, "a"), (1, 1.0, 0, False, "b")], 1)
    for session in range(sessions):
        members.see(1, session * 7919 + 1, now=5 * minute)
    assert board.sessions(1, 5 * minute) == pytest.approx(sessions, rel=0.1)
    assert board.sessions(1, 14 * minute) == pytest.approx(sessions, rel=0.1)
    assert board.sessions(1, 15 * minute) == 0
    assert board.sessions(0, 5 * minute) == 0
