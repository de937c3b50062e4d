"""Formats the heartbeat's report for a terminal. Pure."""

from collections.abc import Iterator
from typing import Final

from gateway.reports import HeartbeatReport

MODES: Final = {
    "witness": "an owner needs {} votes of the nodes and the witness: no two can own an address",
    "majority": "an owner needs the votes of {} nodes: no two can own an address",
    "may split": "MAY SPLIT: two nodes without a witness; if they lose sight of each other, both may own an address",
}
HISTORY: Final = 20
"""Number of its lines."""


def text(report: HeartbeatReport) -> str:
    """A page for a terminal."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: HeartbeatReport) -> Iterator[str]:
    yield f"{report.node}: {report.admin_state}; {MODES[report.mode].format(report.votes_needed)}"
    yield f"leases end by: {report.lease_enforced_by}"
    for doubt in report.doubts:
        yield f"warning: {doubt}"
    yield ""
    yield f"{'node':<16}{'state':<10}{'link':<28}{'loss':>8}{'delay':>10}"
    for node in report.nodes:
        state = (node.state or "witness") if node.alive else "dead"
        yield f"{node.name:<16}{state:<10}{'(this one)' if node.own else ''}".rstrip()
        if not node.same_settings:
            yield f"{'':<16}warning: its site file has different nodes, addresses or timers"
        for name, link in node.links.items():
            shown = f"{link.loss:>8.1%}{link.delay * 1000:>8.2f}ms" if link.alive else f"{'silent':>8}"
            yield f"{'':<26}{name:<28}{shown}"
    yield ""
    yield f"{'address':<28}{'here':<10}{'owner':<16}why"
    for item in report.addresses:
        yield f"{item.address:<28}{item.state:<10}{item.owner or '-':<16}{item.reason}"
    for refused in report.refused_lately:
        often = f"{refused.count} times, the last one {refused.ago:.1f} s ago"
        yield f"BEATS REFUSED from {refused.sender} ({often}):"
        yield f"  {refused.why}"
    yield ""
    for entry in report.history[-HISTORY:]:
        yield f"{entry.ago:>10.1f}s ago  {entry.about}: {entry.what}"
