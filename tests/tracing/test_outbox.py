"""What waits for the collector: nothing is lost that is not counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tracing.outbox import BATCH, EVERY, FIRST_PAUSE, LONGEST_PAUSE, MOST, REASONS, Outbox
from gateway.tracing.spans import Traced


def traced(number: int) -> Traced:
    return Traced({"trace": number}, {})


def filled(count: int, now: float = 100.0) -> Outbox:
    outbox = Outbox()
    for number in range(count):
        outbox.put(traced(number), now)
    return outbox


def numbers(batch: list[Traced]) -> list[int]:
    return [one.trace["trace"] for one in batch]


def test_a_batch_is_due_when_it_is_full_or_old() -> None:
    assert Outbox().due() == float("inf")
    assert filled(1).due() == 100.0 + EVERY
    assert filled(BATCH).due() == 0.0
    assert numbers(filled(BATCH + 3).take()) == list(range(BATCH))


def test_what_failed_comes_again_first_and_later_each_time() -> None:
    outbox = filled(3)
    pauses = []
    now = 200.0
    for _ in range(8):
        outbox.failed(outbox.take(), "no", now)
        pauses.append(outbox.due() - now)
        now = outbox.due()
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    outbox.put(traced(3), now)
    assert outbox.failing == "no"
    batch = outbox.take()
    assert numbers(batch) == [0, 1, 2, 3]
    outbox.sent(len(batch), 0, now)
    assert (outbox.failing, outbox.exported, sum(outbox.lost.values())) == ("", 4, 0)


@pytest.mark.parametrize("wait, pause", [(0.0, FIRST_PAUSE), (7.0, 7.0), (1e9, LONGEST_PAUSE)])
def test_the_collector_may_ask_for_a_longer_pause(wait: float, pause: float) -> None:
    outbox = filled(1)
    outbox.failed(outbox.take(), "503", 200.0, wait)
    assert outbox.due() == 200.0 + pause


def test_the_oldest_are_lost() -> None:
    outbox = filled(MOST + 2)
    assert (len(outbox), outbox.lost["waiting"]) == (MOST, 2)
    batch = outbox.take()
    assert numbers(batch)[0] == 2
    for number in range(BATCH - 1):
        outbox.put(traced(number), 101.0)
    outbox.failed(batch, "no", 102.0)
    assert len(outbox) == MOST
    assert outbox.lost["waiting"] == 2 + BATCH - 1
    assert numbers(outbox.take())[0] == 2 + BATCH - 1, "the newest of the batch is kept"


@given(
    st.lists(
        st.one_of(
            st.integers(1, 3000),
            st.sampled_from(["sent", "rejected", "refused", "failed", "stop"]),
        ),
        max_size=30,
    )
)
def test_each_is_exported_lost_or_waiting(steps: list[int | str]) -> None:
    outbox, put, now = Outbox(), 0, 0.0
    for step in steps:
        now += 1
        if isinstance(step, int):
            for _ in range(step):
                outbox.put(traced(0), now)
            put += step
        elif step == "stop":
            outbox.stop()
        else:
            batch = outbox.take()
            if step == "failed":
                outbox.failed(batch, "no", now)
            elif step == "refused":
                outbox.refused(len(batch), "no", now)
            else:
                outbox.sent(len(batch), 10**6 if step == "rejected" else 0, now)
        assert outbox.exported + sum(outbox.lost.values()) + len(outbox) == put
        assert len(outbox) <= MOST
        assert set(outbox.lost) == set(REASONS)
