import asyncio

import pytest

from gateway.control.tasks import RESTART_DELAY, keep_running, stop


async def test_what_fails_is_logged_and_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0
    slept = []

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError("oh")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await keep_running("work", work, sleep)
    assert runs == 3
    assert slept == [RESTART_DELAY] * 2
    assert caplog.messages == ["work failed; restarting in 1 s"] * 2


async def test_stop_waits_until_all_are_gone() -> None:
    ended = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    tasks = [asyncio.create_task(keep_running(name, lambda name=name: work(name))) for name in "ab"]  # type: ignore[misc]
    await asyncio.sleep(0)
    await stop(tasks)
    assert sorted(ended) == ["a", "b"]
    assert all(task.cancelled() for task in tasks)


async def test_a_task_that_loses_its_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.wait_for(stop([task]), 5)
    assert (task.cancelled(), lost) == (True, 3)
