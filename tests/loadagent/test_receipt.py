"""Trials and receipts: the datagrams of `loadagent test`."""

import pytest

from loadagent.receipt import (
    Opinion,
    Receipt,
    Trial,
    decode_receipt,
    encode_receipt,
    encode_trial,
    is_signed,
    read_trial,
)
from loadagent.report import BadReport, Report, claimed_server, decode, encode

KEY = b"0123456789abcdef0123456789abcdef"
OTHER = b"another key of 32 bytes, as long"
TRIAL = Trial(7, 1_700_000_000_000_000_000, "app1", "shop")
RECEIPT = Receipt(Opinion.CLOCK, 7, 1_700_000_031_000_000_000, 250)
LONG = Trial(2**64 - 1, 2**64 - 1, "a" * 64, "b" * 64)


@pytest.mark.parametrize("trial", [TRIAL, LONG, Trial(0, 0, "a")])
def test_a_trial_arrives_as_it_was_sent(trial: Trial) -> None:
    data = encode_trial(trial, KEY)
    assert read_trial(data) == trial
    assert is_signed(data, KEY)
    assert not is_signed(data, OTHER)


@pytest.mark.parametrize("receipt", [RECEIPT, Receipt(Opinion.ACCEPTED, 7, 1, None)])
def test_a_receipt_arrives_as_it_was_sent(receipt: Receipt) -> None:
    data = encode_receipt(receipt, KEY)
    assert decode_receipt(data, KEY, 7) == receipt
    assert decode_receipt(data, OTHER, 7) is None
    assert decode_receipt(data, KEY, 8) is None


@pytest.mark.parametrize("opinion", Opinion)
def test_without_a_signature_only_refusals_for_want_of_a_key_are_believed(opinion: Opinion) -> None:
    data = encode_receipt(Receipt(opinion, 7, 1, 2), b"")
    believed = opinion in {Opinion.WRONG_KEY, Opinion.UNKNOWN_SERVER}
    assert decode_receipt(data, KEY, 7) == (Receipt(opinion, 7) if believed else None)


def test_no_receipt_is_longer_than_the_shortest_trial() -> None:
    shortest = len(encode_trial(Trial(0, 0, "a"), KEY))
    assert len(encode_receipt(RECEIPT, KEY)) <= shortest
    assert len(encode_receipt(RECEIPT, b"")) <= shortest


def test_a_trial_is_no_report_and_a_report_no_trial() -> None:
    with pytest.raises(BadReport):
        decode(encode_trial(TRIAL, KEY), KEY)
    assert read_trial(encode(Report("app1", 1, 1, 1, metrics=dict.fromkeys("abcdef", 1.0)), KEY)) is None
    assert claimed_server(encode_trial(TRIAL, KEY)) != "app1"


def test_a_datagram_that_was_cut_or_changed_is_refused() -> None:
    trial, receipt = encode_trial(TRIAL, KEY), encode_receipt(RECEIPT, KEY)
    for end in range(len(trial)):
        assert read_trial(trial[:end]) is None or not is_signed(trial[:end], KEY)
    for end in range(len(receipt)):
        assert decode_receipt(receipt[:end], KEY, 7) is None
    for at in range(len(trial)):
        assert not is_signed(trial[:at] + bytes([trial[at] ^ 1]) + trial[at + 1 :], KEY)
    for at in range(len(receipt)):
        assert decode_receipt(receipt[:at] + bytes([receipt[at] ^ 1]) + receipt[at + 1 :], KEY, 7) is None
