from gateway.health.result import Outcome, Result


def test_only_ok_is_good() -> None:
    assert [outcome for outcome in Outcome if Result(outcome, 0.0).good] == [Outcome.OK]


def test_a_person_reads_what_happened_and_how_long_it_took() -> None:
    assert str(Result(Outcome.HTTP_STATUS, 0.0124, "HTTP 500")) == "HTTP 500, 12 ms"
    assert str(Result(Outcome.OK, 0.5)) == "500 ms"
