from loadagent.quiet import Quiet


def test_the_first_is_said_then_one_a_period_with_the_count_of_the_others() -> None:
    quiet = Quiet(period=60.0)
    assert quiet.ask("a", 0.0) == 0
    assert [quiet.ask("a", float(now)) for now in (1, 30, 59)] == [None] * 3
    assert quiet.ask("b", 30.0) == 0
    assert quiet.ask("a", 60.0) == 3
    assert quiet.ask("a", 61.0) is None
    assert quiet.ask("a", 120.0) == 1


def test_many_topics_cannot_fill_the_memory() -> None:
    quiet = Quiet(period=60.0)
    said = [quiet.ask(topic, 0.0) for topic in range(5000)]
    assert said.count(0) == 1024
    assert quiet.ask(9999, 61.0) == 0  # the old ones made room
