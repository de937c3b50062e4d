"""Processes that are held to a role by this machine's kernel."""

import ctypes
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from gateway.hardening import kernel, landlock, roles, seccomp
from gateway.hardening.confinement import Bounds, shortcomings
from gateway.system import regular_file
from tests.hardening.confined import in_role, outcome
from tests.support.backend_server import ROOT
from tests.support.open_to_others import opened

FILTERED = [role for role in roles.ROLES if role.filter is not None]
KINDS = {
    "tcp": (socket.AF_INET, socket.SOCK_STREAM),
    "unix": (socket.AF_UNIX, socket.SOCK_STREAM),
    "udp": (socket.AF_INET, socket.SOCK_DGRAM),
    "raw": (socket.AF_INET, socket.SOCK_RAW),
    "netlink": (socket.AF_NETLINK, socket.SOCK_RAW),
    "packet": (socket.AF_PACKET, socket.SOCK_RAW),
}
MAY = {
    roles.WORKER: {"tcp", "unix", "udp"},
    roles.RULES: {"tcp", "unix"},
    roles.CONTROL: {"tcp", "unix", "udp"},
    roles.LOOKUP: {"tcp", "unix", "udp"},
    roles.HEARTBEAT: {"udp", "netlink"},
    roles.DNS: set(),
    roles.ACME: {"tcp", "unix", "udp"},
    roles.TRACING: {"tcp", "unix", "udp"},
    roles.GUARDIAN: {"netlink"},
    roles.WITNESS: set(),
}

seccomp_here = pytest.mark.skipif(bool(seccomp.available()), reason=f"left out: {seccomp.available()}")


def abi() -> int:
    try:
        return landlock.version()
    except landlock.Unavailable:
        return 0


def landlock_here(least: int) -> pytest.MarkDecorator:
    return pytest.mark.skipif(abi() < least, reason=f"left out: Landlock is of ABI {abi()} here, {least} is needed")


def make(kind):
    socket.socket(*kind).close()
    return "made"


@seccomp_here
@pytest.mark.parametrize("role", FILTERED, ids=lambda role: role.name)
def test_sockets_of_its_kinds_only(role):
    made = in_role(role, lambda: {name: outcome(partial(make, kind)) for name, kind in KINDS.items()})
    assert {name for name, found in made.items() if found == "made"} == MAY[role]
    assert {found for name, found in made.items() if found != "made"} <= {"PermissionError"}


@seccomp_here
@pytest.mark.parametrize("role", FILTERED, ids=lambda role: role.name)
def test_no_program_runs(role):
    assert in_role(role, lambda: subprocess.run(["/bin/true"], check=True)) == "PermissionError"
    assert in_role(role, os.fork) == "PermissionError"
    assert in_role(role, lambda: os.execv("/bin/true", ["true"])) == f"signal {signal.SIGSYS}"


@seccomp_here
@pytest.mark.parametrize("role", FILTERED, ids=lambda role: role.name)
def test_nothing_is_written(role, tmp_path):
    if role.filter.writes and not abi():
        pytest.skip("left out: only Landlock says where this role writes, and it is not here")
    (tmp_path / "there").write_text("as it was")
    bounds = Bounds(readable=(tmp_path,))
    for operation in (
        lambda: (tmp_path / "new").write_text("x"),
        lambda: (tmp_path / "there").write_text("x"),
        lambda: os.truncate(tmp_path / "there", 0),
        (tmp_path / "there").unlink,
        lambda: (tmp_path / "there").chmod(0o777),
        lambda: (tmp_path / "there").rename(tmp_path / "elsewhere"),
        (tmp_path / "directory").mkdir,
        lambda: (tmp_path / "link").symlink_to("there"),
    ):
        assert in_role(role, operation, bounds) == "PermissionError"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "as it was"


@landlock_here(1)
def test_a_worker_reads_python_and_what_the_site_allows(tmp_path):
    (tmp_path / "allowed").mkdir()
    for name in ("secret", "allowed/list"):
        (tmp_path / name).write_text(name)
    bounds = Bounds(readable=(tmp_path / "allowed", tmp_path / "missing"))
    assert in_role(roles.WORKER, (tmp_path / "secret").read_text, bounds) == "PermissionError"
    assert in_role(roles.WORKER, (tmp_path / "allowed" / "list").read_text, bounds) == "allowed/list"
    assert in_role(roles.WORKER, Path("/etc/hosts").read_text) == "PermissionError"
    assert in_role(roles.CONTROL, lambda: len(Path("/etc/hosts").read_text()) > 0)


def test_modules_load_lazily_and_threads_run():
    def work():
        import sqlite3  # noqa: PLC0415 - with a shared library

        found = []
        thread = threading.Thread(target=lambda: found.append(sqlite3.sqlite_version_info[0]))
        thread.start()
        thread.join()
        return found

    assert in_role(roles.WORKER, work) == [3]


@seccomp_here
def test_a_worker_appends_to_the_access_log_and_cannot_overwrite_it(tmp_path):
    log = tmp_path / "access.log"
    log.write_text("before\n")
    fd = regular_file.append(log, 0o640)
    try:
        for operation in (
            lambda: fcntl.fcntl(fd, fcntl.F_SETFL, 0),
            lambda: os.pwritev(fd, [b"over"], 0, 0x20),  # RWF_NOAPPEND
            lambda: os.ftruncate(fd, 0),
            lambda: os.posix_fallocate(fd, 0, 1),
        ):
            assert in_role(roles.WORKER, operation) == "PermissionError"
        assert in_role(roles.WORKER, lambda: os.write(fd, b"after\n")) == 6
        assert in_role(roles.WORKER, lambda: os.pwrite(fd, b"last\n", 0)) == 5
    finally:
        os.close(fd)
    assert log.read_text() == "before\nafter\nlast\n"


@seccomp_here
def test_signals_reach_no_other_process():
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        assert in_role(roles.WORKER, lambda: os.kill(child.pid, 0)) == "PermissionError"
        assert in_role(roles.WORKER, lambda: os.kill(os.getpid(), 0)) is None
        assert in_role(roles.WORKER, lambda: os.kill(os.getpid(), signal.SIGKILL)) == f"signal {signal.SIGKILL}"
    finally:
        child.kill()
        child.wait()


@landlock_here(4)
def test_landlock_alone_refuses_to_listen():
    def listen():
        landlock.restrict([])
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))

    role = roles.Role("alone", "starter", None, None, "anything")
    assert in_role(role, listen) == "PermissionError"


@landlock_here(6)
def test_landlock_alone_keeps_signals_inside():
    child = subprocess.Popen(["/bin/sleep", "60"])

    def send():
        landlock.restrict([])
        os.kill(child.pid, 0)

    try:
        assert in_role(roles.Role("alone", "starter", None, None, "anything"), send) == "PermissionError"
    finally:
        child.kill()
        child.wait()


@seccomp_here
def test_a_filter_holds_the_threads_that_are_there():
    made, go = [], threading.Event()

    def later():
        go.wait()
        made.append(outcome(lambda: make(KINDS["raw"])))

    def work():
        assert roles.WORKER.filter is not None
        thread = threading.Thread(target=later)
        thread.start()
        kernel.forbid_new_privileges()
        seccomp.install(roles.WORKER.filter)
        go.set()
        thread.join()
        return made

    assert in_role(roles.Role("alone", "starter", None, None, "anything"), work) == ["PermissionError"]


def test_memory_is_hidden_unless_the_site_allows_to_see_it():
    def seen():
        dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE
        return [dumpable, resource.getrlimit(resource.RLIMIT_CORE)[0]]

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    assert in_role(roles.WORKER, seen) == [0, 0]
    assert in_role(roles.SUPERVISOR, seen) == [0, 0]
    assert in_role(roles.WORKER, seen, Bounds(core_dumps=True)) == [1, hard]


def test_shortcomings_are_said(monkeypatch):
    assert shortcomings(Bounds(sandbox=False)) == [
        "sandbox: disabled in the site file; only user accounts limit the processes"
    ]

    def none():
        raise landlock.Unavailable("the kernel does not offer Landlock: function not implemented")

    monkeypatch.setattr(landlock, "version", none)
    monkeypatch.setattr(seccomp, "available", lambda: "there is no filter for riscv64")
    assert shortcomings(Bounds()) == [
        "sandbox: no system call filter: there is no filter for riscv64",
        "sandbox: no file access rules: the kernel does not offer Landlock: function not implemented",
    ]
    monkeypatch.setattr(landlock, "version", lambda: 3)
    assert shortcomings(Bounds())[1:] == [
        "sandbox: this kernel cannot restrict listening on TCP ports and signals to other processes"
    ]


def test_without_a_sandbox_nothing_is_filtered(tmp_path):
    def work():
        (tmp_path / "new").write_text("x")
        return make(KINDS["udp"])

    assert in_role(roles.WORKER, work, Bounds(sandbox=False)) == "made"


def test_the_table_in_the_documents_is_that_of_the_roles():
    document = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    assert roles.table() in document


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_an_account_that_others_share_is_said(tmp_path):
    file = tmp_path / "site.yaml"
    text = "{frontends: [{listen: '127.0.0.1:8080'}], backends: {app: {servers: ['127.0.0.1:1']}}"

    def check(more: str) -> "subprocess.CompletedProcess[str]":
        file.write_text(text + more + "}")
        command = [sys.executable, "-m", "gateway", "check", str(file)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    shared = check("")
    assert shared.returncode == 0
    assert shared.stderr.startswith(f"{file}: warning: user: nobody is an account that other programs share")
    assert check(", user: root").stderr == ""


CHANGES = """
import os
from gateway.hardening import confinement, kernel
kernel.forbid_new_privileges()
confinement.forbid_root()
def refused(change):
    try:
        change()
    except PermissionError:
        return True
    return False
assert refused(lambda: os.setresuid(-1, 0, -1)) and refused(lambda: os.setuid(0)) and refused(lambda: os.setgid(0))
assert refused(lambda: os.setreuid(0, 0)) and refused(lambda: os.setresgid(-1, -1, 0))
assert not refused(lambda: os.setgid(65532)) and not refused(lambda: os.setuid(65532))
assert os.getresuid() == (65532,) * 3
"""


@seccomp_here
@pytest.mark.skipif(os.geteuid() != 0, reason="left out: only root can give capabilities to an account")
def test_a_supervisor_with_an_account_of_its_own_becomes_any_user_but_root(tmp_path: Path) -> None:
    rights = "-all,+setuid,+setgid"
    account = [
        "setpriv",
        "--reuid",
        "64321",
        "--regid",
        "64321",
        "--clear-groups",
        "--inh-caps",
        rights,
        "--ambient-caps",
        rights,
    ]
    subprocess.run([*opened(tmp_path), *account, sys.executable, "-c", CHANGES], cwd=ROOT, check=True, timeout=60)
