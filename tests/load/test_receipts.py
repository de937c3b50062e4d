"""What a gateway answers to trials of agents."""

import pytest

from gateway.load.keys import ReportKeys
from gateway.load.receipts import BURST
from gateway.load.receiver import Receiver
from loadagent.receipt import Opinion, Receipt, Trial, decode_receipt, encode_trial
from loadagent.report import Report, encode

KEY = b"0123456789abcdef"
OWN = b"app2's own key, long enough"
NOW = 1_700_000_000_000_000_000
SOURCE = "192.0.2.7", 40000


class Answers:
    """A receiver with a steady clock to turn, and what it answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.heard: list[str] = []
        self.now = 0.0
        self.receiver = Receiver(lambda key, _: self.heard.append(key[1]), lambda: NOW, lambda: self.now)
        self.receiver.send = lambda data, addr: self.sent.append((data, addr))
        own = ReportKeys({"app2": OWN})
        self.receiver.expect(KEY, [("app", "app1"), ("app", "app2")], own)

    def ask(self, trial: Trial, key: bytes = KEY, source: tuple[str, int] = SOURCE) -> Receipt | None:
        self.sent.clear()
        self.receiver.datagram_received(encode_trial(trial, key), source)
        if not self.sent:
            return None
        ((data, addr),) = self.sent
        assert addr == source
        return decode_receipt(data, key, trial.nonce)


@pytest.fixture
def answers() -> Answers:
    return Answers()


def test_an_agent_whose_reports_are_accepted_is_told_so(answers: Answers) -> None:
    assert answers.ask(Trial(1, NOW, "app1")) == Receipt(Opinion.ACCEPTED, 1, NOW, None)
    assert answers.ask(Trial(2, NOW, "app2"), OWN) == Receipt(Opinion.ACCEPTED, 2, NOW, None)


def test_a_trial_changes_nothing_and_tells_when_a_report_was_heard(answers: Answers) -> None:
    answers.ask(Trial(1, NOW, "app1"))
    assert answers.heard == []
    answers.receiver.datagram_received(encode(Report("app1", NOW - 10, 1, NOW), KEY), SOURCE)
    answers.now = 1.5
    assert answers.ask(Trial(2, NOW, "app1")) == Receipt(Opinion.ACCEPTED, 2, NOW, 1500)
    answers.receiver.datagram_received(encode(Report("app1", NOW - 10, 2, NOW), KEY), SOURCE)
    assert answers.heard == ["app1", "app1"]


def test_an_agent_is_told_what_is_wrong(answers: Answers) -> None:
    assert answers.ask(Trial(1, NOW, "app1"), b"another key of 16") == Receipt(Opinion.WRONG_KEY, 1)
    assert answers.ask(Trial(1, NOW, "app2"), KEY) == Receipt(Opinion.WRONG_KEY, 1)
    assert answers.ask(Trial(2, NOW, "app9")) == Receipt(Opinion.UNKNOWN_SERVER, 2, NOW, None)
    assert answers.ask(Trial(3, NOW, "app1", "shop")) == Receipt(Opinion.UNKNOWN_SERVER, 3, NOW, None)
    assert answers.ask(Trial(4, NOW - 31 * 10**9, "app1")) == Receipt(Opinion.CLOCK, 4, NOW, None)
    answers.receiver.datagram_received(encode(Report("app1", NOW - 10, 1, NOW), KEY), SOURCE)
    assert answers.ask(Trial(5, NOW, "app1"), source=("192.0.2.8", 1)) == Receipt(Opinion.ELSEWHERE, 5, NOW, 0)
    assert answers.receiver.refused == {
        "trial: wrong key": 2,
        "trial: unknown server": 2,
        "trial: clock": 1,
        "trial: elsewhere": 1,
    }
    answers.receiver.expect(b"", [("app", "app1")])
    assert answers.ask(Trial(6, NOW, "app1")) == Receipt(Opinion.UNKNOWN_SERVER, 6)


def test_refusals_without_a_signature_are_limited_and_receipts_apart_from_them(answers: Answers) -> None:
    for _ in range(int(BURST)):
        assert answers.ask(Trial(1, NOW, "app1"), b"another key of 16") is not None
    assert answers.ask(Trial(1, NOW, "app1"), b"another key of 16") is None
    assert answers.ask(Trial(1, NOW, "app1")) is not None
    answers.now = 0.25
    assert answers.ask(Trial(1, NOW, "app1"), b"another key of 16") is not None
