import logging

import pytest

from gateway.load.refusals import Refusals
from loadagent.log_throttle import MAX_TOPICS


def test_a_flood_from_many_sources_is_counted_whole_and_logged_in_part(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    refusals = Refusals("load report", logging.getLogger("gateway.load"), lambda: now)
    for number in range(20_000):
        refusals.note("signature", "the signature is wrong", f"10.0.{number >> 8}.{number & 255}")
    assert refusals.counts == {"signature": 20_000}
    assert len(caplog.records) == MAX_TOPICS + 1
    now = 60.0
    caplog.clear()
    refusals.note("signature", "the signature is wrong", "10.0.0.0")
    for number in range(MAX_TOPICS):
        refusals.note("signature", "the signature is wrong", f"10.9.{number >> 8}.{number & 255}")
    assert caplog.messages[-1] == (
        f"load report from 10.9.3.255 refused: the signature is wrong ({20_000 - MAX_TOPICS - 1} more like this before)"
    )
