"""Checks of passwords beside the traffic: how many wait, and what is left of those that nobody waits for."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from gateway.proxy.password_checks import FULL, MOST, MOST_OF_CLIENT, TOO_MANY, PasswordChecks
from gateway.rules.basic_auth import Login
from tests.support.waiting import soon


class Slow:
    """Credentials that are good; their check waits until it is let go."""

    def __init__(self, name: int, go: threading.Event) -> None:
        self.key = b"%d" % name
        self._go = go
        self.checked = 0
        self.known: list[bool] = []

    def check(self) -> bool:
        self.checked += 1
        assert self._go.wait(30)
        return True

    def settle(self, *, good: bool) -> None:
        self.known.append(good)


Make = Callable[[int], Login]


@pytest.fixture
def go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def make(go: threading.Event) -> Make:
    return lambda name: cast("Login", Slow(name, go))


def ignore(_: bool) -> None:  # noqa: FBT001 - as it is told
    pass


async def test_a_check_of_an_ended_request_is_removed_at_once(make: Make) -> None:
    checks = PasswordChecks(asyncio.get_running_loop())
    assert checks.ask(make(0), b"192.0.2.1", 0, ignore) == 0
    left = []
    for number in range(1, 100):
        login = make(number)
        assert checks.ask(login, b"192.0.2.1", number, ignore) == 0, "those before have ended"
        checks.forget(login, number)
        left.append(weakref.ref(login))
        del login
    gc.collect()
    assert [one for one in left if one() is not None] == []


async def test_checks_that_are_waited_for_are_bounded(make: Make) -> None:
    checks = PasswordChecks(asyncio.get_running_loop())
    said = [checks.ask(make(number), b"192.0.2.1", number, ignore) for number in range(MOST_OF_CLIENT + 1)]
    assert said == [0] * MOST_OF_CLIENT + [TOO_MANY]
    others = range(MOST_OF_CLIENT, MOST + 1)
    said = [checks.ask(make(number), b"198.51.100.%d" % (number % 256), number, ignore) for number in others]
    assert said == [0] * (MOST - MOST_OF_CLIENT) + [FULL]


async def test_a_request_gets_the_result_after_another_with_its_password_was_forgotten(
    make: Make, go: threading.Event
) -> None:
    checks = PasswordChecks(asyncio.get_running_loop())
    busy, one, same = make(0), make(1), make(1)
    told: list[bool] = []
    checks.ask(busy, b"192.0.2.1", 0, ignore)
    checks.ask(one, b"192.0.2.1", 1, ignore)
    checks.forget(one, 1)
    checks.ask(same, b"192.0.2.1", 2, told.append)
    go.set()
    await soon(lambda: told, "the result")
    assert told == [True]
    assert cast("Slow", same).known == [True]
    assert cast("Slow", one).checked == 0


async def test_a_request_joins_a_check_under_way_that_was_forgotten(make: Make, go: threading.Event) -> None:
    checks = PasswordChecks(asyncio.get_running_loop())
    one, same = make(1), make(1)
    told: list[bool] = []
    checks.ask(one, b"192.0.2.1", 1, ignore)
    await soon(lambda: cast("Slow", one).checked, "the check to begin")
    checks.forget(one, 1)
    checks.ask(same, b"192.0.2.1", 2, told.append)
    go.set()
    await soon(lambda: told, "the result")
    assert (told, cast("Slow", same).checked) == ([True], 0)
