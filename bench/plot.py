"""Plots a run: the cost of a request relative to the better peer, and latencies at half load."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from bench import latency
from bench.cases import CASES
from bench.figure import Figures
from bench.peers.all import MEASURED_AGAINST

COLOURS = {
    "gateway": "#d62728",
    "nginx": "#009639",
    "haproxy": "#1f77b4",
    "haproxy-64k": "#aec7e8",
    "floor": "#7f7f7f",
    "apache": "#8c564b",
    "envoy": "#e377c2",
    "caddy": "#17becf",
    "traefik": "#bcbd22",
}


def draw(figures: Figures, path: Path) -> None:
    """Write the picture as SVG."""
    with mpl.rc_context({"svg.hashsalt": "bench", "font.size": 9}):
        canvas = Canvas(figsize=(9, 8), layout="constrained")
        costs, waits = canvas.subplots(2, 1, height_ratios=[3, 2])
        draw_costs(figures, costs)
        draw_latencies(figures, waits)
        canvas.savefig(path, format="svg", metadata={"Date": None})


def draw_costs(figures: Figures, axes: Any) -> None:
    """Draw a row for each case: a dot for each proxy with its quartiles, a bar for the gateway's goal."""
    labelled = set()
    cases = [case for case in CASES if figures.least(case.name, MEASURED_AGAINST, "cpu")]
    for row, case in enumerate(cases):
        yardstick = figures.least(case.name, MEASURED_AGAINST, "cpu")
        for proxy, colour in COLOURS.items():
            figure = figures.get(case.name, proxy, "cpu")
            if figure is None or yardstick is None:
                continue
            ratio = figure.over(yardstick)
            axes.plot(ratio.quartiles, (row, row), color=colour, linewidth=2, alpha=0.5)
            label = None if proxy in labelled else proxy
            axes.plot(ratio.median, row, "o", color=colour, label=label, markersize=7 if proxy == "gateway" else 5)
            labelled.add(proxy)
        if case.goal is not None:
            axes.plot((case.goal, case.goal), (row - 0.4, row + 0.4), color="black", linewidth=1.5)
    axes.axvline(1.0, color="black", linewidth=0.5, linestyle="dotted")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(cases)), [case.name for case in cases])
    axes.invert_yaxis()
    axes.set_xlabel("CPU per request, relative to the better of nginx and HAProxy (bars: the gateway's goals)")
    if labelled:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def draw_latencies(figures: Figures, axes: Any) -> None:
    """Draw a row for each case and proxy: p50, p99 and p99.9."""
    rows: list[str] = []
    for case in map(latency.name, latency.ASKED):
        for proxy in figures.proxies(case):
            points = [figure.median for name in ("p50", "p99", "p999") if (figure := figures.get(case, proxy, name))]
            colour = COLOURS.get(proxy, "black")
            axes.plot(points, [len(rows)] * len(points), "|-", color=colour, markersize=9)
            rows.append(f"{case.removesuffix(' at half load')}, {proxy}")
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("latency at half load in µs: p50, p99, p99.9")
