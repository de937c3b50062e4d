from itertools import count

from loadagent.log_throttle import MAX_TOPICS, LogThrottle


def test_the_first_is_said_then_one_a_period_with_the_count_of_the_others() -> None:
    throttle = LogThrottle(period=60.0)
    assert throttle.ask("a", 0.0) == 0
    assert [throttle.ask("a", float(now)) for now in (1, 30, 59)] == [None] * 3
    assert throttle.ask("b", 30.0) == 0
    assert throttle.ask("a", 60.0) == 3
    assert throttle.ask("a", 61.0) is None
    assert throttle.ask("a", 120.0) == 1


def test_many_topics_cannot_fill_the_memory_or_the_log() -> None:
    throttle = LogThrottle(period=60.0)
    said = [throttle.ask(topic, 0.0) for topic in range(5000)]
    assert said.count(0) == MAX_TOPICS + 1  # one more, for all that there is no room for
    assert len(throttle._topics) == MAX_TOPICS
    assert throttle.ask(9999, 61.0) == 0  # the old ones made room
    for topic in range(10_000, 20_000):
        throttle.ask(topic, 61.0)
    assert len(throttle._topics) == MAX_TOPICS


def test_topics_without_room_are_counted_together() -> None:
    throttle = LogThrottle(period=60.0)
    for topic in range(MAX_TOPICS):
        throttle.ask(topic, 30.0)
    assert throttle.ask("x", 31.0) == 0
    assert [throttle.ask(topic, 32.0) for topic in ("x", "y", "z")] == [None] * 3
    for topic in range(MAX_TOPICS):
        throttle.ask(topic, 90.0)  # fresh again
    assert throttle.ask("w", 91.0) == 3


def test_a_question_costs_the_same_with_any_number_of_topics() -> None:
    """Counted in looks at topics, not in time: each topic compares itself whenever it is looked at."""

    class Topic:
        looks = 0

        def __init__(self, number: int) -> None:
            self.number = number

        def __hash__(self) -> int:
            Topic.looks += 1
            return self.number

        def __eq__(self, other: object) -> bool:
            return self is other

    numbers = count()
    throttle = LogThrottle()
    dear = []
    for topics in (10, MAX_TOPICS, 10 * MAX_TOPICS):
        for _ in range(topics):
            throttle.ask(Topic(next(numbers)), 0.0)
        Topic.looks = 0
        throttle.ask(Topic(next(numbers)), 0.0)
        dear.append(Topic.looks)
    assert max(dear) <= 6
