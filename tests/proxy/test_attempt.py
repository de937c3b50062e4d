"""Attempt by itself: servers picked, gone to, counted, timed and passed over, without a request and without HTTP."""

import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from gateway.balance.policies import new_policy
from gateway.balance.policy import Members
from gateway.board import DOWN, Board
from gateway.proxy.attempt import Task
from gateway.proxy.backend import Backend, ServerProtocol
from gateway.proxy.loop import EventLoop
from gateway.proxy.queue import Waiter, WaitQueue
from gateway.proxy.retry import Retries
from gateway.proxy.server import Server

WORKERS = 2
NAMES = ("one", "two")


class Farm:
    """Two servers that accept connections and say nothing, and a backend of them."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.poller = self.loop.poller
        self.board = Board()
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in NAMES]
        addresses = [sock.getsockname() for sock in self.sockets]
        self.servers = [
            Server("app", name, address, self.board, slot, 0)
            for slot, (name, address) in enumerate(zip(NAMES, addresses, strict=True))
        ]
        self.queue = WaitQueue(self.poller, self.board, 0, 0, WORKERS, 5, 1.0)
        self.members = Members(self.board, [(slot, 1.0, 1, False, name) for slot, name in enumerate(NAMES)], WORKERS)
        self.backend = Backend(
            "app",
            self.servers,
            self.members,
            new_policy("round-robin"),
            (1.0, 1.0, 1.0, 1.0),
            None,
            Retries(2, ["connect"], [], ["GET"], 0.2),
            self.queue,
            ServerProtocol(),
            traffic=0,
        )

    def task(self) -> Task:
        return Task(self.poller, self.backend)

    def connected(self, i: int = 0) -> Task:
        """Work that is at a server."""
        task = self.task()
        assert task.go(i) is False
        self.turn(lambda: bool(task.heard))
        assert task.heard == ["connected"]
        return task

    def turn(self, done: Callable[[], bool]) -> None:
        for _ in range(500):
            if done():
                return
            self.poller.wait(0.01)
        raise AssertionError("nothing came of it")

    @property
    def in_flight(self) -> list[int]:
        return [self.board.in_flight(slot) for slot in range(len(NAMES))]

    def close(self) -> None:
        self.poller.stop()
        self.loop.close()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def farm() -> Iterator[Farm]:
    made = Farm()
    yield made
    in_flight = made.in_flight
    made.close()
    assert in_flight == [0, 0]


def test_to_pick_is_to_count_nothing(farm: Farm) -> None:
    task = farm.task()
    assert {task.pick() for _ in range(4)} == {0, 1}
    assert (task.tries, farm.in_flight) == (0, [0, 0])


def test_to_go_is_to_be_in_flight_until_it_is_released(farm: Farm) -> None:
    task = farm.task()
    assert task.go(1) is False
    assert task.connecting
    assert (task.tries, farm.in_flight) == (1, [0, 1])
    farm.turn(lambda: bool(task.heard))
    assert (task.heard, task.connecting) == (["connected"], False)
    task.answered()
    assert farm.in_flight == [0, 1]
    task.release()
    assert farm.in_flight == [0, 0]
    task.release()
    assert farm.in_flight == [0, 0]


def test_a_full_server_is_not_picked(farm: Farm) -> None:
    first = farm.connected(farm.task().pick())
    second = farm.task()
    i = second.pick()
    assert farm.in_flight[i] == 0
    second.go(i)
    assert farm.task().pick() == -1
    first.release()
    assert farm.task().pick() == 1 - i
    second.release()


def test_a_server_given_up_is_not_picked_again_for_this_work(farm: Farm) -> None:
    task = farm.connected(0)
    task.give_up()
    assert farm.in_flight == [0, 0]
    assert [task.pick() for _ in range(3)] == [1, 1, 1]
    assert task.go(1) is False
    task.give_up()
    assert task.pick() == -1
    assert (task.tries, farm.in_flight) == (2, [0, 0])
    assert farm.task().pick() >= 0  # others go there all the same


def test_a_server_that_is_down_is_not_picked(farm: Farm) -> None:
    farm.board.set_state(0, DOWN)
    assert [farm.task().pick() for _ in range(3)] == [1, 1, 1]


def test_to_be_released_while_connecting_closes_the_connection(farm: Farm) -> None:
    task = farm.task()
    task.go(0)
    assert farm.poller.count == 1
    task.release()
    assert (task.connecting, farm.poller.count, farm.in_flight) == (False, 0, [0, 0])
    farm.poller.wait(0.05)
    assert task.heard == []


def test_a_refused_connection_is_told_and_closed(farm: Farm) -> None:
    farm.sockets[0].close()
    task = farm.task()
    assert task.go(0) is False
    farm.turn(lambda: bool(task.heard))
    assert (task.heard, task.connecting, farm.poller.count) == ([errno.ECONNREFUSED], False, 0)
    assert farm.in_flight == [1, 0]  # until the work decides what comes of it
    task.give_up()
    assert (farm.in_flight, task.pick()) == ([0, 0], 1)


def test_a_connection_that_fails_at_once_is_told_at_once(farm: Farm) -> None:
    nowhere = Server("app", "one", "/nonexistent/socket", farm.board, 0, 0)
    farm.servers[0] = nowhere
    task = farm.task()
    assert task.go(0) is None
    assert (task.heard, task.connecting, farm.in_flight) == ([], False, [1, 0])
    task.give_up()
    assert farm.in_flight == [0, 0]


def test_a_connection_that_rests_is_used_again_unless_a_fresh_one_is_wanted(farm: Farm) -> None:
    task = farm.connected(0)
    task.release()
    task.rest()
    again = farm.task()
    assert again.go(0) is True
    assert (farm.servers[0].opened, farm.servers[0].reused, again.connecting) == (1, 1, False)
    again.release()
    again.rest()
    fresh = farm.task()
    assert fresh.go(0, fresh=True) is False
    assert (farm.servers[0].opened, farm.servers[0].reused) == (2, 1)
    fresh.release()


def test_a_place_that_comes_free_is_the_turn_of_what_waits(farm: Farm) -> None:
    task = farm.connected(0)
    called: list[Waiter] = []

    def turn(waiter: Waiter) -> None:
        waiter.turn_taken()
        called.append(waiter)

    waiter = Waiter(farm.queue, turn, farm.poller.clock())
    waiter.enter(0)
    farm.poller.wait(0)
    assert called == []
    task.release()
    farm.poller.wait(0)
    assert called == [waiter]
