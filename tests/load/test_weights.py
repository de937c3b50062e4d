import random
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.load.meter import Meter
from gateway.load.weights import MAX_FACTOR, MIN_FACTOR, Observation, approach, targets


def seen(load: float | None, rate: float = 0.0, weight: float = 1.0, failures: float = 0.0) -> Observation:
    return Observation(weight, rate, failures, load)


@pytest.mark.parametrize(
    "servers, expected",
    [
        pytest.param([], [], id="nothing"),
        pytest.param([seen(None), seen(None, weight=3.0)], [1.0, 3.0], id="no reports: as configured"),
        pytest.param([seen(0.4), seen(0.4)], [1.0, 1.0], id="equals"),
        pytest.param([seen(0.8), seen(0.2)], [0.4, 1.6], id="no traffic: headroom decides"),
        pytest.param([seen(0.8), seen(0.2, weight=2.0)], [0.4, 3.2], id="the configured weight multiplies"),
        pytest.param([seen(5.0), seen(0.0)], [0.1, 2 / 1.05], id="overloaded: never below a tenth"),
        pytest.param([seen(0.99), *[seen(0.98)] * 9, seen(0.0)], [11 / 30] * 10 + [4.0], id="never above four"),
        pytest.param([seen(3.0), seen(2.0)], [1.0, 1.0], id="all overloaded"),
        pytest.param([seen(0.8), seen(0.2), seen(None)], [0.4, 1.6, 1.0], id="silent: the mean of the others"),
        pytest.param([seen(5.0), seen(0.0), seen(None, weight=2.0)], [0.1, 2 / 1.05, 2.00476], id="its own size"),
        pytest.param([seen(0.2, failures=0.6), seen(0.2)], [0.4, 1.6], id="failures count as load"),
        pytest.param([seen(0.0, 100.0), seen(0.0, 100.0)], [1.0, 1.0], id="idle by its own word"),
    ],
)
def test_targets(servers: list[Observation], expected: list[float]) -> None:
    assert targets(servers) == pytest.approx(expected, abs=1e-3)


def test_capacity_shows_with_traffic() -> None:
    # Twice the requests at the same load: twice the capacity, as far as the backend is busy.
    small, large = targets([seen(0.5, 100.0), seen(0.5, 200.0)])
    assert small + large == pytest.approx(2.0, abs=0.02)
    assert 1.3 < large / small < 2.0
    busier_small, busier_large = targets([seen(0.79, 100.0), seen(0.79, 200.0)])
    assert busier_large / busier_small > large / small


def test_a_few_requests_prove_little() -> None:
    few, many = targets([seen(0.5, 0.1), seen(0.5, 0.2)])
    assert few == pytest.approx(many, rel=0.05)


def test_a_server_that_gets_nothing_yet_is_judged_by_headroom() -> None:
    back, *others = targets([seen(0.1, 0.0), seen(0.7, 500.0), seen(0.7, 500.0)])
    assert back > max(others)


def test_twice_the_size_at_equal_load_gets_twice_the_weight() -> None:
    assert targets([seen(0.7, 200.0, weight=2.0), seen(0.7, 100.0)]) == pytest.approx([2.0, 1.0])


loads = st.none() | st.floats(0.0, 1e6)
observations = st.builds(
    Observation,
    weight=st.floats(1.0, 256.0),
    rate=st.floats(0.0, 1e6),
    failure_ratio=st.floats(0.0, 1.0),
    load=loads,
)


@given(st.lists(observations, max_size=8))
def test_no_input_leads_out_of_bounds(servers: list[Observation]) -> None:
    for server, target in zip(servers, targets(servers), strict=True):
        assert MIN_FACTOR * 0.999 <= target / server.weight <= MAX_FACTOR * 1.001


def test_approach_is_the_same_in_one_step_or_many() -> None:
    assert approach(1.0, 3.0, 2.0) == pytest.approx(3.0 - 2.0 * 0.36788, abs=1e-4)
    many = 1.0
    for _ in range(20):
        many = approach(many, 3.0, 0.1)
    assert many == pytest.approx(approach(1.0, 3.0, 2.0))
    assert approach(1.0, 3.0, 0.0) == 1.0


@dataclass
class Machine:
    """A simulated server: requests a second it can do, other work on it, and whether its agent talks."""

    capacity: float
    background: float = 0.0
    talks: bool = True
    weight: float = 1.0
    done: float = 0.0
    meter: Meter = field(default_factory=lambda: Meter(0, 0))
    load: float = 0.0


class Farm:
    """Machines that get requests by weight, as unevenly as clients send them, and control's loop."""

    STEP = 0.5

    def __init__(self, *machines: Machine, demand: float, seed: int = 1) -> None:
        self.machines = machines
        self.demand = demand
        self.now = 0.0
        self._rng = random.Random(seed)

    def run(self, seconds: float) -> list[list[float]]:
        """Return the weights after every step."""
        history = []
        for _ in range(int(seconds / self.STEP)):
            self._step()
            history.append([machine.weight for machine in self.machines])
        return history

    def _step(self) -> None:
        self.now += self.STEP
        total = sum(machine.weight for machine in self.machines)
        for machine in self.machines:
            mean = self.demand * self.STEP * machine.weight / total
            arrived = max(0.0, self._rng.gauss(mean, sqrt(mean)))
            machine.done += arrived
            machine.meter.count(int(machine.done), 0, self.STEP)
            if machine.talks:  # what it says is one step old
                machine.meter.hear(machine.load, self.now, 3.0)
            machine.load = machine.background + arrived / self.STEP / machine.capacity
        wanted = targets([machine.meter.observe(1.0, machine.meter.load(self.now, 3.0)) for machine in self.machines])
        for machine, target in zip(self.machines, wanted, strict=True):
            machine.weight = approach(machine.weight, target, self.STEP)


@pytest.mark.parametrize("demand", [1.0, 30.0, 300.0, 1000.0, 1500.0, 1900.0])
def test_a_server_with_other_work_gets_less_and_all_settle(demand: float) -> None:
    farm = Farm(Machine(1000.0, background=0.8), Machine(1000.0), Machine(1000.0), demand=demand)
    farm.run(15.0)
    late = farm.run(60.0)
    for busy, *equals in late:
        assert MIN_FACTOR < busy < 0.45 * min(equals)
    # Settled: whatever still moves is the noise of the arrivals.
    for weights in zip(*late, strict=True):
        assert max(weights) - min(weights) < 0.15


@pytest.mark.parametrize("demand", [3.0, 300.0, 1500.0, 2400.0, 2900.0])
def test_equals_stay_equal_up_to_full_load(demand: float) -> None:
    farm = Farm(Machine(1000.0), Machine(1000.0), Machine(1000.0), demand=demand)
    for weights in farm.run(60.0):
        assert max(weights) < 1.25 * min(weights)


def test_weights_recover_when_the_other_work_ends() -> None:
    farm = Farm(Machine(1000.0, background=0.8), Machine(1000.0), Machine(1000.0), demand=300.0)
    assert farm.run(30.0)[-1][0] < 0.3
    farm.machines[0].background = 0.0
    assert farm.run(15.0)[-1][0] == pytest.approx(1.0, abs=0.1)


def test_a_load_that_no_request_causes_leaves_weights_where_they_belong() -> None:
    farm = Farm(*(Machine(1e9, background=0.9) for _ in range(3)), demand=1500.0)
    farm.machines[0].weight = 3.0
    farm.run(120.0)
    for weights in farm.run(30.0):
        assert max(weights) < 1.25 * min(weights)


def test_a_silent_agent_returns_to_neutral() -> None:
    farm = Farm(Machine(1000.0, background=0.8), Machine(1000.0), Machine(1000.0), demand=300.0)
    assert farm.run(30.0)[-1][0] < 0.3
    farm.machines[0].talks = False
    silence = [weights[0] for weights in farm.run(20.0)]
    assert silence == sorted(silence)  # all the way up, no jump
    assert max(after - before for before, after in pairwise(silence)) < 0.3
    assert silence[int(3.0 / Farm.STEP)] < 0.5  # while the last report counts
    assert silence[-1] == pytest.approx(1.0, abs=0.02)


def test_unequal_machines_get_work_in_proportion_to_their_capacity() -> None:
    farm = Farm(Machine(2000.0), Machine(1000.0), demand=2000.0)
    large, small = farm.run(60.0)[-1]
    assert 1.5 < large / small < 2.2
