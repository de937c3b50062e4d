"""The report: tables of figures, and the goals."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from bench.figure import UNITS, Figure, Figures
from bench.goals import Verdict
from bench.peers.all import MEASURED_AGAINST

PER_REQUEST = frozenset({"cpu", "user", "system", "rate", "reuse"})


def amount(value: float) -> str:
    """Return a number with its significant digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"


def cost(figures: Figures) -> Table:
    """Return CPU per request of every case and proxy that was measured at full load, with its ratio."""
    table = Table(title="CPU per request: medians, quartiles, ratio to the better of nginx and HAProxy")
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
        if not label:
            table.add_section()
    return table


def others(figures: Figures) -> Table:
    """Return everything else that was measured: a row for each metric of a case, a column for each proxy."""
    proxies = list(dict.fromkeys(figure.proxy for figure in figures))
    table = Table("case", "metric", title="Everything else: medians")
    for proxy in proxies:
        table.add_column(proxy, justify="right")
    for case in figures.cases():
        full = any(figure.metric == "rate" for figure in figures if figure.case == case)
        for metric in UNITS:
            found = [figures.get(case, proxy, metric) for proxy in proxies]
            if any(found) and not (full and metric in PER_REQUEST):
                table.add_row(case, f"{metric}, {UNITS[metric]}", *map(_cell, found))
    return table


def _cell(figure: Figure | None) -> str:
    return amount(figure.median) if figure else ""


def goals(verdicts: Sequence[Verdict]) -> Table:
    """Return the goals and whether they are met."""
    table = Table("goal", title="Goals")
    for title in ("limit", "measured", "quartiles"):
        table.add_column(title, justify="right")
    table.add_column("")
    for verdict in verdicts:
        low, high = verdict.figure.quartiles
        table.add_row(
            verdict.goal.title(),
            f"{'at least' if verdict.goal.more else 'at most'} {amount(verdict.goal.limit)}",
            amount(verdict.figure.median),
            f"{amount(low)} to {amount(high)}",
            "met" if verdict.met else "NOT MET",
        )
    return table


def tables(figures: Figures, verdicts: Sequence[Verdict]) -> Iterable[Table]:
    """Return the tables that have rows."""
    return (table for table in (cost(figures), others(figures), goals(verdicts)) if table.row_count)
