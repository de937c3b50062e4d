"""What a worker that was broken into can do to the processes around it: nothing but what is said here."""

import json
import os
import pickle
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.supervisor.roles import ROLES
from tests.support import puppet
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import eventually, free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up privileges")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("gateway")
    # What holds without the sandbox, which would end most of this at its first step.
    described = {**puppet.site(directory, free_port(), user="nobody"), "sandbox": False}
    with GatewayProcess(directory, described) as gateway:
        gateway.wait_for_log("control uses load")
        yield gateway


class Evil:
    """Where its pickle is read, a file tells of it."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.mark,)


SEND = """
import os, socket, stat
frame = {frame!r}
said = 0
for name in range(3, 64):
    try:
        if not stat.S_ISSOCK(os.fstat(name).st_mode):
            continue
        with socket.socket(fileno=os.dup(name)) as sock:
            if sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM and not sock.getsockname():
                sock.setblocking(False)
                sock.send(frame)
                said += 1
    except OSError:
        pass
"""


def frames(mark: str) -> dict[str, bytes]:
    body = pickle.dumps(Evil(mark))
    news = json.dumps({"discovered": []}).encode()
    command = json.dumps({"command": "reload", "number": 1}).encode()
    return {
        "a pickle as orders have it": len(body).to_bytes(8, "big") + b"\0\0" + body,
        "a pickle as a report": len(body).to_bytes(4, "big") + body,
        "a version that is still to come": (13).to_bytes(4, "big") + b'{"ready": 99}',
        "what only control may say": len(news).to_bytes(4, "big") + news,
        "an operator's command": len(command).to_bytes(4, "big") + command,
    }


def test_a_worker_that_sends_what_is_not_a_report_is_named_and_replaced(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    for what, frame in frames(str(mark)).items():
        before = puppet.worker(gateway.port)
        gateway.expect_death(before)
        puppet.run(gateway.port, SEND.format(frame=frame))
        gateway.wait_for_log(rf"worker 0 \(pid {before}\) sent an invalid message \(.*\) and is killed")
        eventually(lambda before=before: gateway.workers().get(0) not in (None, before), what)  # type: ignore[misc]
        assert puppet.worker(gateway.port) != before
    assert not mark.exists()


FORGE = """
import ctypes, json, mmap, os
libc = ctypes.CDLL(None)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
done = []
mapped = [line.split() for line in open("/proc/self/maps") if "/memfd:gateway-bulletin" in line]
for where, protection, *_ in mapped:
    begin, end = (int(text, 16) for text in where.split("-"))
    if "w" in protection or libc.mprotect(begin, end - begin, mmap.PROT_READ | mmap.PROT_WRITE) == 0:
        done.append("bulletin " + where)
for number in range(3, 64):
    try:
        name = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        continue
    if "bulletin" in name:
        done.append(name)
    if not name.startswith("/memfd"):
        continue
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
        try:
            fd = os.open(f"/proc/self/fd/{number}", flags)
        except OSError:
            continue
        for operation in (lambda: os.ftruncate(fd, 0), lambda: os.pwrite(fd, b"x", 0), lambda: mmap.mmap(fd, 4096)):
            try:
                operation()
                done.append(name)
            except OSError:
                pass
said = json.dumps([len(mapped), done])
"""


def test_a_worker_cannot_speak_for_the_supervisor_or_cut_the_shared_table(gateway: GatewayProcess) -> None:
    assert json.loads(puppet.run(gateway.port, FORGE)) == [1 + sum(role.most for role in ROLES if role.bulletin), []]


def test_a_log_in_a_directory_of_the_user_leads_to_no_file_of_root_and_holds_nothing_up(tmp_path: Path) -> None:
    """A worker that was broken into may put anything into that directory; a rotation, then, changes nothing."""
    room = Path(tempfile.mkdtemp())
    room.chmod(0o755)
    try:
        directory = room / "log"
        directory.mkdir()
        shutil.chown(directory, "nobody")
        path, victim = directory / "access.log", room / "victim"
        victim.touch()
        log = {"path": str(path), "format": "{method}"}
        description = puppet.site(tmp_path, free_port(), user="nobody", access_log=log)
        with GatewayProcess(tmp_path, description) as gateway:

            def rotate(says: str) -> None:
                since = len(gateway.log)
                gateway.process.send_signal(signal.SIGUSR1)
                gateway.wait_for_log(says, since)

            puppet.worker(gateway.port)
            eventually(lambda: path.read_text() == "GET\n", "the first line")
            old = path.rename(directory / "old.log")
            path.symlink_to(victim)
            rotate(
                r"cannot reopen the access log; keeping the old file: .*access\.log: it is a symbolic link: name the file itself"
            )
            path.unlink()
            os.mkfifo(path)
            rotate(r"cannot reopen the access log; keeping the old file: .*access\.log: it is not a regular file")
            gateway.kill_worker(0)  # the supervisor does not wait, and a new one goes on in the old file, too
            eventually(lambda: gateway.workers().get(0) is not None, "another worker")
            puppet.worker(gateway.port)
            eventually(lambda: old.read_text() == "GET\nGET\n", "the second line")
            path.unlink()
            rotate("access log reopened")
            puppet.worker(gateway.port)
            eventually(lambda: path.read_text() == "GET\n", "the first line of the new file")
        assert victim.read_text() == ""
    finally:
        shutil.rmtree(room)


SCRIBBLE = """
import ctypes
for line in open("/proc/self/maps"):
    if "/memfd:gateway-board" in line and "rw-s" in line:
        ctypes.memset(int(line.partition("-")[0], 16), 0xFF, 64 * 64)  # the first rows of servers
        said = "done"
"""


TOUCH = """
import ctypes, json, os
libc = ctypes.CDLL(None, use_errno=True)
done = []
for pid in {pids}:
    for name in ("mem", "fd", "environ", "maps"):
        try:
            os.close(os.open(f"/proc/{{pid}}/{{name}}", os.O_RDONLY))
            done.append([pid, name])
        except PermissionError:
            pass
    if libc.ptrace(16, pid, 0, 0) == 0:     # PTRACE_ATTACH
        done.append([pid, "ptrace"])
    other = os.pidfd_open(pid)
    for number in range(32):
        if libc.syscall(438, other, number, 0) >= 0:    # pidfd_getfd(2)
            done.append([pid, "descriptor", number])
said = json.dumps([os.getuid(), done])
"""


def test_a_worker_reaches_neither_memory_nor_descriptors_of_another_process(gateway: GatewayProcess) -> None:
    """Control has the same user, whose processes may trace each other unless they were another's before."""
    control = gateway.control()
    assert control is not None
    assert json.loads(puppet.run(gateway.port, TOUCH.format(pids=[control, gateway.process.pid]))) == [65534, []]


def test_a_table_full_of_nonsense_ends_no_process_and_no_upgrade(gateway: GatewayProcess) -> None:
    """All processes can write all of the table: that is bounded by what is done with what it says.

    The last of this gateway: its successor is ended here.
    """
    processes = gateway.workers(), gateway.control()
    assert puppet.run(gateway.port, SCRIBBLE) == "done"
    assert puppet.worker(gateway.port) == processes[0][0]
    gateway.reload(None, "reloaded: ")
    assert (gateway.workers(), gateway.control()) == processes
    since = len(gateway.log)
    assert puppet.run(gateway.port, SCRIBBLE) == "done"  # control has set right since what it knows
    successor = gateway.upgrade()
    assert "the board is wrong about app/127.0.0.1:1" in gateway.log[since:]  # its weight is no number
    eventually(lambda: "control uses load" in gateway.log[since:], "the new control")
    assert puppet.worker(gateway.port)
    os.kill(successor, signal.SIGTERM)
    eventually(lambda: not Path(f"/proc/{successor}").exists(), "the new one to end")
