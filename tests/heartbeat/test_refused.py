"""Beats of strangers: what the log and `gateway status` say of them."""

import logging

import pytest

from gateway.heartbeat import show
from gateway.heartbeat.refused import LATELY, MEANINGS, MOST, RefusedBeats
from tests.admin.reports import heartbeat


def test_a_wrong_key_is_logged_once_and_shown_with_its_sender(caplog: pytest.LogCaptureFixture) -> None:
    refused = RefusedBeats()
    with caplog.at_level(logging.WARNING):
        for second in range(10):
            refused.note("signature", "192.0.2.2", float(second))
    assert [record.getMessage() for record in caplog.records] == [
        f"beat from 192.0.2.2 refused: {MEANINGS['signature']}"
    ]
    (found,) = refused.report(9.5)
    assert (found.sender, found.count, found.ago) == ("192.0.2.2", 10, 0.5)
    lines = show.text(heartbeat(refused_lately=(found,))).splitlines()
    assert any(line.startswith("BEATS REFUSED from 192.0.2.2 (10 times, the last one 0.5 s ago)") for line in lines)
    assert any("signed with another key" in line for line in lines)


def test_what_a_link_repeats_is_no_concern_of_operators() -> None:
    refused = RefusedBeats()
    refused.note("replayed", "192.0.2.2", 0.0)
    refused.note("former life", "192.0.2.2", 0.0)
    assert list(refused.report(0.0)) == []


def test_old_and_too_many_senders_are_forgotten() -> None:
    refused = RefusedBeats()
    for number in range(MOST + 1):
        refused.note("signature", f"192.0.2.{number}", float(number))
    assert [found.sender for found in refused.report(float(MOST))] == [f"192.0.2.{n}" for n in range(1, MOST + 1)]
    assert list(refused.report(MOST + LATELY + 1.0)) == []
