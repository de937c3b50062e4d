"""Records a run: all figures as JSON, a line of the history, a plot."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.figure import UNITS, Figures
from bench.goals import Verdict
from bench.machine import facts
from bench.plot import draw

RESULTS = Path(__file__).parent / "results"


def revision() -> str:
    """Return which version of the project this is, with a "+" if files have changed since; "" outside git."""
    here = Path(__file__).parent
    found = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--dirty=+"],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return found.stdout.strip()


def keep(
    directory: Path,
    conditions: Mapping[str, object],
    releases: Mapping[str, str],
    figures: Figures,
    verdicts: Sequence[Verdict],
) -> None:
    """Write bench.json and bench.svg, add a line to history.jsonl."""
    directory.mkdir(parents=True, exist_ok=True)
    machine = facts()
    result = {
        "machine": machine,
        "revision": revision(),
        "conditions": dict(conditions),
        "releases": dict(releases),
        "units": UNITS,
        "goals": [verdict.as_json() for verdict in verdicts],
        "figures": [figure.as_json() for figure in figures],
    }
    (directory / "bench.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    line = {
        "time": machine["time"],
        "revision": result["revision"],
        "processor": machine["processor"],
        "kernel": machine["kernel"],
        "goals": {verdict.goal.title(): verdict.as_json()["value"] for verdict in verdicts},
    }
    with (directory / "history.jsonl").open("a") as history:
        history.write(json.dumps(line, ensure_ascii=False) + "\n")
    draw(figures, directory / "bench.svg")
