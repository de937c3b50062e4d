import json

from gateway.heartbeat.tally import Tally


def test_an_upgrade_goes_on_counting():
    one, other, old = Tally(), Tally(), Tally()
    one.takeovers["192.0.2.10"] += 2
    one.failures["fence"] += 1
    other.takeovers["192.0.2.10"] += 1
    other.adopt(json.loads(json.dumps(one.leave())))
    assert other.leave() == {
        "counters": {},
        "takeovers": {"192.0.2.10": 3},
        "releases": {},
        "contests": {},
        "failures": {"fence": 1},
    }
    old.adopt({"counters": {"bad: size": 1}, "started": {}})
    assert old.counters == {"bad: size": 1}
