"""How an overloaded site spills clients to others, and recovers: a simulation with a plot.

    python -m bench.spill

Three sites; one of them gets 1.4 times what it can carry for fifteen minutes. The plot, bench/results/spill.svg, has
the loads of all sites and the part of new clients that this one sends away, for sessions of different lengths.
"""

from collections import deque
from pathlib import Path
from typing import Final

import click

from gateway.load.spill import Other, Spill

RESULTS: Final = Path(__file__).parent / "results"
LENGTHS: Final = (0.02, 0.5, 2.0)
"""Minutes that sessions last."""
USUAL: Final = 0.4
"""Load of every site without the overload."""
TIMES: Final = 3.5
"""By so much more clients come to the overloaded site."""
PHASES: Final = (300, 900, 600)
"""Seconds before, in and after the overload."""


class Farm:
    """Sites as reservoirs of sessions, which last `minutes`; sites hear of each other's load a second late."""

    def __init__(self, capacity: dict[str, float], minutes: float = 0.5) -> None:
        self.capacity = capacity
        self.sessions = dict.fromkeys(capacity, 0.0)
        self.spills = {name: Spill(0.75, 1.0) for name in capacity}
        self.past: deque[dict[str, float]] = deque(maxlen=2)
        self.leave = 1.0 / (60.0 * minutes)
        self.sent: dict[str, list[float]] = {name: [] for name in capacity}
        self.loads: dict[str, list[float]] = {name: [] for name in capacity}
        self.now = 0.0

    def second(self, arrivals: dict[str, float]) -> None:
        """Let a second pass in which so many clients come to each site."""
        load = {name: self.sessions[name] / self.capacity[name] for name in self.capacity}
        self.past.append(load)
        self.now += 1.0
        coming = dict.fromkeys(self.capacity, 0.0)
        for name, count in arrivals.items():
            others = {other: Other(self.past[0][other], self.capacity[other]) for other in load if other != name}
            parts = self.spills[name].step(load[name], others, self.now)
            for other, part in parts.items():
                coming[other] += count * part
            coming[name] += count * (1.0 - sum(parts.values()))
            self.sent[name].append(sum(parts.values()))
        for name in self.capacity:
            self.sessions[name] += coming[name] - self.sessions[name] * self.leave
            self.loads[name].append(load[name])


def run(minutes: float) -> Farm:
    """The farm after an overload of its first site."""
    farm = Farm({"mel": 100.0, "syd": 200.0, "dub": 100.0}, minutes)
    usual = {name: USUAL * capacity * farm.leave for name, capacity in farm.capacity.items()}
    for seconds, times in zip(PHASES, (1.0, TIMES, 1.0), strict=True):
        for _ in range(seconds):
            farm.second({**usual, "mel": times * usual["mel"]})
    return farm


@click.command()
def main() -> None:
    """Simulate, and draw the plot."""
    import matplotlib as mpl  # noqa: PLC0415 - only where something is drawn
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots(len(LENGTHS), 1, sharex=True)
    for axis, minutes in zip(axes, LENGTHS, strict=True):
        farm = run(minutes)
        for name, loads in farm.loads.items():
            axis.plot(loads, label=f"load of {name}")
        axis.plot(farm.sent["mel"], "k--", label="part that mel sends away")
        axis.set_title(f"sessions of {60 * minutes:g} s")
        axis.set_ylim(0, 1.2)
        click.echo(
            f"sessions of {60 * minutes:g} s: highest load of mel {max(farm.loads['mel']):.2f}, of the others "
            f"{max(farm.loads['syd'] + farm.loads['dub']):.2f}"
        )
    axes[0].legend(loc="upper right")
    axes[-1].set_xlabel("seconds")
    with mpl.rc_context({"svg.hashsalt": "bench"}):  # the same figures make the same file
        figure.savefig(RESULTS / "spill.svg", format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
