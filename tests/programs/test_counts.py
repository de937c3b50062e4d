"""When a program is started again, and what is counted."""

from gateway.programs.counts import LONGEST_PAUSE, Counts


def test_a_program_that_keeps_ending_is_started_after_longer_and_longer_pauses() -> None:
    counts = Counts()
    pauses = [counts.ended("has ended") for _ in range(40)]
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    assert counts.failing == "has ended"


def test_an_answer_begins_anew() -> None:
    counts = Counts()
    for _ in range(9):
        counts.ended("has ended")
    counts.answered(found=True)
    counts.answered(found=False)
    assert (counts.found, counts.none, counts.failing) == (1, 1, "")
    assert counts.ended("has ended") == 0.0
