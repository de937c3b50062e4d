import asyncio

import pytest

from gateway.demo.pool import Pool


async def test_load_is_the_busy_share_averaged_over_about_a_second():
    now = 100.0
    pool = Pool(4, lambda: now)
    assert pool.load == 0.0
    async with pool.executor(), pool.executor(), pool.executor():
        now += 1.0
        assert pool.load == pytest.approx(0.75 * (1 - 1 / 2.718281828))
        now += 60.0
        assert pool.load == pytest.approx(0.75)
    now += 1.0
    assert pool.load == pytest.approx(0.75 / 2.718281828)


async def test_executors_are_limited_and_returned():
    pool = Pool(1, lambda: 0.0)
    async with pool.executor():
        waiting = asyncio.create_task(pool.executor().__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 1)
