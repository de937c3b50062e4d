"""A process that a signal such as SIGSEGV ends says in the log who it was, and where it was."""

import os
import re
import signal

import psutil
import pytest

from tests.support.connections import client_on
from tests.support.gateway_process import site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

BUSY = 1.0
"""Seconds of a processor that a worker needs for nothing else that happens here."""
WORDS = {
    signal.SIGSEGV: "Segmentation fault",
    signal.SIGABRT: "Aborted",
    signal.SIGBUS: "Bus error",
    signal.SIGFPE: "Floating point exception",
    signal.SIGILL: "Illegal instruction",
}


def last_words(name, pid, number=signal.SIGSEGV):
    """What the log has of a process that died by a signal; ends with the outermost frame."""
    return (
        rf"(?s)\n{name} \(pid {pid}\) dies, at:\nFatal Python error: {WORDS[number]}\n"
        r".*\nCurrent thread .* \(most recent call first\):\n(?:  File [^\n]*\n)*  File [^\n]* in main\n"
    )


@pytest.mark.parametrize("number", WORDS)
def test_worker(start_servers, start_gateway, number):
    gateway = start_gateway(site(start_servers("app1"), workers=2))
    pid = gateway.workers()[1]
    with client_on(gateway, 1) as client:
        assert client.get().status == 200
        gateway.kill(pid, number)
        assert client.is_closed()
    # A sanitizer adds its report and calls abort(3).
    gateway.wait_for_log(rf"worker 1 \(pid {pid}\) was killed by ({number.name}|SIGABRT); starting another")
    words = re.search(last_words("worker 1", pid, number), gateway.log)
    assert words is not None, gateway.log
    assert re.search(r'File ".*gateway/proxy/worker.py", line \d+ in _run\n', words.group())
    eventually(lambda: len(gateway.workers()) == 2, "another worker")


def test_control(start_servers, start_gateway):
    gateway = start_gateway(site(start_servers("app1")))
    gateway.wait_for_log("control uses load")  # and nothing is written between the lines of the stack
    pid = gateway.control()
    gateway.kill(pid, signal.SIGSEGV)
    gateway.wait_for_log(last_words("control", pid))


def test_supervisor(start_servers, start_gateway):
    gateway = start_gateway(site(start_servers("app1")))
    gateway.kill(gateway.process.pid, signal.SIGSEGV)
    assert gateway.wait() in (-signal.SIGSEGV, -signal.SIGABRT)
    assert re.search(last_words("supervisor", gateway.process.pid), gateway.log), gateway.log


def test_worker_that_hangs_when_it_should_end(start_servers, start_gateway, tmp_path):
    (tmp_path / "hook.py").write_text("def forever(request):\n    while True:\n        pass\n")
    description = site(start_servers("app1")) | {"drain": "100ms"}
    description["routes"].insert(0, {"match": {"path": "/hang"}, "python": "hook:forever"})
    gateway = start_gateway(description)
    pid = gateway.workers()[0]
    gateway.expect_death(pid)
    with RawClient(gateway.port) as client:
        client.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: psutil.Process(pid).cpu_times().user > BUSY, "it to hang")
        assert gateway.terminate() == 0
    assert f"worker 0 (pid {pid}) did not end in time and is killed" in gateway.log
    words = re.search(last_words("worker 0", pid, signal.SIGABRT), gateway.log)
    assert words is not None, gateway.log
    assert re.search(r'first\):\n  File ".*hook.py", line [23] in forever\n', words.group())
    assert f"worker 0 (pid {pid}) was killed by SIGABRT" in gateway.log


def test_worker_that_cannot_say_anything_is_killed_all_the_same(start_servers, start_gateway):
    gateway = start_gateway(site(start_servers("app1")) | {"drain": "100ms"})
    pid = gateway.workers()[0]
    gateway.expect_death(pid)
    os.kill(pid, signal.SIGSTOP)
    assert gateway.terminate() == 0
    assert f"worker 0 (pid {pid}) was killed by SIGKILL" in gateway.log
