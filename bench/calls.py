"""Data system calls per request: reads and writes, counted by strace in all threads of a proxy.

Waiting (epoll_wait) is not among them, a log that is written line by line is.
"""

import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from bench.cases import SMALL
from bench.farm import Farm, FarmFailed, Running
from bench.figure import Figure
from bench.load import Load

DATA = frozenset(
    {
        *("read", "readv", "recvfrom", "recvmsg", "recvmmsg"),
        *("write", "writev", "sendto", "sendmsg", "sendmmsg"),
        *("splice", "sendfile", "tee", "vmsplice"),
    }
)
REQUESTS = 3000
LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)


def parsed(summary: str) -> Mapping[str, int]:
    """Return how often each system call was made, from the summary of strace -c."""
    return {call: int(count) for count, call in LINE.findall(summary)}


def traced(proxy: Running, farm: Farm, load: Load) -> Mapping[str, int]:
    """Return the system calls of a proxy under a load. Raises FarmFailed, LoadFailed."""
    root = psutil.Process(proxy.pid)
    pids = [str(process.pid) for process in (root, *root.children(recursive=True))]
    summary = proxy.setup.directory / f"{proxy.name}.strace"
    command = ["strace", "-f", "-c", "-o", str(summary), *(option for pid in pids for option in ("-p", pid))]
    with (
        farm.generator.ready(load, proxy.port(load)) as ready,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as strace,
    ):
        try:
            assert strace.stderr  # noqa: S101 - it is a pipe
            for _ in pids:
                line = strace.stderr.readline()
                if "attached" not in line:
                    raise FarmFailed(f"strace cannot attach to {proxy.name}: {line.strip()}")
            ready.go()
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate(timeout=10)
    return parsed(Path(summary).read_text())


def measure(farm: Farm) -> list[Figure]:
    """Return the data system calls per request of every proxy. Raises FarmFailed, LoadFailed."""
    load = replace(SMALL.load, requests=REQUESTS)
    figures = []
    for proxy in farm.proxies:
        found = traced(proxy, farm, load)
        count = sum(calls for call, calls in found.items() if call in DATA)
        figures.append(Figure(SMALL.name, proxy.name, "calls", (count / REQUESTS,)))
    return figures
