import time

from gateway.board import Board
from gateway.process.supervisor_status import SupervisorStatus, silences


def test_workers_are_those_that_the_supervisor_names():
    facts, board = SupervisorStatus(), Board()
    now = time.monotonic()
    for number, ago in ((0, 0.0), (1, 5.0), (2, 900.0), (3, 0.0)):  # 2 finished long ago
        board.set_pulse(number, now - ago)
    facts.post("running", {3, 0, 1}, {"control": 7})
    said = facts.bulletin.read()
    assert said is not None
    found = silences(board, said)
    assert {number: round(silent / 5) for number, silent in found.items()} == {0: 0, 1: 1, 3: 0}


def test_how_reloads_went():
    facts = SupervisorStatus()
    facts.reload()
    taken = facts.loaded
    facts.reload("site.yaml:1:1: a mistake")
    facts.post("running", [0], {})
    said = facts.bulletin.read()
    assert said is not None
    assert said["reloads"] == {"accepted": 1, "refused": 1}
    last = said["last_reload"]
    assert (last["at"], last["accepted"], last["problems"]) == (taken, False, "site.yaml:1:1: a mistake")
    assert last["refused_at"] >= taken
    facts.reload()
    assert facts.last_reload == {"at": facts.loaded, "accepted": True}
