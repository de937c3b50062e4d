"""How clients are shared out: properties of every policy, and the damping of moves."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.balance.site_shares import TURNS, Balance, Plan, SiteState, live, orders, wanted

POLICIES = ("load", "nearest", "round-robin", "weighted", "failover")
STATES = st.builds(
    SiteState,
    up=st.booleans(),
    draining=st.booleans(),
    load=st.none() | st.floats(0, 2),
    capacity=st.none() | st.floats(1, 1e5),
)
MANY = st.dictionaries(st.sampled_from("abcdef"), STATES, min_size=1)


def plan(policy, sites, shift=0.1, weights=None):
    return Plan(policy, tuple(sites), tuple(weights or [1] * len(sites)), 10.0, shift)


@given(st.sampled_from(POLICIES), MANY, st.none() | st.sampled_from("abcdef"))
def test_shares_are_whole_and_only_of_sites_that_work(policy, states, prefers):
    shares = wanted(plan(policy, states), states, prefers)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in shares.values())
    working = {site for site, state in states.items() if state.live}
    assert set(shares) == (working or set(states)), "if none works, all are answered"


@given(st.sampled_from(POLICIES), MANY, st.lists(st.tuples(MANY, st.floats(0, 30)), max_size=8))
def test_a_balance_moves_no_faster_than_told_among_sites_that_stay(policy, states, changes):
    sites = sorted("abcdef")
    balance = Balance(plan(policy, sites))
    now = 0.0
    balance.move(states, now)
    for after, seconds in changes:
        before, working = balance.shares, live(sites, states)[0]
        now += seconds
        balance.move(after, now)
        assert sum(balance.shares.values()) == pytest.approx(1.0)
        assert set(balance.shares) == set(live(sites, after)[0])
        if policy in {"load", "nearest"} and working == live(sites, after)[0]:
            moved = sum(max(0.0, balance.shares[site] - before[site]) for site in before)
            assert moved <= 0.1 * seconds / 10.0 + 1e-9
        states = after


def test_shares_follow_the_capacity_that_is_left():
    states = {"a": SiteState(load=0.5, capacity=1000), "b": SiteState(load=0.5, capacity=3000)}
    assert wanted(plan("load", "ab"), states) == pytest.approx({"a": 0.25, "b": 0.75})
    states["b"] = SiteState(load=0.9, capacity=3000)
    assert wanted(plan("load", "ab"), states) == pytest.approx({"a": 500 / 800, "b": 300 / 800})


def test_weights_are_the_capacities_unless_all_are_measured():
    states = {"a": SiteState(load=0.5, capacity=1000), "b": SiteState(load=0.5)}
    assert wanted(plan("load", "ab", weights=[1, 4]), states) == pytest.approx({"a": 0.2, "b": 0.8})


def test_a_site_of_unknown_load_counts_as_the_mean_of_the_others():
    states = {"a": SiteState(load=0.2), "b": SiteState(load=0.6), "c": SiteState()}
    shares = wanted(plan("load", "abc"), states)
    assert shares["c"] == pytest.approx(1 / 3)


def test_a_change_of_load_reaches_all_clients_after_some_ttls_and_not_before():
    balance = Balance(plan("load", "ab"))
    balance.move({"a": SiteState(load=0.5), "b": SiteState(load=0.5)}, 0.0)
    assert balance.shares == pytest.approx({"a": 0.5, "b": 0.5})
    uneven = {"a": SiteState(load=0.9), "b": SiteState(load=0.1)}
    balance.move(uneven, 10.0)
    assert balance.shares == pytest.approx({"a": 0.4, "b": 0.6})
    for second in range(11, 60):
        balance.move(uneven, float(second))
    assert balance.shares == pytest.approx({"a": 0.1, "b": 0.9})


def test_a_dead_site_is_out_at_once_and_comes_back_slowly():
    balance = Balance(plan("load", "ab"))
    both = {"a": SiteState(load=0.5), "b": SiteState(load=0.5)}
    balance.move(both, 0.0)
    balance.move({**both, "b": SiteState(up=False)}, 0.1)
    assert balance.shares == {"a": 1.0}
    balance.move(both, 0.2)
    assert balance.shares["b"] < 0.01
    balance.move(both, 10.2)
    assert balance.shares["b"] == pytest.approx(0.101, abs=0.001)


def test_a_draining_site_gets_no_client():
    states = {"a": SiteState(), "b": SiteState(draining=True)}
    assert wanted(plan("round-robin", "ab"), states) == {"a": 1.0}
    assert wanted(plan("load", "ab"), states, "b") == {"a": 1.0}


def test_failover_takes_the_first_that_works():
    assert wanted(plan("failover", "abc"), {}) == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert wanted(plan("failover", "abc"), {"a": SiteState(up=False)}) == {"b": 1.0, "c": 0.0}


def test_clients_stay_at_the_site_that_they_prefer_until_it_is_nearly_full():
    def share(load):
        return wanted(plan("load", "ab"), {"a": SiteState(load=load), "b": SiteState(load=0.5)}, "a")["a"]

    assert share(0.3) == share(0.8) == 1.0
    assert 0.5 < share(0.85) < 1.0
    assert share(1.0) < 0.1
    assert share(0.82) > share(0.9) > share(0.99)


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 50), min_size=1))
@example({"a": 1, "b": 1, "c": 27, "d": 27, "e": 27})
def test_orders_have_every_site_and_the_first_place_by_share(parts):
    total = sum(parts.values())
    shares = {site: part / total for site, part in parts.items()} if total else dict.fromkeys(parts, 1 / len(parts))
    found = list(orders(shares))
    assert len(found) == TURNS
    assert all(sorted(order) == sorted(parts) for order in found)
    first = Counter(order[0] for order in found)
    # The one that is chosen has the most credit, which is more than none, so no site is first more than once too often;
    # credits add up to nothing, so one that is too seldom lacks at most what the others have too much.
    for site, share in shares.items():
        assert -max(1, len(shares) - 1) < first[site] - TURNS * share < 1.0 + 1e-6


def test_the_second_place_goes_by_share_among_the_others():
    found = list(orders({"a": 0.5, "b": 0.4, "c": 0.1}))
    second = Counter(order[1] for order in found if order[0] == "a")
    assert second["b"] == pytest.approx(0.4 * TURNS, abs=1)
