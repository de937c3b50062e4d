"""Clients of a site that fills up are sent to others: when, how many, to which, and without swinging."""

import itertools

import pytest

from bench.spill import Farm
from gateway.load.spill import BAND, MARGIN, PACE, Other, Spill


def settled(own: float, others: dict[str, Other], spill: Spill | None = None) -> dict[str, float]:
    """Where the parts end after a long time of the same loads."""
    spill = spill or Spill(0.8, 1.0)
    found: dict[str, float] = {}
    for _ in range(300):
        found = spill.step(own, others, next(_clock))
    return found


_clock = itertools.count(0.0)


IDLE = {"syd": Other(0.2)}


@pytest.mark.parametrize("own, part", [(0.5, 0.0), (0.8, 0.0), (0.9, 0.6), (0.95, 0.8), (1.0, 1.0), (3.0, 1.0)])
def test_the_part_grows_with_the_load_before_the_site_is_full(own: float, part: float) -> None:
    assert sum(settled(own, IDLE).values()) == pytest.approx(part, abs=0.01)


def test_it_ends_at_a_lower_load_than_it_begins_at() -> None:
    assert settled(0.79, IDLE) == {}
    spill = Spill(0.8, 1.0)
    settled(0.9, IDLE, spill)
    assert sum(settled(0.79, IDLE, spill).values()) > 0
    assert settled(0.8 - BAND, IDLE, spill) == {}
    assert settled(0.79, IDLE, spill) == {}


def test_nothing_goes_to_a_site_that_is_hardly_less_loaded_or_spills_itself() -> None:
    assert settled(1.0, {"syd": Other(0.8), "dub": Other(0.95)}) == {}
    assert settled(0.85, {"syd": Other(0.85 - MARGIN)}) == {}
    assert settled(0.95, {"syd": Other(0.79), "dub": Other(0.9)}).keys() == {"syd"}
    assert settled(0.95, {}) == {}


def test_sites_get_parts_by_the_room_that_they_have() -> None:
    found = settled(1.0, {"syd": Other(0.3, 100.0), "dub": Other(0.3, 300.0), "osl": Other(0.3, None, 0.5)})
    assert found == pytest.approx({"syd": 100 / 500, "dub": 300 / 500, "osl": 100 / 500})


def test_it_grows_and_falls_slowly_and_stops_at_once_without_room() -> None:
    spill = Spill(0.8, 1.0)
    spill.step(1.0, IDLE, next(_clock))
    assert sum(spill.step(1.0, IDLE, next(_clock)).values()) == pytest.approx(PACE)
    settled(1.0, IDLE, spill)
    for count in range(1, 4):
        spill.step(0.0, IDLE, next(_clock))
        assert spill.part == pytest.approx(1.0 - count * PACE)
    settled(1.0, IDLE, spill)
    assert spill.step(1.0, {"syd": Other(0.95)}, next(_clock)) == {}
    assert settled(1.0, IDLE, spill)
    assert spill.step(None, IDLE, next(_clock)) == {}, "the own load is unknown"


def turns(values: list[float], least: float = 0.05) -> int:
    """How often a curve turns by more than `least`."""
    count, direction, extreme = 0, 0, values[0]
    for value in values:
        if direction >= 0 and value < extreme - least:
            count, direction, extreme = count + (direction > 0), -1, value
        elif direction <= 0 and value > extreme + least:
            count, direction, extreme = count + (direction < 0), 1, value
        elif (direction > 0 and value > extreme) or (direction < 0 and value < extreme):
            extreme = value
    return count


@pytest.mark.parametrize("minutes", [0.02, 0.1, 0.5, 2.0])
def test_an_overloaded_site_spills_and_recovers_without_swinging(minutes: float) -> None:
    farm = Farm({"mel": 100.0, "syd": 200.0, "dub": 100.0}, minutes)
    usual = {name: 0.4 * capacity * farm.leave for name, capacity in farm.capacity.items()}
    for _ in range(300):
        farm.second(usual)
    assert max(farm.sent["mel"]) == 0.0
    for _ in range(900):
        farm.second({**usual, "mel": 3.5 * usual["mel"]})  # 1.4 times what mel can carry
    late = farm.loads["mel"][-300:]
    assert max(late) < 1.0, "mel is not overloaded"
    assert min(late) > 0.75, "mel does not send away more than it must"
    assert max(farm.loads["syd"] + farm.loads["dub"]) < 0.8, "the others are not worse off"
    assert turns(farm.sent["mel"][300:600]) <= 3, "it settles"
    assert turns(farm.sent["mel"][600:1200]) == 0
    for _ in range(600):
        farm.second(usual)
    assert farm.sent["mel"][-1] == 0.0
    assert turns(farm.sent["mel"][1200:]) == 0
    assert farm.loads["mel"][-1] == pytest.approx(0.4, abs=0.02)


def test_sites_that_are_all_full_send_nothing_to_each_other() -> None:
    farm = Farm({"mel": 100.0, "syd": 100.0})
    for _ in range(600):
        farm.second(dict.fromkeys(farm.capacity, 1.3 * 100.0 * farm.leave))
    assert farm.sent["mel"][-1] == farm.sent["syd"][-1] == 0.0
