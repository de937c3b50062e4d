import os
import re

import pytest

from tests.support.deaths import Death, deaths, refuse_in, unburied, verdict

SAID = "2026-01-01 00:00:00,001"
NAMES = ("worker 0", "worker 12", "control", "heartbeat")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "end",
    [
        "was killed by SIGSEGV; starting another",
        "was killed by SIGKILL; starting another in 0.4s",
        "ended with status 1; starting another",
        "ended with status 0; starting another",
        "ended with status 1, again: the gateway cannot start",
        "was killed by SIGABRT",  # while it was asked to end
        "ended with status 1",
        "did not end in time and is killed",
        "does not listen and is killed",
    ],
)
def test_end_that_is_a_death(name, end):
    line = f"{SAID} ERROR   [10] {name} (pid 17) {end}"
    assert list(deaths(f"{SAID} INFO    [10] {name} started, pid 17\n{line}\n")) == [Death(line, 17)]


@pytest.mark.parametrize(
    "line",
    [
        "worker 3 (pid 17) dies, at:",
        "==17==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000011 at pc 0x7f bp 0x7f sp 0x7f",
        f"{SAID} ERROR   [17] the guardian has exited; releasing every address and restarting",
    ],
)
def test_line_that_tells_of_a_death(line):
    assert list(deaths(line)) == [Death(line, 17)]


def test_undefined_behaviour_is_as_good_as_a_death():
    line = "gateway/wire/head.c:120:14: runtime error: signed integer overflow: 2147483647 + 1"
    assert list(deaths(line)) == [Death(line)]


def test_successor_and_supervisor_are_known_by_what_the_log_said_before():
    started = (
        f"{SAID} INFO    [10] worker 0 started, pid 11\n{SAID} INFO    [10] upgrade: a new gateway starts, pid 20\n"
    )
    failed = f"{SAID} ERROR   [10] upgrade failed: it was killed by SIGKILL"
    orphan = f"{SAID} ERROR   [11] the supervisor has exited; finishing running requests"
    assert list(deaths(f"{started}{failed}\n{orphan}\n")) == [Death(failed, 20), Death(orphan, 10)]


@pytest.mark.parametrize(
    "line",
    [
        f"{SAID} INFO    [10] worker 0 started, pid 17",
        f"{SAID} INFO    [10] worker 0 (pid 17) ended with status 0",
        f"{SAID} ERROR   [10] reload refused; keeping version 1:",
        f"{SAID} ERROR   [10] upgrade failed: it was not ready within 15s",
        f"{SAID} WARNING [11] server app/app1 is DOWN: TCP_CONNECT_REFUSED after 2 failed checks",
    ],
)
def test_line_that_does_not(line):
    assert list(deaths(line)) == []


def test_dead_children_are_missed_until_the_log_says_so():
    me, parent = os.getpid(), os.getppid()
    gone = 2**22 + 1  # beyond the largest process id
    started = "".join(f"{SAID} INFO    [{parent}] worker 0 started, pid {pid}\n" for pid in (me, gone))
    assert unburied(started, parent) == [gone]
    assert unburied(started, 1) == []
    assert unburied(f"{started}{SAID} INFO    [{parent}] worker 0 (pid {gone}) ended with status 0\n", parent) == []


def test_verdict_has_the_deaths_and_the_log(tmp_path):
    assert verdict([], "log") == ""
    assert re.search(r"(?s)died.*who\n.*its log:\nall", verdict([Death("who", 1)], "all"))
    log = tmp_path / "log"
    log.write_text("worker 3 (pid 17) dies, at:\n")
    refuse_in(log, {17})
    with pytest.raises(AssertionError, match="worker 3"):
        refuse_in(log, {18})
