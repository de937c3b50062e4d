"""Functions in a short-lived child process."""

import json
import logging
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from gateway.hardening import roles
from gateway.hardening.account import Account
from gateway.hardening.confinement import Bounds, become, settle
from gateway.process.helper import Task, Write, run_helper
from tests.support.waiting import eventually

NOBODY = Account("nobody", 65534, 65534)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up privileges")


def do(task: Task, who: Account | None = None, seconds: float = 20.0, limit: int = 1000) -> bytes:
    return run_helper(lambda: task, partial(become, who, roles.RULES), seconds, limit, "it failed")


def test_the_result_is_returned() -> None:
    def speak(write: Write) -> None:
        write(b"one ")
        write(b"two")

    assert do(speak) == b"one two"


def test_too_long_a_result_ends_the_helper() -> None:
    def flood(write: Write) -> None:
        while True:
            write(b"x" * 10_000)

    assert do(flood) == b"x" * 1000


def test_one_that_does_not_end_is_killed() -> None:
    def hang(write: Write) -> None:
        write(str(os.getpid()).encode())
        os.closerange(3, 100)
        signal.pause()

    began = time.monotonic()
    pid = int(do(hang, seconds=0.5))
    assert time.monotonic() - began < 15
    assert not Path(f"/proc/{pid}").exists()


def test_an_exception_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(_: Write) -> None:
        raise ZeroDivisionError

    with os.fdopen(2, "w", closefd=False) as stderr:
        handler = logging.StreamHandler(stderr)
        log = logging.getLogger("gateway.process.helper")
        log.addHandler(handler)
        try:
            assert do(fail) == b""
        finally:
            log.removeHandler(handler)
    said = capfd.readouterr().err
    assert "it failed" in said
    assert "ZeroDivisionError" in said


@as_root
def test_it_is_the_user_after_it_has_prepared() -> None:
    def prepare() -> Task:
        before = os.getuid()

        def tell(write: Write) -> None:
            fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            caps = [int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapInh")]
            write(json.dumps([before, os.getresuid(), os.getresgid(), os.getgroups(), caps]).encode())

        return tell

    found = json.loads(run_helper(prepare, partial(settle, NOBODY, roles.RULES, Bounds()), 20.0, 1000, ""))
    assert found == [0, [65534] * 3, [65534] * 3, os.getgrouplist("nobody", 65534), [0, 0, 0]]


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    def hang(_: Write) -> None:
        (tmp_path / "pid").write_text(f"{os.getpid()} ")
        signal.pause()

    pid = os.fork()
    if pid == 0:
        try:
            do(hang)
        finally:
            os._exit(0)
    written = tmp_path / "pid"
    eventually(lambda: written.exists() and written.read_text().endswith(" "), "the child to run")
    child = int(written.read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    eventually(lambda: not runs(child), "the child to end")


def runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return False
