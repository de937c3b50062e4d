"""What is believed of the process that asks the name service before a site works."""

import pytest

from gateway.config import Site
from gateway.config.address import server_address
from gateway.config.discovery import Member, Question
from gateway.supervisor import startup_lookup

SITE = Site.model_validate(
    {"frontends": [{"listen": "127.0.0.1:80"}], "backends": {"app": {"servers": ["app.internal:1"]}}}
)
QUESTION = Question(server_address("dns:app.internal:80"), "A")
FORGED = [
    b"",
    b"\xff\xfe\n",
    b"[" * 100_000 + b"\n",
    b'[["dns:other.internal:80", "A", [["192.0.2.1", 80, "a", null, false]]]]\n',
    b'[["dns:app.internal:80", "A", [["192.0.2.1", 99999, "a", null, false]]]]\n',
    b'[["app.internal", "192.0.2.1", ""]]\n',
    b'["other.internal", "192.0.2.1", ""]\n["app.internal", "192.0.2.300", ""]\n["app.internal", "", "\\u001b[2J"]\n',
    b'["app.internal", ["192.0.2.1"], ""]\n{"app.internal": 1}\n3\n',
]


@pytest.mark.parametrize("said", FORGED, ids=range(len(FORGED)))
def test_a_result_of_a_compromised_lookup_child_is_refused(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(startup_lookup, "run_helper", lambda *_: said)
    assert startup_lookup.find_servers({QUESTION}, SITE, None) == {}
    found = startup_lookup.addresses(SITE, {"app.internal"})
    assert isinstance(found["app.internal"], OSError)
    assert "no answer in time" in str(found["app.internal"])


def test_a_well_formed_result_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b'junk\n[["dns:app.internal:80", "A", [["192.0.2.1", 80, "a", null, false]]]]\n[["dns:app.int'
    monkeypatch.setattr(startup_lookup, "run_helper", lambda *_: said)
    assert startup_lookup.find_servers({QUESTION}, SITE, None) == {QUESTION: (Member("192.0.2.1", 80, "a"),)}
