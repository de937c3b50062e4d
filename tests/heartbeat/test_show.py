"""The cluster's part of `gateway status`."""

from dataclasses import replace

from gateway.heartbeat import show
from gateway.reports import EventReport
from tests.admin.reports import heartbeat


def test_the_tables_name_nodes_links_and_addresses() -> None:
    lines = show.text(heartbeat(doubts=("arp_ignore is 0",))).splitlines()
    assert lines[0] == "gw1: join; an owner needs 2 votes of the nodes and the witness: no two can own an address"
    assert lines[1:3] == ["leases end by: kernel", "warning: arp_ignore is 0"]
    found = [line.split() for line in lines]
    assert ["gw1", "join", "(this", "one)"] in found
    assert ["udp", "1.0%", "0.20ms"] in found
    assert ["witness", "dead"] in found
    assert ["192.0.2.10", "owner", "gw1", "gw2", "is", "dead"] in found
    assert ["192.0.2.11", "backup", "-", "ready"] in found
    assert (
        "warning: its site file has different nodes, addresses or timers"
        in lines[lines.index("gw2             join") + 1]
    )


def test_a_silent_link_shows_no_figures() -> None:
    report = heartbeat()
    node = report.nodes[1]
    silent = replace(node, links={"udp": replace(node.links["udp"], alive=False)})
    assert ["udp", "silent"] in [line.split() for line in show.text(replace(report, nodes=(silent,))).splitlines()]


def test_only_the_last_events_are_shown() -> None:
    events = tuple(
        EventReport(at=1e9, ago=float(ago), about="192.0.2.10", what=f"event {ago}") for ago in range(30, 0, -1)
    )
    lines = show.text(heartbeat(history=events)).splitlines()
    assert lines[-1] == "       1.0s ago  192.0.2.10: event 1"
    assert sum("event" in line for line in lines) == show.HISTORY
