"""What neighbours see of a takeover: frames on the wire, and the hardware address that they remember."""

import itertools
import json
import re
import signal
import time

import pytest

from tests.netns.lab import HERE, PYTHON, VIP, VIP6, Watch
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(90)

BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "33:33:00:00:00:01"


def mac_after(word, text):
    """The hardware address that stands in `text` after `word`."""
    found = re.search(rf"{word} (\S+)", text)
    return found[1] if found else None


def entry(host, address):
    """The hardware address that `host` has for `address`."""
    return mac_after("lladdr", host.run("ip", "neigh", "show", address))


def start_capture(pair):
    """What neighbours are told, a line of JSON each."""
    capture = pair.client.start(PYTHON, str(HERE / "frames.py"), VIP, VIP6)
    assert capture.stdout is not None
    assert capture.stdout.readline() == b"ready\n"
    return capture


OFTEN = "import gateway.heartbeat.announcing as a; a.AGAIN = 0.4; from gateway.cli import main; main()"
"""The gateway, with less time between the announcements that are repeated for as long as an address stays."""


def test_announcements_are_repeated_and_come_again_when_a_partition_heals(pair):
    pair.boot(command=("-c", OFTEN))
    gw1, _ = pair.gateways
    mac = mac_after("link/ether", gw1.run("ip", "link", "show", "dev", "eth0"))
    eventually(lambda: gw1.ask()["history"][-1]["ago"] > 4.5, "the burst after the takeover to be over")
    capture = start_capture(pair)

    def requests():
        """When each ARP request of gw1 for its own address was seen."""
        for line in capture.stdout:
            at, kind, address, claimed, *_ = json.loads(line)
            if (kind, address, claimed) == ("request", VIP, mac):
                yield at

    seen = requests()
    repeated = [next(seen) for _ in range(3)]
    # Of a burst none would be so far from the one before; a slow machine makes them later, never sooner.
    assert min(after - before for before, after in itertools.pairwise(repeated)) > 0.3
    pair.cut("gw2")
    eventually(lambda: not gw1.sees("gw2"), "gw1 to lose sight of gw2")
    healed = time.time()
    pair.heal()
    eventually(lambda: gw1.sees("gw2"), "gw1 to see gw2 again")
    again = itertools.islice((at for at in seen if at > healed), 8)
    close = sum(after - before < 0.3 for before, after in itertools.pairwise(again))
    assert close >= 2, "gw2 may have believed another owner: it is told several times in a row"
    assert gw1.has()
    capture.send_signal(signal.SIGTERM)


def test_a_takeover_is_announced_in_every_form_and_again(pair):
    pair.boot()
    gw1, gw2 = pair.gateways
    capture = start_capture(pair)
    mac = mac_after("link/ether", gw2.run("ip", "link", "show", "dev", "eth0"))
    gw1.signal_all(signal.SIGKILL)
    eventually(lambda: gw2.has() and gw2.has(VIP6), "gw2 to have both addresses")
    request, reply = ["request", VIP, mac, mac, BROADCAST], ["reply", VIP, mac, mac, BROADCAST]
    advertisement = ["advertisement", VIP6, mac, mac, ALL_NODES]
    frames = []
    for frame in map(json.loads, capture.stdout):
        if frame[3] == mac:
            frames.append(frame[1:])
        if min(map(frames.count, (request, reply, advertisement))) == 5:  # a burst, as one may be lost
            break
    capture.send_signal(signal.SIGTERM)
    ipv4 = [frame for frame in frames if frame[1] == VIP]
    ipv6 = [frame for frame in frames if frame[1] == VIP6]
    assert ipv4[:2] == [request, reply]
    assert min(ipv4.count(request), ipv4.count(reply)) >= 5
    assert set(map(tuple, ipv6)) == {tuple(advertisement)}


def test_a_virtual_mac_moves_with_the_address(pair):
    pair.boot(pair.cluster(virtual_mac=17))
    gw1, gw2 = pair.gateways
    client = pair.client
    mac, mac6 = "00:00:5e:00:01:11", "00:00:5e:00:02:11"
    assert f" {VIP}/" in gw1.run("ip", "addr", "show", "dev", "vmac17v4")
    client.run("ping", "-c", "1", "-W", "5", VIP6)
    with Watch(pair) as watch:
        assert entry(client, VIP) == mac
        eventually(lambda: entry(client, VIP6) == mac6, "the client to know the IPv6 address")
        client.run(
            "ip", "neigh", "change", VIP, "lladdr", mac, "dev", "eth0", "nud", "permanent"
        )  # it never asks again
        gw1.signal_all(signal.SIGKILL)
        eventually(gw2.has, "gw2 to have the address")
        watch.wait_for("gw2")
        seen = watch.finish()
    assert entry(client, VIP) == mac
    eventually(lambda: entry(client, VIP6) == mac6, "the IPv6 entry to be the same")
    assert seen.speakers() == ["gw1", "gw2"]
    client.run("ip", "neigh", "del", VIP, "dev", "eth0")
    client.run("ping", "-c", "1", "-W", "5", VIP)
    assert entry(client, VIP) == mac, "the interface itself does not answer for it"
    assert "state DOWN" not in gw2.run("ip", "link", "show", "dev", "vmac17v4")
    gw2.ask("standby")
