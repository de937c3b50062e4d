import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.snapshot import ServerKey
from gateway.load.keys import ReportKeys, report_key
from gateway.load.receiver import Receiver
from loadagent.report import Report, State, encode

KEY = b"0123456789abcdef"
NOW = 1_700_000_000_000_000_000
REPORT = Report("app1", NOW - 10, 1, NOW, State.READY, metrics={"cpu": 0.5})
SOURCE = "192.0.2.7", 40000


class Ear:
    """A receiver with a steady clock to turn, and what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[ServerKey, Report]] = []
        self.now = 0.0
        self.receiver = Receiver(lambda key, report: self.heard.append((key, report)), lambda: NOW, lambda: self.now)
        self.receiver.expect(KEY, [("app", "app1"), ("app", "app2"), ("shop", "app1")])

    def get(self, report: Report | bytes, key: bytes = KEY) -> None:
        data = report if isinstance(report, bytes) else encode(report, key)
        self.receiver.datagram_received(data, SOURCE)


@pytest.fixture
def ear() -> Ear:
    return Ear()


def test_a_report_is_heard_for_every_server_of_its_name(ear: Ear) -> None:
    ear.get(REPORT)
    assert ear.heard == [(("app", "app1"), REPORT), (("shop", "app1"), REPORT)]


def test_a_report_can_name_one_backend(ear: Ear) -> None:
    report = dataclasses.replace(REPORT, backend="shop")
    ear.get(report)
    assert ear.heard == [(("shop", "app1"), report)]


def test_a_refused_report_is_counted_and_not_used(ear: Ear) -> None:
    ear.get(b"noise")
    ear.get(bytes(2000))
    ear.get(REPORT, b"another key of 16")
    ear.get(dataclasses.replace(REPORT, server="app9"))
    ear.get(dataclasses.replace(REPORT, backend="other"))
    ear.get(dataclasses.replace(REPORT, time=NOW - 31 * 10**9))
    assert ear.heard == []
    ear.get(REPORT)
    ear.get(REPORT)
    assert len(ear.heard) == 2
    assert ear.receiver.refused == {
        "too short": 1,
        "too long": 1,
        "bad signature": 1,
        "unknown server": 2,
        "the sender's clock differs too much": 1,
        "replayed or overtaken": 1,
    }


def test_a_refusal_is_logged_once_a_minute_for_each_source_and_reason(
    ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        ear.get(b"noise")
    ear.get(bytes(100))
    ear.receiver.datagram_received(b"noise", ("192.0.2.8", 40000))
    ear.now = 61.0
    ear.get(b"noise")
    assert caplog.messages == [
        "load report from 192.0.2.7 refused: too short",
        "load report from 192.0.2.7 refused: bad signature",
        "load report from 192.0.2.8 refused: too short",
        "load report from 192.0.2.7 refused: too short (4 more like this before)",
    ]


def test_before_anything_is_expected_nothing_is_believed() -> None:
    heard: list[ServerKey] = []
    receiver = Receiver(lambda key, _report: heard.append(key), lambda: NOW)
    receiver.datagram_received(encode(REPORT, b""), SOURCE)
    assert heard == []


def test_a_new_key_and_other_servers_hold_at_once(ear: Ear) -> None:
    ear.receiver.expect(b"another key of 16", [("app", "app2")])
    ear.get(REPORT)
    ear.get(REPORT, b"another key of 16")
    ear.get(dataclasses.replace(REPORT, server="app2"), b"another key of 16")
    assert [key for key, _ in ear.heard] == [("app", "app2")]
    assert ear.receiver.refused == {"bad signature": 1, "unknown server": 1}


def test_trouble_of_the_socket_is_counted(ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    ear.receiver.error_received(OSError("no buffer space"))
    assert caplog.messages == ["load report from the network refused: no buffer space"]


SECRET = b"a secret of the gateways alone"


def test_a_server_with_its_own_key_speaks_for_itself_alone(ear: Ear) -> None:
    ear.receiver.expect(b"", [("app", "app1"), ("app", "app2")], ReportKeys({}, SECRET))
    app2 = dataclasses.replace(REPORT, server="app2")
    for key in (KEY, b"", SECRET, report_key(SECRET, "app1")):
        ear.get(app2, key)
    assert ear.heard == []
    ear.get(REPORT, report_key(SECRET, "app1"))
    ear.get(app2, report_key(SECRET, "app2"))
    assert [key for key, _ in ear.heard] == [("app", "app1"), ("app", "app2")]
    assert ear.receiver.refused == {"bad signature": 4}


def test_the_shared_key_is_refused_for_a_server_with_its_own(ear: Ear) -> None:
    ear.receiver.expect(KEY, [("app", "app1"), ("app", "app2")], ReportKeys({"app1": b"a key of app1's own"}))
    ear.get(REPORT)
    ear.get(dataclasses.replace(REPORT, server="app2"))
    ear.get(REPORT, b"a key of app1's own")
    assert [key for key, _ in ear.heard] == [("app", "app2"), ("app", "app1")]


def test_a_server_without_a_key_cannot_be_spoken_for(ear: Ear) -> None:
    ear.receiver.expect(b"", [("app", "app1"), ("app", "app2")], ReportKeys({"app1": KEY}))
    for key in (KEY, b""):
        ear.get(dataclasses.replace(REPORT, server="app2"), key)
    ear.get(dataclasses.replace(REPORT, server="app9"))
    assert ear.heard == []
    assert ear.receiver.refused == {"unknown server": 3}


def test_a_shared_key_is_bound_to_the_servers_address(ear: Ear) -> None:
    """app1 has been broken into; its key is everyone's, but its address is not."""
    ear.receiver.expect(KEY, [("app", "app1"), ("app", "app2")], homes={"app2": {"192.0.2.8"}})
    forged = Report("app2", NOW + 30 * 10**9, 2**64 - 1, NOW, State.MAINTENANCE)
    ear.receiver.datagram_received(encode(forged, KEY), ("192.0.2.7", 1))
    true = Report("app2", NOW - 10, 1, NOW)
    ear.receiver.datagram_received(encode(true, KEY), ("192.0.2.8", 1))
    ear.receiver.datagram_received(encode(dataclasses.replace(forged, incarnation=NOW + 1), KEY), ("192.0.2.7", 1))
    assert [report.state for _, report in ear.heard] == [State.MAINTENANCE, State.READY]
    assert ear.receiver.refused == {"another address reports for this server": 1}


@given(st.binary(max_size=1300) | st.binary(max_size=80).map(lambda tail: encode(REPORT, KEY)[:30] + tail))
def test_any_bytes_are_refused_by_a_name(data: bytes) -> None:
    for shared, own in ((KEY, None), (b"", ReportKeys({}, SECRET)), (b"", ReportKeys({}))):
        ear = Ear()
        ear.receiver.expect(shared, [("app", "app1")], own)
        ear.get(data)
        assert ear.heard == []
        assert sum(ear.receiver.refused.values()) == 1
