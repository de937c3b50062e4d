"""WaitQueue by itself: work that waits for room, without requests, servers or connections."""

import asyncio
from collections.abc import Iterator

import pytest

from gateway.balance.policy import Members
from gateway.board import DOWN, Board
from gateway.proxy.lanes import Lanes
from gateway.proxy.loop import EventLoop
from gateway.proxy.overload import Overload, entered
from gateway.proxy.qos_class import QosClass
from gateway.proxy.queue import Waiter, WaitQueue, announced, busy, shed_late, wake
from gateway.rules.request_key import RequestKey

SLOT = 0


class Farm:
    """A worker's queue, and what was called in it."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.board = Board()
        self.called: list[Waiter] = []
        self.ran: list[Waiter] = []
        """Whose on_turn ran, whether or not it was still their turn."""
        self.since = self.loop.poller.clock()

    def queue(
        self,
        *,
        worker: int = 0,
        slot: int = SLOT,
        limit: int = 10,
        lanes: Lanes | None = None,
        overload: Overload | None = None,
    ) -> WaitQueue:
        return WaitQueue(self.loop.poller, self.board, slot, worker, 2, limit, 5.0, lanes, overload)

    def overload(
        self, *, concurrency: int = 0, target: float = 0.0, newest_first: bool = False, fair: bool = False
    ) -> Overload:
        """Of a backend in row 50, in worker 0."""
        members = Members(self.board, [(SLOT, 1.0, 0, False, "a")], 2, 1)
        fair_by = RequestKey("source", secret=bytes(16)) if fair else None
        return Overload(
            self.board,
            members,
            50,
            0,
            2,
            concurrency=concurrency,
            target=target,
            newest_first=newest_first,
            fair_by=fair_by,
        )

    def classes(self, *classes: tuple[int, float, int], worker: int = 0, overload: Overload | None = None) -> Lanes:
        """Lanes of classes of (priority, share, concurrency), at a server with 10 places."""
        members = Members(self.board, [(SLOT, 1.0, 10, False, "a")], 2, 1)
        return Lanes(
            self.board,
            members,
            worker,
            2,
            [
                (
                    QosClass(
                        f"c{i}", self.board, worker, 2, traffic=i, lane=i, priority=priority, concurrency=concurrency
                    ),
                    share,
                    100 + i if share else -1,
                )
                for i, (priority, share, concurrency) in enumerate(classes)
            ],
            overload,
        )

    def in_class(self, lane: int, worker: int, change: int) -> None:
        """A request of a class goes to a server, or has done with it."""
        counted = self.classes(*[(7, 0.5, 0)] * (lane + 1), worker=worker)
        counted.entered(lane, change)

    def waiter(
        self, queue: WaitQueue, lane: int = 0, *, ahead: bool = False, fair: int = 0, kept: bool = False
    ) -> Waiter:
        """Work that has come after all that came before, and waits."""
        self.since += 1
        waiter = Waiter(queue, self.turn, self.since, fair=fair, kept=kept)
        waiter.enter(lane, ahead=ahead)
        return waiter

    def turn(self, waiter: Waiter) -> None:
        self.ran.append(waiter)
        if waiter.called:
            waiter.turn_taken()
            self.called.append(waiter)

    def room(self, queue: WaitQueue, places: int = 1) -> list[Waiter]:
        """There is room for so many: who was called, in order."""
        self.called.clear()
        for _ in range(places):
            wake(queue)
            self.loop.poller.wait(0)
        return [*self.called]


@pytest.fixture
def farm() -> Iterator[Farm]:
    made = Farm()
    yield made
    made.loop.poller.stop()
    made.loop.close()


def test_who_came_first_is_called_first(farm: Farm) -> None:
    queue = farm.queue()
    first, second, third = (farm.waiter(queue) for _ in range(3))
    assert queue.waiting() == [first, second, third]
    assert farm.room(queue) == [first]
    assert farm.room(queue, 3) == [second, third]
    assert (queue.count, queue.waiting()) == (0, [])


def test_a_lane_goes_before_those_behind_it_whenever_it_came(farm: Farm) -> None:
    queue = farm.queue()
    last = farm.waiter(queue, 15)
    low = farm.waiter(queue, 7)
    high, next_high = farm.waiter(queue, 0), farm.waiter(queue, 0)
    assert queue.waiting() == [high, next_high, low, last]
    assert farm.room(queue, 4) == [high, next_high, low, last]


def test_ahead_is_before_its_own_lane_only(farm: Farm) -> None:
    queue = farm.queue()
    high, low = farm.waiter(queue, 0), farm.waiter(queue, 1)
    again = farm.waiter(queue, 1, ahead=True)
    assert queue.waiting() == [high, again, low]
    alone = farm.waiter(queue, 2, ahead=True)
    behind = farm.waiter(queue, 2)
    assert farm.room(queue, 5) == [high, again, low, alone, behind]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_who_leaves_is_not_called(farm: Farm, place: int) -> None:
    queue = farm.queue()
    waiters = [farm.waiter(queue) for _ in range(3)]
    leaves = waiters.pop(place)
    leaves.leave()
    leaves.leave()
    assert queue.waiting() == waiters
    assert farm.room(queue, 3) == waiters
    assert leaves not in farm.ran


def test_a_lane_that_has_emptied_is_passed_over_and_can_fill_again(farm: Farm) -> None:
    queue = farm.queue()
    only, low = farm.waiter(queue, 0), farm.waiter(queue, 1)
    only.leave()
    assert farm.room(queue) == [low]
    again = farm.waiter(queue, 0)
    assert farm.room(queue) == [again]


def test_one_is_called_at_a_time(farm: Farm) -> None:
    queue = farm.queue()
    first, second = farm.waiter(queue), farm.waiter(queue)
    wake(queue)
    wake(queue)
    assert first.called
    assert queue.waiting() == [second]
    farm.loop.poller.wait(0)
    assert farm.called == [first]
    assert farm.room(queue) == [second]


def test_a_turn_of_work_that_has_left_is_not_used(farm: Farm) -> None:
    queue = farm.queue()
    leaves, stays = farm.waiter(queue), farm.waiter(queue)
    wake(queue)
    assert leaves.called
    leaves.leave()
    assert not leaves.called
    wake(queue)  # its room is for the next one, before its turn has been over
    farm.loop.poller.wait(0)
    assert farm.ran == [leaves, stays]
    assert farm.called == [stays]
    assert not busy(queue)


def test_who_found_no_room_is_called_first_the_next_time(farm: Farm) -> None:
    queue = farm.queue()
    first, second = farm.waiter(queue), farm.waiter(queue)
    assert farm.room(queue) == [first]
    first.enter(0, ahead=True)
    assert queue.waiting() == [first, second]
    assert farm.room(queue, 2) == [first, second]


def test_new_work_waits_behind_what_waits_and_behind_what_is_called(farm: Farm) -> None:
    queue = farm.queue()
    assert not busy(queue)
    waiter = farm.waiter(queue)
    assert busy(queue)
    wake(queue)
    assert queue.count == 0
    assert busy(queue)
    farm.loop.poller.wait(0)
    assert farm.called == [waiter]
    assert not busy(queue)


def test_the_longest_wait_is_served_first_over_all_workers(farm: Farm) -> None:
    here, there = farm.queue(worker=0), farm.queue(worker=1)
    elsewhere = farm.waiter(there)
    mine = farm.waiter(here)
    assert busy(here)
    assert farm.room(here) == []
    assert farm.room(there) == [elsewhere]
    assert farm.room(here) == [mine]
    assert not busy(here)
    assert not busy(there)


def test_work_in_another_worker_is_waited_behind_although_nothing_waits_here(farm: Farm) -> None:
    here, there, deaf = farm.queue(worker=0), farm.queue(worker=1), farm.queue(worker=0, limit=0)
    waiter = farm.waiter(there)
    assert busy(here)
    assert not busy(deaf)  # a queue in which nothing may wait makes nothing wait
    waiter.leave()
    assert not busy(here)


def test_a_worker_that_is_stuck_holds_up_no_other(farm: Farm) -> None:
    here, there = farm.queue(worker=0), farm.queue(worker=1)
    farm.waiter(there)
    assert busy(here)
    announced(there, farm.loop.poller.clock() - 1_100_000_000)  # with work it says so every 2 ms
    assert not busy(here)
    waiter = farm.waiter(here)
    assert farm.room(here) == [waiter]


def test_a_queue_without_a_server_knows_of_no_other_workers(farm: Farm) -> None:
    here, there = farm.queue(worker=0, slot=-1), farm.queue(worker=1)
    farm.waiter(there)
    waiter = farm.waiter(here)
    assert farm.room(here) == [waiter]


def test_room_that_another_worker_made_is_found_by_looking(farm: Farm) -> None:
    queue = farm.queue()
    waiter = farm.waiter(queue)

    async def called() -> None:
        while not farm.called:  # noqa: ASYNC110 - what sets it is what is tested
            await asyncio.sleep(0.001)

    farm.loop.run_until_complete(asyncio.wait_for(called(), 5))
    assert farm.called == [waiter]


def test_a_new_queue_takes_over_what_waits_with_level_and_order(farm: Farm) -> None:
    before, after = farm.queue(), farm.queue()
    low, high, next_low = farm.waiter(before, 3), farm.waiter(before, 1), farm.waiter(before, 3)
    after.adopt(before, lambda waiter: waiter.moved(after))
    assert (before.count, before.waiting()) == (0, [])
    assert after.waiting() == [high, low, next_low]
    assert farm.room(before) == []
    low.leave()
    assert farm.room(after, 3) == [high, next_low]


def test_a_new_queue_takes_over_whose_turn_it_is(farm: Farm) -> None:
    before, after = farm.queue(), farm.queue()
    called, waits = farm.waiter(before), farm.waiter(before)
    wake(before)
    after.adopt(before, lambda waiter: waiter.moved(after))
    farm.loop.poller.wait(0)
    assert farm.called == [called]
    assert farm.room(after) == [waits]


# --------------------------------------------------------------------------------------------------------------- classes

NO_CLASS = 63


def test_the_priority_of_a_class_goes_before_the_length_of_a_wait(farm: Farm) -> None:
    queue = farm.queue(lanes=farm.classes((9, 0, 0), (1, 0, 0)))
    low, none, high = (farm.waiter(queue, lane) for lane in (0, NO_CLASS, 1))
    assert farm.room(queue, 3) == [high, none, low]


def test_classes_of_one_priority_are_served_as_they_came(farm: Farm) -> None:
    queue = farm.queue(lanes=farm.classes((3, 0, 0), (3, 0, 0)))
    waiters = [farm.waiter(queue, lane) for lane in (1, 0, 1, 0)]
    assert farm.room(queue, 4) == waiters


def test_priorities_hold_over_all_workers(farm: Farm) -> None:
    here = farm.queue(worker=0, lanes=farm.classes((9, 0, 0), (1, 0, 0)))
    there = farm.queue(worker=1, lanes=farm.classes((9, 0, 0), (1, 0, 0), worker=1))
    low = farm.waiter(here, 0)  # it has waited for longer
    high = farm.waiter(there, 1)
    assert farm.room(here) == []
    assert farm.room(there) == [high]
    assert farm.room(here) == [low]


def test_a_class_below_its_share_goes_first_and_above_it_by_priority(farm: Farm) -> None:
    lanes = farm.classes((9, 0.2, 0), (1, 0, 0))
    queue = farm.queue(lanes=lanes)
    other, first, second, third = (farm.waiter(queue, lane) for lane in (1, 0, 0, 0))
    assert farm.room(queue) == [first]
    lanes.counted(0, 1)
    assert farm.room(queue) == [second]
    lanes.counted(0, 1)  # 20 % of 10 places
    assert farm.room(queue) == [other]
    assert farm.room(queue) == [third]  # no other request wants the place


def test_a_share_is_of_the_servers_that_work(farm: Farm) -> None:
    lanes = farm.classes((9, 0.2, 0))
    assert lanes.rank_now(0) == 9
    farm.board.set_state(SLOT, DOWN)
    assert lanes.rank_now(0) == 16 + 9


def test_a_class_at_its_concurrency_is_passed_over(farm: Farm) -> None:
    lanes = farm.classes((0, 0, 1), (9, 0, 0))
    queue = farm.queue(lanes=lanes)
    farm.board.set_pulse(1, 1.0)
    blocked = farm.waiter(queue, 0)
    assert busy(queue)
    farm.in_class(0, 1, 1)  # of another worker
    assert not busy(queue)  # what waits does not want this place
    other = farm.waiter(queue, 1)
    assert farm.room(queue, 2) == [other]
    farm.in_class(0, 1, -1)
    assert farm.room(queue) == [blocked]


def test_work_moves_to_the_lane_of_its_class_in_another_snapshot(farm: Farm) -> None:
    before = farm.queue(lanes=farm.classes((9, 0, 0), (1, 0, 0)))
    after = farm.queue(lanes=farm.classes((1, 0, 0), (9, 0, 0)))
    low, high = farm.waiter(before, 0), farm.waiter(before, 1)

    def moved(waiter: Waiter) -> int:
        waiter.moved(after)
        return 1 if waiter is low else 0

    after.adopt(before, moved)
    assert farm.room(after, 2) == [high, low]


# -------------------------------------------------------------------------------------------------------------- overload

MS = 1_000_000


def test_while_servers_have_as_many_as_they_should_nothing_is_called(farm: Farm) -> None:
    overload = farm.overload(concurrency=2)
    queue = farm.queue(overload=overload)
    waiter = farm.waiter(queue)
    for _ in range(2):
        entered(overload, 1)
    assert farm.room(queue) == []
    entered(overload, -1)
    assert farm.room(queue) == [waiter]


def test_a_share_is_of_what_overload_control_lets_servers_have(farm: Farm) -> None:
    lanes = farm.classes((9, 0.5, 0), (1, 0.0, 0), overload=farm.overload(concurrency=4))
    assert lanes.rank_now(0) < lanes.rank_now(1)
    for _ in range(2):
        lanes.counted(0, 1)
    assert lanes.rank_now(0) > lanes.rank_now(1)


def test_work_that_waits_too_long_is_shed_once_all_of_its_lane_does(farm: Farm) -> None:
    queue = farm.queue(overload=farm.overload(target=0.02))
    first = farm.waiter(queue)
    shed_late(queue, later=50 * MS)
    assert not first.shed  # it may be a burst
    shed_late(queue, later=110 * MS)
    assert first.shed
    assert queue.count == 0
    farm.loop.poller.wait(0)
    assert farm.ran == [first]  # it hears of it


def test_work_that_is_served_in_time_keeps_its_lane_from_being_shed(farm: Farm) -> None:
    queue = farm.queue(overload=farm.overload(target=0.5))
    waiters = [farm.waiter(queue) for _ in range(3)]
    wake(queue, later=400 * MS)
    farm.loop.poller.wait(0)
    shed_late(queue, later=450 * MS)
    assert [waiter.shed for waiter in waiters] == [False] * 3


def test_only_the_lane_that_waits_is_shed(farm: Farm) -> None:
    lanes = farm.classes((1, 0.0, 0), (9, 0.0, 0))
    queue = farm.queue(lanes=lanes, overload=farm.overload(target=0.02))
    low = farm.waiter(queue, 1)
    farm.since += 105 * MS
    high, next_high = farm.waiter(queue, 0), farm.waiter(queue, 0)
    wake(queue, later=110 * MS)
    shed_late(queue, later=110 * MS)
    farm.loop.poller.wait(0)
    assert farm.called == [high]
    assert (low.shed, next_high.shed) == (True, False)


def test_a_request_of_a_session_is_never_shed_for_its_wait(farm: Farm) -> None:
    queue = farm.queue(limit=3, overload=farm.overload(target=0.02, newest_first=True))
    kept, other, newest = farm.waiter(queue, kept=True), farm.waiter(queue), farm.waiter(queue)
    shed_late(queue, later=110 * MS)
    assert [kept.shed, other.shed, newest.shed] == [False, True, True]
    late = farm.waiter(queue)
    wake(queue, later=220 * MS)
    farm.loop.poller.wait(0)
    assert kept in farm.called
    assert late not in farm.called


def test_a_full_queue_sheds_no_request_of_a_session_for_one_of_the_same_class(farm: Farm) -> None:
    lanes = farm.classes((1, 0.0, 0), (9, 0.0, 0))
    queue = farm.queue(limit=1, lanes=lanes, overload=farm.overload(concurrency=1))
    kept = farm.waiter(queue, 1, kept=True)
    assert not Waiter(queue, farm.turn, 1).make_room(1)
    assert not kept.shed
    assert Waiter(queue, farm.turn, 1).make_room(0)
    assert kept.shed


def test_under_overload_the_newest_can_go_first(farm: Farm) -> None:
    queue = farm.queue(overload=farm.overload(target=0.09, newest_first=True))
    first, second, third = (farm.waiter(queue) for _ in range(3))
    assert farm.room(queue) == [first]
    wake(queue, later=150 * MS)  # all have waited longer than 90 ms for 100 ms, but none twice as long
    farm.loop.poller.wait(0)
    assert farm.called == [first, third]
    assert not second.shed


def test_sources_take_turns(farm: Farm) -> None:
    queue = farm.queue(limit=100, overload=farm.overload(fair=True))
    flood = [farm.waiter(queue, fair=1) for _ in range(5)]
    assert farm.room(queue, 2) == flood[:2]
    other = [farm.waiter(queue, fair=2) for _ in range(2)]
    third = farm.waiter(queue, fair=3)
    assert farm.room(queue, 6) == [other[0], third, flood[2], other[1], flood[3], flood[4]]


def test_turns_go_on_over_workers(farm: Farm) -> None:
    here, there = (farm.queue(worker=i, limit=100, overload=farm.overload(fair=True)) for i in range(2))
    flood = [farm.waiter(here, fair=1) for _ in range(5)]
    assert farm.room(here, 3) == flood[:3]
    late = [farm.waiter(there, fair=2) for _ in range(3)]
    assert farm.room(there) == [late[0]]
    assert farm.room(there) == []  # it is the turn of the other worker's
    assert farm.room(here) == [flood[3]]


def test_work_that_leaves_has_had_no_turn(farm: Farm) -> None:
    queue = farm.queue(limit=100, overload=farm.overload(fair=True))
    for _ in range(50):
        farm.waiter(queue, fair=1).leave()
    first, second = farm.waiter(queue, fair=1), farm.waiter(queue, fair=2)
    assert farm.room(queue, 2) == [first, second]


def test_a_full_queue_has_room_for_what_goes_first(farm: Farm) -> None:
    lanes = farm.classes((1, 0.0, 0), (9, 0.0, 0))
    queue = farm.queue(limit=2, lanes=lanes, overload=farm.overload(concurrency=1))
    high, low = farm.waiter(queue, 0), farm.waiter(queue, 1)
    newer = Waiter(queue, farm.turn, farm.loop.poller.clock())
    assert not newer.make_room(1)
    assert newer.make_room(0)
    assert (low.shed, high.shed) == (True, False)
    assert not newer.make_room(0)


def test_a_full_queue_has_room_for_a_source_that_has_little_in_it(farm: Farm) -> None:
    queue = farm.queue(limit=3, overload=farm.overload(fair=True))
    flood = [farm.waiter(queue, fair=1) for _ in range(3)]
    assert not Waiter(queue, farm.turn, 1, fair=1).make_room(0)
    assert Waiter(queue, farm.turn, 1, fair=2).make_room(0)
    assert [waiter.shed for waiter in flood] == [False, False, True]
