"""The process between an old supervisor and a new one."""

import os
import signal
import sys
import time

import psutil
import pytest

from gateway.supervisor.launcher import Launcher
from tests.support.waiting import eventually


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


@pytest.mark.parametrize(
    "script, code",
    [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", -signal.SIGTERM), ("kill -KILL $$", -signal.SIGKILL)],
)
def test_it_ends_with_the_status_of_its_program(script: str, code: int) -> None:
    _, status = os.waitpid(Launcher(shell(script), {}).pid, 0)
    assert os.waitstatus_to_exitcode(status) == code


def test_its_program_survives_it_and_is_no_descendant() -> None:
    launcher = Launcher(shell("while :; do sleep 1; done"), {"PATH": os.defpath})
    launched = psutil.Process(launcher.launched)
    try:
        assert launched.ppid() == launcher.pid
        launcher.leave()
        assert not psutil.pid_exists(launcher.pid)
        eventually(lambda: launched.ppid() not in (launcher.pid, os.getpid()), "it to have another parent")
        assert launched.is_running()
    finally:
        launched.kill()


def test_it_holds_no_descriptor_that_it_passed_on() -> None:
    """The reader of a pipe sees the end of what was launched, although the launcher lives."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # noqa: FBT003 - the os module's own signature
    # Not a shell: dash knows only descriptors of one digit.
    program = f"import os, time; os.close({writing}); time.sleep(30)"
    launcher = Launcher([sys.executable, "-c", program], {})
    os.close(writing)
    os.set_blocking(reading, False)
    end = time.monotonic() + 5
    try:
        while True:
            try:
                assert os.read(reading, 1) == b""
                break
            except BlockingIOError:
                assert time.monotonic() < end, "the launcher holds the pipe"
                time.sleep(0.01)
        assert psutil.pid_exists(launcher.pid)
    finally:
        os.close(reading)
        os.kill(launcher.launched, signal.SIGKILL)
        os.waitpid(launcher.pid, 0)


def test_a_program_that_cannot_run_is_an_error_and_leaves_no_process() -> None:
    before = psutil.Process().children()
    with pytest.raises(FileNotFoundError):
        Launcher(["/no/such/program"], {})
    assert psutil.Process().children() == before
