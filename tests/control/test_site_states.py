"""What control knows of sites: who is heard, who drains, and how much each can carry."""

import pytest

from gateway.control.hearsay import Capacity, Hearsay, SiteView
from loadagent.report import Report, State


def report(node: str, state: State = State.READY, **metrics: float) -> Report:
    return Report("syd", 1, 1, 1, state, node, metrics)


def test_a_site_is_what_its_gateways_say() -> None:
    heard = Hearsay()
    assert heard.view("syd", 0.0, 5.0) == SiteView(up=False)
    heard.hear(report("gw1", load=0.5, load_mean=0.6, requests=100.0), 0.0)
    heard.hear(report("gw2", load=0.7, load_mean=0.4, requests=50.0), 1.0)
    assert heard.view("syd", 1.0, 5.0) == SiteView(up=True, load=0.6, requests=150.0)
    assert heard.load("syd", 1.0, 5.0) == (0.7, 1.0), "requests are no load"
    heard.hear(report("gw2", State.DRAIN, load=0.7, requests=50.0), 2.0)
    assert heard.view("syd", 2.0, 5.0) == SiteView(up=True, load=0.6, requests=100.0)
    heard.hear(report("gw1", State.DRAIN), 2.0)
    assert heard.view("syd", 2.0, 5.0) == SiteView(up=True, draining=True)
    assert heard.load("syd", 2.0, 5.0) is None
    heard.hear(report("gw1", State.MAINTENANCE), 3.0)
    heard.hear(report("gw2", State.READY), 3.0)
    assert heard.view("syd", 3.0, 5.0) == SiteView(up=True)
    assert heard.view("syd", 8.1, 5.0) == SiteView(up=False), "silent for too long"


def test_capacity_is_what_is_answered_at_the_load_that_it_makes() -> None:
    capacity = Capacity()
    capacity.observe(500.0, None)
    assert capacity.estimate is None
    for _ in range(100):
        capacity.observe(300.0, 0.25)
    assert capacity.estimate == pytest.approx(1200.0)
    for _ in range(100):
        capacity.observe(0.0, 0.0)
    assert capacity.estimate is not None
    assert capacity.estimate == pytest.approx(1200.0, rel=0.01), "an idle site keeps its last estimate"
    for _ in range(100):
        capacity.observe(400.0, 0.5)
    assert capacity.estimate == pytest.approx(800.0, rel=0.01)


def test_a_site_is_evacuated_when_one_of_its_gateways_says_so() -> None:
    heard = Hearsay()
    heard.hear(report("gw1", load=0.5, requests=100.0, dns_ttl=30.0), 0.0)
    heard.hear(report("gw2", State.DRAIN, load=0.7, evacuates=1.0, dns_ttl=60.0), 1.0)
    assert heard.view("syd", 1.0, 5.0) == SiteView(up=True, draining=True, evacuates="gw2")
    assert heard.load("syd", 1.0, 5.0) is None, "no redirects"
    assert heard.ttl(1.0, 5.0) == 60.0
    heard.hear(report("gw2", State.READY, load=0.7, requests=1.0), 2.0)
    assert heard.view("syd", 2.0, 5.0) == SiteView(up=True, load=0.7, requests=101.0), "gateways that do not say a mean"
