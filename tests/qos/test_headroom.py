"""How many sessions there may be by the room that servers have: the servers work, and admitted sessions are served."""

import pytest

from qos.headroom import FIRST, Measured
from tests.qos.arrivals import Crowd, Seen, Site


def p99(seen: Seen) -> float:
    return sorted(seen.times)[int(0.99 * len(seen.times))]


@pytest.mark.parametrize("length", [5, 15, 50])
@pytest.mark.parametrize("queue", [0, 5000])
def test_at_three_times_the_capacity_servers_work_and_no_session_is_cut(length: int, queue: int) -> None:
    seen = Site(Crowd(3.0, length, queue=queue), until=45, learning=20).run()
    assert seen.cut == 0
    assert seen.work > (0.87 if queue and length == 5 else 0.92)
    assert p99(seen) < 0.3  # service alone: 0.18
    assert seen.admitted > 0


def test_below_the_capacity_hardly_a_session_is_refused() -> None:
    seen = Site(Crowd(0.7, 15), until=40, learning=15).run()
    assert seen.refused < 0.02 * seen.admitted
    assert seen.cut == 0


def test_long_pauses_between_requests_do_not_let_in_too_many() -> None:
    seen = Site(Crowd(3.0, 15, think=5.0, idle=15), until=120, learning=60).run()
    assert seen.work > 0.9
    assert p99(seen) < 0.4


def test_pages_with_many_parts_do_not_overload_servers_for_long() -> None:
    seen = Site(Crowd(3.0, 15, parts=10), until=60, learning=30).run()
    assert seen.work > 0.85
    assert p99(seen) < 0.5
    assert seen.cut == 0


def test_sessions_that_ask_for_more_later_are_served_within_seconds() -> None:
    seen = Site(Crowd(3.0, 15, think=5.0, idle=15, later=8.0), until=120, learning=60).run()
    assert seen.work > 0.85
    assert p99(seen) < 3.0  # service alone: 1.5


def test_the_number_grows_by_a_fifth_and_forty_a_second_while_there_is_room() -> None:
    headroom = Measured()
    assert headroom.look(1.0, places=1000, at_servers=0, seconds=0.01)[0] == FIRST + 2
    grown = 0
    for step in range(1, 21):
        grown, _ = headroom.look(1.0 + step * 0.05, places=1000, at_servers=0, seconds=0.01, live=100)
    assert 155 <= grown <= 165
    assert headroom.why == "growing"


def test_no_session_begins_while_more_requests_wait_than_will_be_served_in_time() -> None:
    headroom = Measured()
    # 20 places, each for 40 ms: 500 a second, so ten are served within 20 ms.
    _, may_begin = headroom.look(1.0, places=20, at_servers=20, waiting=9, seconds=0.04, target=0.02, live=50)
    assert may_begin == 1
    _, may_begin = headroom.look(1.1, places=20, at_servers=20, waiting=10, seconds=0.04, target=0.02, live=50)
    assert may_begin == 0
    number = 0
    for step in range(60):
        number, may_begin = headroom.look(
            1.2 + 0.05 * step, places=20, at_servers=20, waiting=30, seconds=0.04, target=0.02, live=50
        )
    assert (number, may_begin, headroom.why) == (50, 0, "full")


def test_servers_that_have_stopped_do_not_let_in_more_than_twice_their_places() -> None:
    _, may_begin = Measured().look(1.0, places=20, at_servers=20, waiting=15, seconds=0.001, target=0.02)
    assert may_begin > 0
    _, may_begin = Measured().look(1.0, places=20, at_servers=20, waiting=20, seconds=0.001, target=0.02)
    assert may_begin == 0


def test_short_requests_let_more_sessions_begin_between_two_looks() -> None:
    _, slow = Measured().look(1.0, places=10, at_servers=0, seconds=1.0)
    _, quick = Measured().look(1.0, places=10, at_servers=0, seconds=0.001)
    assert slow == 10
    assert quick == 500


def test_without_a_server_in_service_all_requests_go_to_the_backend() -> None:
    headroom = Measured()
    _, may_begin = headroom.look(1.0, places=0, at_servers=0)
    assert may_begin > 1 << 60
    assert headroom.why == "unknown"
    number, _ = headroom.look(2.0, places=10, at_servers=0, live=500)
    assert 500 < number < 600  # it grows from the present number on, as after a start


def test_with_a_queue_there_may_be_as_many_as_find_room_until_each_client_has_asked() -> None:
    asked_soon, asked_late = Measured(), Measured()
    soon = late = 0
    for step in range(100):
        now = 1.0 + 0.05 * step
        soon, _ = asked_soon.look(now, places=20, at_servers=18, seconds=1.0, live=1000, horizon=1.0)
        late, _ = asked_late.look(now, places=20, at_servers=18, seconds=1.0, live=1000, horizon=10.0)
    assert (soon, late) == (1002, 1020)
    assert asked_late.why == "room"
