"""Describes the machine, on which a result depends besides the programs."""

import datetime as dt
import os
import platform
import re
from pathlib import Path


def facts() -> dict[str, object]:
    """Return processor, cores, kernel, Python, load average and time, for the record of a result."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "processor": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
