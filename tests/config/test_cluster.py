"""The cluster section: what is wrong with it, and where."""

from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.cluster import WitnessDisk
from tests.config.conftest import BASE, Refuse

CLUSTER = """\
node: gw1
cluster:
  key_file: cluster.key
  nodes: {gw1: 192.168.7.1, gw2: 192.168.7.2}
"""


@pytest.fixture(autouse=True)
def key(tmp_path: Path) -> None:
    path = tmp_path / "cluster.key"
    path.touch(mode=0o600)
    path.write_bytes(b"0123456789abcdef")


def test_defaults(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(f"{BASE}{CLUSTER}  addresses: [{{address: 192.0.2.10/24, interface: eth0}}]\n")
    cluster = load(path).site.cluster
    assert cluster is not None
    assert cluster.heartbeat.interval == 0.1
    assert cluster.heartbeat.dead_after == 0.4
    assert [link.name for link in cluster.heartbeat.links] == ["udp"]
    assert cluster.addresses[0].ip == "192.0.2.10"
    assert not cluster.addresses[0].failback


@pytest.mark.parametrize(
    "more, message",
    [
        (
            "  addresses: [{address: »192.0.2.10, interface: eth0}]",
            "192.0.2.10 needs the length of its network's prefix",
        ),
        ("  addresses: [{address: »127.0.0.5/8, interface: eth0}]", "127.0.0.5/8 cannot be a shared address"),
        ("  addresses: [{address: »192.168.7.1/24, interface: eth0}]", "192.168.7.1 is a node's own address"),
        ("  addresses: [{address: 192.0.2.10/24, interface: »a b}]", "expected the name of a network interface"),
        (
            "  addresses: [{address: 192.0.2.10/24, interface: eth0, prefer: »gw3}]",
            "there is no node gw3 (did you mean gw2?)",
        ),
        ("  heartbeat: {interval: 200ms, dead_after: »400ms}", "must be at least three times interval"),
        ("  heartbeat: {interval: »1ms}", "must be at least 10ms"),
        ("  heartbeat: {links: [»{interface: eth1}]}", "a link needs exactly one of udp, multicast, serial, disk"),
        ("  heartbeat: {links: [{udp: 694, »baud: 9600}]}", "baud cannot be combined with udp"),
        ("  heartbeat: {links: [{multicast: »10.0.0.1}]}", "10.0.0.1 is not an IPv4 multicast group"),
        ("  heartbeat: {links: [{udp: 694}, {udp: 695}, »{udp: 694}]}", "duplicate of links[0]"),
        ("  listen: »7945\n  heartbeat: {links: [{udp: 7945}]}", "UDP port 7945 is used for beats: choose another one"),
        ("  resources: [{name: a, run: /bin/a, with: »192.0.2.77}]", "192.0.2.77 is not one of addresses"),
        (
            "  addresses: [{address: 192.0.2.10/24, interface: eth0, virtual_mac: »256}]",
            "expected a number from 1 to 255, or true",
        ),
        (
            """\
  addresses:
  - {address: 192.0.2.10/24, interface: eth0, virtual_mac: true}
  - {address: 192.0.2.11/24, interface: eth1, virtual_mac: »10}""",
            "another address has virtual_mac 10",
        ),
        ("  on_takeover: »tell-us", "expected the absolute path of a program"),
        ("  witness: {»etcd: http://10.0.0.1}", "etcd cannot be the witness"),
        ("  witness: {»dsik: /dev/sdb}", "a witness is an address or {disk: /dev/...}, not dsik"),
        ("  witness: »{disk: 7}", "expected {disk: /dev/...}, the name of a device or file"),
        ("  witness: »somewhere", "somewhere is not an address such as 192.168.7.9"),
    ],
)
def test_mistakes_are_reported_at_their_place(refuse: Refuse, more: str, message: str) -> None:
    refuse(f"{BASE}{CLUSTER}{more}\n", message)


def test_this_node_is_one_of_the_nodes(refuse: Refuse) -> None:
    text = f"{BASE}{CLUSTER}".replace("node: gw1", "node: gw3").replace("  nodes:", "  »nodes:")
    refuse(text, "this node, gw3, is none of gw1, gw2: set `node:` (did you mean gw2?)")


def test_a_key_that_others_can_read_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "cluster.key").chmod(0o644)
    refuse(f"{BASE}{CLUSTER}".replace("key_file: ", "key_file: »"), "other users can read")


def test_a_disk_is_named_relative_to_the_site_file(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(f"{BASE}{CLUSTER}  witness: {{disk: lease}}\n")
    cluster = load(path).site.cluster
    assert cluster is not None
    assert cluster.witness == WitnessDisk(disk=tmp_path / "lease")
