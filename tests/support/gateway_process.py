"""A whole gateway under test: the real command, its process tree, its log."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import psutil
import yaml
from click.testing import CliRunner

from gateway.cli import main
from tests.support import hardened
from tests.support.backend_server import ROOT
from tests.support.deaths import Death, deaths, is_child, unburied, verdict
from tests.support.waiting import PAUSE, answers, eventually, free_port

Site = Mapping[str, Any]

WORKER = re.compile(r"\bworker (\d+) started, pid (\d+)")
CONTROL = re.compile(r"\bcontrol started, pid (\d+)")
SETTLE = 5.0
"""Seconds within which a supervisor says that a child has died."""
RELOAD = "(reloaded: |reload refused)"  # how a reload went


class Server(Protocol):
    """A server as a site file names it."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...


def site(servers: Iterable[Server], workers: int = 1, **backend: Any) -> dict[str, Any]:
    """Return a site: a free port of 127.0.0.1, all to one backend `app` of `servers`, its keys as given.

    Round-robin and without checks unless `backend` says otherwise: a test then knows who is next.
    """
    app = {
        "balance": "round-robin",
        "servers": [{"name": server.name, "address": server.address} for server in servers],
        **backend,
    }
    return {
        "workers": workers,
        "drain": "2s",
        "frontends": [{"name": "web", "listen": f"127.0.0.1:{free_port()}"}],
        "backends": {"app": app},
        "routes": [{"backend": "app"}],
    }


def listeners(description: Site) -> list[tuple[str, int]]:
    """Return the addresses of the site's frontends in the order written, as a local client calls them.

    Unix sockets are left out.
    """
    found = []
    for frontend in description["frontends"]:
        listen = frontend["listen"]
        for text in [listen] if isinstance(listen, str) else listen:
            if text.startswith("unix:"):
                continue
            host, _, port = text.rpartition(":")
            found.append(({"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]")), int(port)))
    return found


class GatewayProcess:
    """`gateway run` on a site file in `directory`. A context manager: nothing of it survives the block.

    When it is left, it raises AssertionError if any process of the gateway has died that was not told to end, whatever
    clients saw of it: a test that wants one to die says so by `kill` or `expect_death`. tests/conftest.py asks the same
    of those that outlive a test, in `running`.
    """

    running: ClassVar[set["GatewayProcess"]] = set()
    command: ClassVar[tuple[str, ...]] = (sys.executable, "-m", "gateway", "run")

    def __init__(self, directory: Path, description: Site, *options: str) -> None:
        self.path = directory / "site.yaml"
        self._sockets = directory
        self._log = directory / "gateway.log"
        self._output = directory / "gateway.out"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._expected: set[int] = set()
        self._told = 0  # deaths in the log that were looked at
        self._over = True  # what dies by now is killed by `stop`
        self._found: list[Death] = []
        self.write(description)

    def write(self, description: Site | str) -> None:
        """Write the site file (a string as it is, such as a broken one); the gateway is not told.

        Unless the site says otherwise, its Unix sockets and its state are beside it.
        """
        if not isinstance(description, str):
            self.site = description
            # Unless they are root, tests that count descriptors see into processes only if these allow it.
            seen = {"core_dumps": True} if os.geteuid() else {}
            kept = {"admin": {"sockets": str(self._sockets)}, "state": str(self._sockets / "state")}
            described = {**kept, **seen, **description}
            description = yaml.safe_dump(described, sort_keys=False)
        self.path.write_text(description)

    def start(self) -> Self:
        """Run, and return when every frontend accepts and all processes are started.

        Raises AssertionError with the log.
        """
        self._look()
        self._over = False
        with self._log.open("ab") as log, self._output.open("ab") as output:
            process = subprocess.Popen(
                [*self.command, str(self.path), *self._options],
                cwd=ROOT,
                env=hardened.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        self._process = process
        self.running.add(self)
        try:
            self._wait_for_all()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_for_all(self) -> None:
        """Return when every frontend of the site accepts and all processes are started. Raises AssertionError."""
        for address in listeners(self.site):
            self._wait(partial(answers, *address), f"{address[0]} port {address[1]} to accept")
        workers = self.site.get("workers")
        self._wait(
            lambda: len(self.workers()) == workers if isinstance(workers, int) else bool(self.workers()),
            f"{workers} workers to start",
        )
        self._wait(lambda: self.control() is not None, "control to start")
        self._let_control_come()

    def _let_control_come(self) -> None:
        """Wait until control works where it takes seconds: one that is told to end before that does not end in time."""
        pid = self.control()
        if hardened.PRELOADED and pid is not None:
            started = self._said.rindex(f"control started, pid {pid}")
            works = "control uses load"
            eventually(lambda: works in self._said[started:] or not self._is_child(pid), "control to work", 60.0)

    def _wait(self, holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
        """Wait for `holds()` as long as the gateway lives. Raises AssertionError with the log."""
        process = self.process
        try:
            eventually(lambda: process.poll() is not None or holds(), what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None
        # What was waited for may be the last thing that it did before it ended, as after an upgrade.
        assert process.poll() is None or holds(), f"ended with {process.returncode}, waiting for {what}\n{self.log}"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The supervisor. Raises AssertionError if it was not started."""
        assert self._process is not None, "the gateway was not started"
        return self._process

    @property
    def port(self) -> int:
        """The port of the first frontend."""
        return listeners(self.site)[0][1]

    def url(self, path: str = "/", scheme: str = "http", listener: int = 0) -> str:
        """Return the address of `path` at the site's n-th listening address."""
        host, port = listeners(self.site)[listener]
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"

    @property
    def log(self) -> str:
        """What the gateway has said so far."""
        return self._said

    @property
    def _said(self) -> str:
        """The whole log."""
        return self._log.read_text()

    @property
    def output(self) -> str:
        """Its standard output, such as an access log to "-"."""
        return self._output.read_text()

    def status(self) -> dict[str, Any]:
        """What `gateway status --json` prints, as soon as control answers."""
        found: dict[str, Any] = {}

        def answered() -> bool:
            done = CliRunner().invoke(main, ["status", str(self.path), "--json"])
            if done.exit_code == 0:
                found.update(json.loads(done.output))
            return done.exit_code == 0

        eventually(answered, "control to answer")
        return found

    def wait_for_log(self, pattern: str, since: int = 0, seconds: float = 20.0) -> re.Match[str]:
        """Return the first match of `pattern` after `since` characters of the log. Raises AssertionError."""
        expression = re.compile(pattern)
        self._wait(lambda: expression.search(self.log, since) is not None, f"a log line {pattern!r}", seconds)
        match = expression.search(self.log, since)
        assert match is not None
        return match

    def workers(self) -> dict[int, int]:
        """Return the process id of each worker that runs, by its number."""
        latest = {int(number): int(pid) for number, pid in WORKER.findall(self._said)}
        return {number: pid for number, pid in latest.items() if self._is_child(pid)}

    def control(self) -> int | None:
        """Return the process id of control, None while it does not run."""
        pids = [int(pid) for pid in CONTROL.findall(self._said)]
        return pids[-1] if pids and self._is_child(pids[-1]) else None

    def _is_child(self, pid: int) -> bool:
        return is_child(pid, self.process.pid)

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill a process of the gateway, which is thus expected to die."""
        self.expect_death(pid)
        os.kill(pid, number)

    def expect_death(self, *pids: int) -> None:
        """Let these processes die from now on, by whatever the test does."""
        self._expected.update(pids)

    def take_deaths(self) -> list[Death]:
        """Return the deaths that were not expected, each once."""
        self._look()
        found, self._found = self._found, []
        return found

    def refuse_deaths(self) -> None:
        """Raise AssertionError, with the log, if there are deaths that were not expected and not yet reported."""
        said = verdict(self.take_deaths(), self.log)
        assert not said, said

    def _look(self) -> None:
        """Find who has died. A child may have, a moment ago, without that the supervisor has said so."""
        if self._over:
            return
        process = self.process
        end = time.monotonic() + SETTLE
        while process.poll() is None and unburied(self._said, process.pid) and time.monotonic() < end:
            time.sleep(PAUSE)
        found = list(deaths(self._said))
        new, self._told = found[self._told :], len(found)
        if process.poll() is not None:
            self._over = True
            if process.returncode != 0:
                new.append(Death(f"the supervisor (pid {process.pid}) ended with {process.returncode}", process.pid))
        self._found += [death for death in new if death.pid not in self._expected]

    def kill_worker(self, number: int) -> int:
        """SIGKILL worker `number` and return the process id that it had. Raises KeyError."""
        pid = self.workers()[number]
        self.kill(pid)
        return pid

    def kill_control(self) -> int:
        """SIGKILL control and return the process id that it had. Raises AssertionError."""
        pid = self.control()
        assert pid is not None, f"control is not running\n{self.log}"
        self.kill(pid)
        return pid

    def reload(self, description: Site | str | None = None, says: str = RELOAD) -> str:
        """Write the site file if one is given, send SIGHUP, and return the log line that matches `says`."""
        if description is not None:
            self.write(description)
        since = len(self.log)
        self.process.send_signal(signal.SIGHUP)
        match = self.wait_for_log(f".*{says}.*", since)
        return match.group()

    def upgrade(self, seconds: float = 30.0) -> int:
        """Send SIGUSR2, wait until a new supervisor has taken over, and return its process id."""
        since = len(self.log)
        self.process.send_signal(signal.SIGUSR2)
        pid = int(self.wait_for_log(r"upgrade: pid (\d+) has taken over", since, seconds).group(1))
        self._let_control_come()
        return pid

    def terminate(self, seconds: float = 20.0) -> int:
        """Send SIGTERM and return the exit status. Raises AssertionError after `seconds`."""
        self._let_control_come()
        self.process.terminate()
        return self.wait(seconds)

    def wait(self, seconds: float = 20.0) -> int:
        """Return the exit status when the supervisor has ended. Raises AssertionError after `seconds`."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s\n{self.log}") from None

    def stop(self) -> None:
        """Make sure that nothing of it runs any more: SIGTERM, then SIGKILL to all that is left of it."""
        process = self._process
        if process is None:
            return
        self.running.discard(self)
        self._look()
        try:
            if process.poll() is None:
                self._let_control_come()
            process.terminate()
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._look()
            self._over = True
            left = self._session(process.pid)
            for member in left:
                member.kill()
            process.wait()
            psutil.wait_procs(left, timeout=5.0)

    @staticmethod
    def _session(leader: int) -> list[psutil.Process]:
        """Return what runs in the session that `start` made: the tree, orphans included."""
        members = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                    members.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return members

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        said = verdict(self.take_deaths(), self.log)
        if error is not None and said:
            error.add_note(said)
        else:
            assert not said, said
