import json

from gateway.heartbeat.counters import Counters


def test_an_upgrade_goes_on_counting():
    one, other, old = Counters(), Counters(), Counters()
    one.takeovers["192.0.2.10"] += 2
    one.failures["fence"] += 1
    other.takeovers["192.0.2.10"] += 1
    other.adopt(json.loads(json.dumps(one.handed_over())))
    assert other.handed_over() == {
        "refused": {},
        "takeovers": {"192.0.2.10": 3},
        "releases": {},
        "contests": {},
        "failures": {"fence": 1},
    }
    old.adopt({"refused": {"bad: size": 1}, "started": {}})
    assert old.refused == {"bad: size": 1}
