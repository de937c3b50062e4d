"""The guardian runs what the site file names, by fixed rules; who asks may have been broken into."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.heartbeat.fence import Deadlines
from gateway.heartbeat.guardian import FAILED, MOST_WAITING, Guardian
from gateway.heartbeat.jobs import Run
from gateway.heartbeat.request import MAX_REQUEST, Request

pytestmark = pytest.mark.slow  # starts processes

RAN = 3


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A program that notes how it was called, in a shell that obeys BASH_ENV."""
    path = tmp_path / "hook"
    path.write_text(f'#!/bin/bash\necho "called $*" >> {tmp_path}/mark\nenv >> {tmp_path}/mark\nexit {RAN}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def guardian(hook: Path) -> Iterator[socket.socket]:
    """The other end of a guardian in a process of its own."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            Guardian(theirs, [], Deadlines.create_without_kernel(), frozenset([str(hook)])).run()
        finally:
            os._exit(0)
    theirs.close()
    ours.settimeout(20.0)
    yield ours
    with ours:
        ours.send(b"bye")
        os.waitpid(pid, 0)


def request(hook: Path, **changed: Any) -> bytes:
    good = {
        "number": 7,
        "program": str(hook),
        "arguments": ["start"],
        "environment": {"GATEWAY_EVENT": "takeover", "OCF_RESOURCE_INSTANCE": "db"},
        "timeout": 20.0,
        "queue": "x",
    }
    return json.dumps(good | changed).encode()


def answer(guardian: socket.socket) -> list[int]:
    found: list[int] = json.loads(guardian.recv(100))
    return found


def test_what_the_site_file_names_is_run_as_asked(guardian: socket.socket, hook: Path) -> None:
    guardian.send(request(hook))
    assert answer(guardian) == [7, RAN]
    lines = (hook.parent / "mark").read_text().splitlines()
    assert lines[0] == "called start"
    names = {line.partition("=")[0] for line in lines[1:]}
    assert names - {"PWD", "SHLVL", "_"} == {"PATH", "LANG", "GATEWAY_EVENT", "OCF_RESOURCE_INSTANCE"}


@pytest.mark.parametrize(
    "changed",
    [
        {"program": "/bin/sh"},
        {"arguments": ["--anything"]},
        {"arguments": ["start", "stop"]},
        {"arguments": "start"},
        {"arguments": [["start"]]},
        {"environment": {"BASH_ENV": "/tmp/evil.sh"}},
        {"environment": {"LD_PRELOAD": "/tmp/evil.so"}},
        {"environment": {"PATH": "/tmp"}},
        {"environment": {"OCF_FUNCTIONS_DIR": "/tmp"}},
        {"environment": {"GATEWAY_UPGRADE": "3"}},
        {"environment": {"GATEWAY_EVENT\n": "x"}},
        {"environment": {"GATEWAY_EVENT": "a\nb"}},
        {"environment": {"GATEWAY_EVENT": "a\0b"}},
        {"environment": {"GATEWAY_EVENT": "\x1b[2J"}},
        {"environment": {"GATEWAY_EVENT": "x" * 1025}},
        {"environment": {"GATEWAY_EVENT": 3}},
        {"environment": [["GATEWAY_EVENT", "x"]]},
        {"timeout": 0},
        {"timeout": -1.0},
        {"timeout": 1e30},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"timeout": "20"},
        {"queue": "x" * 1025},
        {"queue": None},
        {"more": 1},
    ],
    ids=lambda changed: str(changed)[:60],
)
def test_what_is_not_of_the_fixed_form_is_refused(
    guardian: socket.socket, hook: Path, changed: dict[str, object]
) -> None:
    guardian.send(request(hook, **changed))
    assert answer(guardian) == [7, FAILED]
    assert not (hook.parent / "mark").exists()


@pytest.mark.parametrize(
    "message",
    [
        b"{",
        b"\xff",
        b"[]",
        b"7",
        b'{"number": true}',
        b'{"number": -1}',
        b'{"number": 1e3}',
        b"[" * 10_000,
        b'{"number":' * 1000,
        b"x" * MAX_REQUEST * 2,
    ],
    ids=range(10),
)
def test_what_is_no_request_ends_nothing(guardian: socket.socket, hook: Path, message: bytes) -> None:
    guardian.send(message)
    guardian.send(request(hook, number=8))
    assert answer(guardian) == [8, RAN]


def test_programs_at_the_same_time_are_few(guardian: socket.socket, hook: Path) -> None:
    hook.write_text("#!/bin/sh\nread line < $(dirname $0)/gate\nexit 3\n")
    os.mkfifo(hook.parent / "gate")
    count = MOST_WAITING + 20
    for i in range(count):
        guardian.send(request(hook, number=i, queue=f"q{i}"))
    refused = [answer(guardian) for _ in range(20)]
    assert refused == [[i, FAILED] for i in range(MOST_WAITING, count)]
    with (hook.parent / "gate").open("w") as gate:
        gate.writelines("\n" for _ in range(MOST_WAITING))
        gate.flush()
        done = sorted(answer(guardian) for _ in range(MOST_WAITING))
    assert [number for number, _ in done] == list(range(MOST_WAITING))


def test_what_the_heartbeat_process_asks_for_passes(hook: Path) -> None:
    run = Run(str(hook), ("monitor",), {"GATEWAY_ADDRESS": "192.0.2.1/24"}, 7, "resource db")
    asked = Request.of(3, run)
    assert Request.parse(asked.encode(), {str(hook)}) == asked
    assert len(asked.encode()) < MAX_REQUEST
    with pytest.raises(ValueError, match="printable"):
        Request.of(3, Run(str(hook), (), {"GATEWAY_REASON": "two\nlines"}))
