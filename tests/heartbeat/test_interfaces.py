"""The kernel's settings of an interface, which decide whether an address moves properly."""

from pathlib import Path

import pytest

from gateway.heartbeat.interfaces import doubts

GOOD = {"arp_ignore": "1", "arp_announce": "2", "promote_secondaries": "1"}


def write(kernel: Path, place: str, values: dict[str, str]) -> None:
    directory = kernel / "ipv4" / "conf" / place
    directory.mkdir(parents=True)
    for name in GOOD:
        (directory / name).write_text(values.get(name, "0") + "\n")


@pytest.mark.parametrize("place", ["eth0", "all"])
def test_a_setting_counts_for_the_interface_and_for_all(tmp_path: Path, place: str) -> None:
    for each in ("eth0", "all"):
        write(tmp_path, each, GOOD if each == place else {})
    assert list(doubts("eth0", ipv4=True, ipv6=False, kernel=tmp_path)) == []


def test_settings_that_are_wrong_are_named(tmp_path: Path) -> None:
    write(tmp_path, "eth0", {"arp_ignore": "2"})  # stricter than needed
    write(tmp_path, "all", {"arp_announce": "1"})
    said = list(doubts("eth0", ipv4=True, ipv6=False, kernel=tmp_path))
    assert [line.partition(",")[0] for line in said] == [
        "net.ipv4.conf.eth0.arp_announce is 0",
        "net.ipv4.conf.eth0.promote_secondaries is 0",
    ]


def test_an_interface_without_ipv6_is_not_asked_for_it(tmp_path: Path) -> None:
    off = tmp_path / "ipv6" / "conf" / "eth0" / "disable_ipv6"
    off.parent.mkdir(parents=True)
    off.write_text("1\n")
    assert list(doubts("eth0", ipv4=False, ipv6=False, kernel=tmp_path)) == []
    assert [line.partition(",")[0] for line in doubts("eth0", ipv4=False, ipv6=True, kernel=tmp_path)] == [
        "net.ipv6.conf.eth0.disable_ipv6 is 1"
    ]
