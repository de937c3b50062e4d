"""Finds unexpected process exits and sanitizer errors in the log of a gateway."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

NAME = r"[a-z]+(?: \d+)?"
STARTED = re.compile(rf"\[(\d+)\] {NAME} started, pid (\d+)$", re.MULTILINE)
"""The supervisor's line about a process it started: the process id of the parent, then that of the child."""
SUCCESSOR = re.compile(r"\[\d+\] upgrade: a new gateway starts, pid (\d+)$")
ENDED = re.compile(rf"\] {NAME} \(pid (\d+)\) (was killed by \w+|ended with status \d+)([;,] .*)?$")
"""The supervisor's line; it has a second part if the supervisor did not request the exit."""
UNWILLING = re.compile(rf"\] {NAME} \(pid (\d+)\) (?:did not end in time|does not listen) and is killed$")
LAST_WORDS = re.compile(r"^[a-z0-9 ]+ \(pid (\d+)\) dies, at:$")  # gateway/system/crash_report.pyx
SANITIZER = re.compile(r"^==(\d+)==\s*ERROR: \w+Sanitizer")
UNDEFINED = re.compile(r": runtime error: ")  # UndefinedBehaviorSanitizer
NO_UPGRADE = re.compile(r"\] upgrade failed: it (?:was killed by|ended with status) ")
ORPHAN = re.compile(r"\[(\d+)\] the supervisor has exited; ")
UNGUARDED = re.compile(r"\[(\d+)\] the guardian has exited; ")


@dataclass(frozen=True, slots=True)
class Death:
    """A log line about an unexpected exit, and the process id, or 0 if the line does not contain it."""

    line: str
    pid: int = 0


def deaths(log: str) -> Iterator[Death]:
    """Find the log lines about processes that exited unexpectedly or with an error.

    The exit of a guardian counts as that of its heartbeat process, which then ends.
    """
    parents = {child: parent for parent, child in STARTED.findall(log)}
    successor = "0"
    for line in log.splitlines():
        if found := ENDED.search(line):
            pid, how, more = found.groups()
            if more or how != "ended with status 0":
                yield Death(line, int(pid))
        elif found := SUCCESSOR.search(line):
            successor = found[1]
        elif NO_UPGRADE.search(line):
            yield Death(line, int(successor))
        elif found := ORPHAN.search(line):
            yield Death(line, int(parents.get(found[1], "0")))
        elif UNDEFINED.search(line):
            yield Death(line)
        else:
            for pattern in (UNWILLING, LAST_WORDS, SANITIZER, UNGUARDED):
                if found := pattern.search(line):
                    yield Death(line, int(found[1]))


def unburied(log: str, supervisor: int) -> list[int]:
    """Return the children of `supervisor` that are dead, but whose exit has not been logged yet."""
    said = {int(found[1]) for line in log.splitlines() if (found := ENDED.search(line))}
    started = [int(child) for parent, child in STARTED.findall(log) if int(parent) == supervisor]
    return [pid for pid in started if pid not in said and not is_child(pid, supervisor)]


def is_child(pid: int, parent: int) -> bool:
    """Tell whether a process lives and is a child of `parent`."""
    try:
        process = psutil.Process(pid)
        return process.ppid() == parent and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def verdict(found: Iterable[Death], log: str) -> str:
    """Return the message for a test that caused these exits, empty if there are none."""
    lines = "\n".join(death.line for death in found)
    return f"processes of the gateway died, and no test has killed them:\n{lines}\n\nits log:\n{log}" if lines else ""


def refuse_in(path: Path, expected: Collection[int] = ()) -> None:
    """Raise AssertionError if the log in that file has exits of process ids other than `expected`."""
    log = path.read_text(errors="replace")
    said = verdict((death for death in deaths(log) if death.pid not in expected), log)
    assert not said, said
