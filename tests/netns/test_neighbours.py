"""What neighbours see of a takeover: frames on the wire, and the hardware address that they remember."""

import json
import re
import signal
import time

import pytest

from tests.netns.lab import HERE, PYTHON, VIP, VIP6, Watch, wait_for

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


def test_a_takeover_is_announced_in_every_form_and_again(pair):
    pair.boot()
    gw1, gw2 = pair.gateways
    capture = pair.client.start(PYTHON, str(HERE / "frames.py"), VIP, VIP6)
    assert capture.stdout is not None
    assert capture.stdout.readline() == b"ready\n"
    mac = mac_after("link/ether", gw2.run("ip", "link", "show", "dev", "eth0"))
    gw1.signal_all(signal.SIGKILL)
    wait_for(lambda: gw2.has() and gw2.has(VIP6), "gw2 to have both addresses")
    time.sleep(1.5)
    capture.send_signal(signal.SIGTERM)
    frames = [frame[1:] for frame in json.loads(capture.stdout.read()) if frame[3] == mac]
    request, reply = ["request", VIP, mac, mac, BROADCAST], ["reply", VIP, mac, mac, BROADCAST]
    advertisement = ["advertisement", VIP6, mac, mac, ALL_NODES]
    ipv4 = [frame for frame in frames if frame[1] == VIP]
    ipv6 = [frame for frame in frames if frame[1] == VIP6]
    assert ipv4[:2] == [request, reply]
    assert min(ipv4.count(request), ipv4.count(reply)) >= 5, "a burst, as one may be lost"
    assert set(map(tuple, ipv6)) == {tuple(advertisement)}
    assert len(ipv6) >= 5


def test_a_virtual_mac_moves_with_the_address(pair):
    pair.boot(pair.cluster(virtual_mac=17))
    gw1, gw2 = pair.gateways
    client = pair.client
    mac, mac6 = "00:00:5e:00:01:11", "00:00:5e:00:02:11"
    assert f" {VIP}/" in gw1.run("ip", "addr", "show", "dev", "vmac17v4")
    client.run("ping", "-c", "1", "-W", "5", VIP6)
    with Watch(pair) as watch:
        assert entry(client, VIP) == mac
        wait_for(lambda: entry(client, VIP6) == mac6, "the client to know the IPv6 address")
        client.run(
            "ip", "neigh", "change", VIP, "lladdr", mac, "dev", "eth0", "nud", "permanent"
        )  # it never asks again
        gw1.signal_all(signal.SIGKILL)
        wait_for(gw2.has, "gw2 to have the address")
        watch.wait_for("gw2")
        seen = watch.finish()
    assert entry(client, VIP) == mac
    wait_for(lambda: entry(client, VIP6) == mac6, "the IPv6 entry to be the same")
    assert seen.speakers() == ["gw1", "gw2"]
    client.run("ip", "neigh", "del", VIP, "dev", "eth0")
    client.run("ping", "-c", "1", "-W", "5", VIP)
    assert entry(client, VIP) == mac, "the interface itself does not answer for it"
    assert "state DOWN" not in gw2.run("ip", "link", "show", "dev", "vmac17v4")
    gw2.ask("standby")
