import time

from gateway.board import Board
from gateway.process.supervisor_status import SupervisorStatus, silences
from gateway.reports import ReloadReport


def test_workers_are_those_that_the_supervisor_names():
    status, board = SupervisorStatus(), Board()
    now = time.monotonic()
    for number, ago in ((0, 0.0), (1, 5.0), (2, 900.0), (3, 0.0)):  # 2 finished long ago
        board.set_pulse(number, now - ago)
    status.post("running", {3, 0, 1}, {"control": 7})
    said = status.bulletin.read()
    assert said is not None
    found = silences(board, said["workers"])
    assert {number: round(silent / 5) for number, silent in found.items()} == {0: 0, 1: 1, 3: 0}


def test_how_reloads_went():
    status = SupervisorStatus()
    status.reload()
    taken = status.loaded
    status.reload("site.yaml:1:1: a mistake")
    status.post("running", [0], {})
    said = status.bulletin.read()
    assert said is not None
    assert said["reloads"] == {"accepted": 1, "refused": 1}
    last = said["last_reload"]
    assert (last["at"], last["accepted"], last["problems"]) == (taken, False, "site.yaml:1:1: a mistake")
    assert last["refused_at"] >= taken
    status.reload()
    assert status.last_reload == ReloadReport(at=status.loaded, accepted=True)
