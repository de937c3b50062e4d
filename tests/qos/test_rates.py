"""The rate limiter: GCRA, exact over processes, and what a flood of new keys can and cannot do."""

import mmap
import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qos.rates import BUCKET, JOURNAL, TICK, RateTable

SECOND = 1_000_000_000
NOW = 1_000 * SECOND
SECRET = bytes(16)
TAG = 1 << 44


def table(buckets: int = 64) -> RateTable:
    return RateTable(bytearray(buckets * 64), SECRET)


def shared(buckets: int = 64) -> RateTable:
    return RateTable(mmap.mmap(-1, buckets * 64), SECRET)


def keys_of_one_bucket(count: int) -> list[int]:
    return [number * TAG for number in range(1, count + 1)]


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    rates = table()
    assert [rates.ask(7, 10.0, 5, NOW) for _ in range(5)] == [0] * 5
    wait = -rates.ask(7, 10.0, 5, NOW)
    assert wait == pytest.approx(SECOND / 10, rel=1e-5)
    assert rates.ask(7, 10.0, 5, NOW + wait - 2 * TICK) < 0
    assert rates.ask(7, 10.0, 5, NOW + wait) == 0
    assert rates.ask(7, 10.0, 5, NOW + wait) < 0


def test_what_was_refused_costs_nothing() -> None:
    rates = table()
    rates.ask(7, 1.0, 1, NOW)
    first = [rates.ask(7, 1.0, 1, NOW) for _ in range(1000)]
    assert len(set(first)) == 1
    assert rates.ask(7, 1.0, 1, NOW - first[0]) == 0


def test_idle_time_saves_up_no_more_than_a_burst() -> None:
    rates = table()
    rates.ask(7, 10.0, 5, NOW)
    later = NOW + 3600 * SECOND
    assert [rates.ask(7, 10.0, 5, later) == 0 for _ in range(6)] == [True] * 5 + [False]


def test_patience_makes_requests_wait_for_their_turn() -> None:
    rates = table()
    waits = [rates.ask(7, 10.0, 1, NOW, SECOND // 4) for _ in range(4)]
    assert waits[:3] == [0, *(pytest.approx(SECOND / 10 * i, rel=1e-5) for i in (1, 2))]
    assert waits[3] < 0  # it would have to wait 300 ms


def test_a_request_given_back_counts_no_more() -> None:
    rates = table()
    assert rates.ask(7, 1.0, 1, NOW) == 0
    rates.refund(7, 1.0, 1)
    assert rates.ask(7, 1.0, 1, NOW) == 0
    assert rates.ask(7, 1.0, 1, NOW) < 0


@given(
    st.floats(0.1, 1000.0),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, SECOND)), min_size=1, max_size=200),
)
@settings(deadline=None)
def test_no_window_has_more_than_the_burst_and_the_rate(rate: float, burst: int, asked: list[tuple[int, int]]) -> None:
    rates = table(1)
    now = NOW
    allowed: dict[int, list[int]] = {}
    for key, pause in asked:
        now += pause
        if rates.ask((key + 1) * TAG, rate, burst, now) == 0:
            allowed.setdefault(key, []).append(now)
    for times in allowed.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                interval = max(1, round(1e9 / rate / TICK)) * TICK
                room = (times[last] - times[first] + TICK) / interval + burst
                assert last - first + 1 <= room + 1e-6


def test_an_entry_is_right_again_when_its_time_has_wrapped() -> None:
    rates = table()
    wrap = TICK << 44
    for now in (wrap - SECOND // 2, wrap - 1, wrap + SECOND):
        assert rates.ask(7, 10.0, 5, now) == 0
    assert [rates.ask(7, 10.0, 5, wrap - TICK) == 0 for _ in range(6)].count(True) <= 5
    for days in (1, 10, 25, 27, 40, 50):  # an old entry never looks like a debt
        assert rates.ask(7, 10.0, 5, wrap + SECOND + days * 86400 * SECOND) == 0
        rates = table()
        rates.ask(7, 10.0, 5, wrap + SECOND)


def test_tables_of_another_size_are_refused() -> None:
    for size in (0, 63, 65, 192):
        with pytest.raises(ValueError, match="power of two"):
            RateTable(bytearray(size), SECRET)
    with pytest.raises(ValueError, match="16 bytes"):
        RateTable(bytearray(64), b"")


def test_64_mib_hold_8_million_keys() -> None:
    assert RateTable(mmap.mmap(-1, 64 << 20), SECRET).keys == 8 * 1024 * 1024


# ---------------------------------------------------------------------------------------------------- floods of new keys


def test_a_flood_of_new_keys_does_not_free_a_key_that_is_over_its_limit() -> None:
    rates = table(64)
    attacker = 5 * TAG + 3
    assert [rates.ask(attacker, 1.0, 10, NOW) for _ in range(11)][-1] < 0
    # 100 times as many keys as there is room for, in the second in which the attacker may have one request more.
    flood = rates.keys * 100
    got = 0
    for part in range(100):
        now = NOW + part * SECOND // 100
        rates.storm(1 + part * flood, flood // 100, 1.0, 10, now, 1)
        got += rates.ask(attacker, 1.0, 10, now) == 0
    assert got == 0
    assert rates.ask(attacker, 1.0, 10, NOW + SECOND + TICK) == 0


def test_a_flood_of_new_keys_limits_no_other_key() -> None:
    rates = table(64)
    assert rates.storm(1, rates.keys * 100, 1.0, 1, NOW, 1) >= rates.keys * 100 * 0.999
    draw = random.Random(1)
    others = [draw.getrandbits(64) for _ in range(200)]
    assert [key for key in others if rates.ask(key, 1.0, 1, NOW) != 0] == []


def test_a_bucket_without_room_forgets_the_key_that_owes_least() -> None:
    rates = table(1)
    *heavy, light, new = keys_of_one_bucket(BUCKET + 1)
    for key in heavy:
        assert [rates.ask(key, 1.0, 5, NOW) for _ in range(5)] == [0] * 5
    assert rates.ask(light, 1.0, 5, NOW) == 0
    assert rates.ask(new, 1.0, 5, NOW) == 0
    assert {tag for _, tag, _ in rates.entries()} == {key // TAG for key in (*heavy, new)}
    assert all(rates.ask(key, 1.0, 5, NOW) < 0 for key in heavy)


def test_a_key_without_debt_is_replaced_first() -> None:
    rates = table(1)
    *old, last, new = keys_of_one_bucket(BUCKET + 1)
    for i, key in enumerate(old):
        rates.ask(key, 1.0, 1, NOW + i)
    later = NOW + 2 * SECOND
    rates.ask(last, 1.0, 1, later)
    rates.ask(new, 1.0, 1, later)
    assert rates.ask(last, 1.0, 1, later) < 0
    assert rates.ask(new, 1.0, 1, later) < 0
    assert old[0] // TAG not in {tag for _, tag, _ in rates.entries()}


def test_keys_in_debt_at_a_quarter_of_the_capacity_are_all_remembered() -> None:
    rates = table(1024)
    count = rates.keys // 4
    rates.storm(1, count, 1.0, 1, NOW, 1)
    again = rates.storm(1, count, 1.0, 1, NOW, 1)
    assert again <= count // 500  # of a Poisson's tail: buckets with more than 8 of 2 on average


# ----------------------------------------------------------------------------------------------------- several processes


def in_children(count: int, work: Callable[[int], int]) -> int:
    """The sum of what `work` returns in so many processes at the same time."""
    reading, writing = os.pipe()
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            os.write(writing, b"%12d" % work(number))
            os._exit(0)
        pids.append(pid)
    os.close(writing)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    with os.fdopen(reading, "rb") as pipe:
        return sum(int(pipe.read(12)) for _ in pids)


def test_processes_that_share_a_table_count_exactly() -> None:
    rates = shared()
    burst = 100_000
    assert in_children(4, lambda _: rates.storm(7, burst, 1000.0, burst, NOW)) == burst


def test_a_new_key_is_counted_once_in_any_order() -> None:
    rates = shared(1024)
    draw = random.Random(2)
    keys = [draw.getrandbits(64) for _ in range(1000)]

    def take_each(_: int) -> int:
        return sum(rates.ask(key, 1.0, 3, NOW) == 0 for key in keys for _ in range(3))

    assert in_children(4, take_each) == 3 * len(keys)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_the_table_whole() -> None:
    rates = shared(4)
    for number in range(30):
        pid = os.fork()
        if pid == 0:
            while True:
                rates.storm(number * 1_000_000, 100_000, 1000.0, 3, NOW, 1)
        time.sleep(0.002)  # long enough to be in the middle of it, and it does not matter where
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    interval = round(1e9 / 1000.0 / TICK)
    ticks = NOW // TICK
    entries = rates.entries()
    assert len(entries) == rates.keys
    assert all(tag and 1 <= (time - ticks) // interval <= 3 for _, tag, time in entries)
    assert [rates.ask(11 * TAG, 1.0, 5, NOW + 1) == 0 for _ in range(6)] == [True] * 5 + [False]


# ------------------------------------------------------------------------------------------------------ other gateways


def noted() -> RateTable:
    made = RateTable(bytearray(64 * 64), SECRET, bytearray(JOURNAL))
    made.news()  # what was counted before the first look is not told
    return made


def tell(one: RateTable, other: RateTable, now: int) -> None:
    for key, used in one.news().items():
        other.advance(key, used, now)


def test_gateways_that_tell_each_other_count_as_one() -> None:
    one, other = noted(), noted()
    assert [one.ask(5, 1.0, 6, NOW) for _ in range(4)] == [0] * 4
    tell(one, other, NOW)
    assert [other.ask(5, 1.0, 6, NOW) for _ in range(2)] == [0, 0]
    assert other.ask(5, 1.0, 6, NOW) < 0
    tell(other, one, NOW)
    assert one.ask(5, 1.0, 6, NOW) < 0
    assert one.ask(6, 1.0, 6, NOW) == 0
    assert one.ask(5, 1.0, 6, NOW + 1_000_000_000) == 0  # made up for at the rate
    assert one.ask(5, 1.0, 6, NOW + 1_000_000_000) < 0


def test_what_was_given_back_is_told_as_well_and_nothing_twice() -> None:
    one, other = noted(), noted()
    one.ask(5, 1.0, 1, NOW)
    one.refund(5, 1.0, 1)
    tell(one, other, NOW)
    assert other.ask(5, 1.0, 1, NOW) == 0
    assert one.news() == {}
    assert list(other.news()) == [5]  # what it has heard is not told on
    other.advance(5, -(10**12), NOW)
    assert other.ask(5, 1.0, 1, NOW) == 0


def test_of_more_than_there_is_room_for_the_last_are_told() -> None:
    one = noted()
    one.storm(1, 100_000, 100_000.0, 1_000_000, NOW, 1)
    assert len(one.news()) == 32768
    assert one.news() == {}


def test_the_journal_has_its_size() -> None:
    with pytest.raises(ValueError, match="the journal has another size"):
        RateTable(bytearray(64 * 64), SECRET, bytearray(100))
