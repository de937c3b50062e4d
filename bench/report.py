"""What a person reads: a table of the cases."""

from rich.table import Table

from bench.figure import Figures
from bench.peers.all import MEASURED_AGAINST


def show(figures: Figures) -> Table:
    """Return CPU per request of every case and proxy, with its ratio to the better peer."""
    table = Table(title="CPU per request (medians and quartiles; ratio to the better of nginx and HAProxy)")
    table.add_column("case")
    table.add_column("proxy")
    for title in ("µs/request", "user", "system", "quartiles", "requests/s", "ratio"):
        table.add_column(title, justify="right")
    for case in figures.cases():
        yardstick = figures.least(case, MEASURED_AGAINST, "cpu")
        label = case
        for proxy in figures.proxies(case):
            cpu, rate = figures.get(case, proxy, "cpu"), figures.get(case, proxy, "rate")
            user, system = figures.get(case, proxy, "user"), figures.get(case, proxy, "system")
            if not (cpu and user and system and rate):
                continue
            low, high = cpu.quartiles
            table.add_row(
                label,
                proxy,
                f"{cpu.median:,.1f}",
                f"{user.median:,.1f}",
                f"{system.median:,.1f}",
                f"{low:,.1f} to {high:,.1f}",
                f"{rate.median:,.0f}",
                f"{cpu.over(yardstick).median:.2f}" if yardstick else "",
            )
            label = ""
        table.add_section()
    return table
