"""Sessions and rates over two gateways: together, parted, healed, and after the death of one."""

import json
from collections import Counter

import pytest

from tests.netns.lab import PYTHON
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)

MOST = 20
BURST = 6
ASK = """
import http.client, json, sys
count, path, cookie = int(sys.argv[1]), sys.argv[2], sys.argv[3]
found = []
for _ in range(count):
    client = http.client.HTTPConnection("127.0.0.1", 80, timeout=10)
    client.request("GET", path, headers={"Cookie": cookie} if cookie else {})
    answer = client.getresponse()
    ticket = (answer.getheader("Set-Cookie") or "").partition(";")[0]
    client.close()
    status = answer.status
    if ticket and not cookie:  # a session whose ticket never comes back ends soon; it gets another one
        client.request("GET", path, headers={"Cookie": ticket})
        answer = client.getresponse()
        assert answer.status == 200
        ticket = (answer.getheader("Set-Cookie") or ticket).partition(";")[0]
        client.close()
    found.append([status, ticket])
print(json.dumps(found))
"""


def ask(gateway, count=1, path="/", cookie=""):
    """Ask a gateway from its own host: the same source everywhere."""
    return json.loads(gateway.run(PYTHON, "-c", ASK, str(count), path, cookie))


def statuses(gateway, count, path="/"):
    return Counter(status for status, _ in ask(gateway, count, path))


def sessions(gateway):
    return gateway.status()["sessions"]


def told(lab):
    """Wait until each gateway has heard what the other one knows now."""
    before = [sessions(gateway)["cluster"]["heard"] for gateway in lab.gateways]

    def heard():
        now = [sessions(gateway)["cluster"]["heard"] for gateway in lab.gateways]
        return all(sum(later.values()) >= sum(earlier.values()) + 3 for earlier, later in zip(before, now, strict=True))

    eventually(heard, "the gateways to hear each other")


def parted(lab):
    eventually(lambda: all(sessions(one)["cluster"]["silent"] for one in lab.gateways), "both to be alone")


def boot(lab):
    for gateway in lab.gateways:
        gateway.start(PYTHON, "-m", "http.server", "9000", "--bind", "127.0.0.1", "--directory", str(lab.directory))
    routes = [
        {"match": {"path": f"= /{name}"}, "rate": "10/h", "burst": BURST, "per": "source", "respond": {"status": 204}}
        for name in ("together", "parted")
    ]
    lab.boot(
        {**lab.cluster(), "listen": 7945},
        backends={"app": {"servers": ["127.0.0.1:9000"]}},
        routes=[*routes, {"backend": "app"}],
        qos={"sessions": {"max": MOST}},
    )
    told(lab)


def test_sessions_and_rates_hold_over_gateways_and_through_a_partition(pair):
    boot(pair)
    one, other = pair.gateways

    admitted = ask(one, 1)
    cookie = admitted[0][1]
    assert admitted[0][0] == 200
    inside = Counter({"all": 1})

    def fill():
        for gateway in pair.gateways:
            inside["all"] += statuses(gateway, 8)[200]
            told(pair)
        return inside["all"] >= MOST

    eventually(fill, "the places to be taken", 60)
    assert inside["all"] == MOST  # each has heard of the other before it admits more

    assert statuses(one, 4, "/together") == {204: 4}
    told(pair)
    assert statuses(other, 8, "/together") == {204: BURST - 4, 429: 8 - (BURST - 4)}

    pair.cut(other.name)
    parted(pair)
    for gateway in pair.gateways:
        assert statuses(gateway, 5)[200] == 0  # no place was free when they were parted
        assert statuses(gateway, 8, "/parted") == {204: BURST, 429: 8 - BURST}  # once for each part
    pair.heal()
    pair.rejoin(other.name)
    told(pair)
    for gateway in pair.gateways:
        assert statuses(gateway, 5)[200] == 0
        assert statuses(gateway, 2, "/parted") == {429: 2}
        assert sessions(gateway)["cluster"]["silent"] == []

    one.kill(one.process.pid)
    one.signal_all(9)
    eventually(lambda: sessions(other)["cluster"]["silent"] == [one.name], "its death to be noticed")
    assert ask(other, 1, cookie=cookie)[0][0] == 200  # who is in stays in
    assert statuses(other, 3)[200] == 0
