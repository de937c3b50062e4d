from loadagent.numbering import Numbering


def test_reports_are_counted_within_an_incarnation() -> None:
    times = iter([100, 100, 250])
    numbering = Numbering(lambda: next(times))
    assert [numbering.next(), numbering.next()] == [(100, 1, 100), (100, 2, 250)]


def test_a_clock_that_goes_back_begins_another_incarnation() -> None:
    """It was an hour ahead when the agent started: receivers refuse that incarnation for an hour."""
    times = iter([3600, 3601, 2, 3, 1])
    numbering = Numbering(lambda: next(times))
    assert [numbering.next() for _ in range(4)] == [(3600, 1, 3601), (2, 1, 2), (2, 2, 3), (1, 1, 1)]


def test_a_clock_that_goes_back_before_the_first_report() -> None:
    times = iter([3600, 2])
    numbering = Numbering(lambda: next(times))
    assert numbering.next() == (2, 1, 2)
