"""Started as root: only the supervisor stays root, and what only root may read goes on to work."""

import json
import os
import pwd
import re
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from psutil import Process

from tests.support import hardened
from tests.support.gateway_process import GatewayProcess, site
from tests.support.name_server import NameServer
from tests.support.programs import needs
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up privileges")

NOBODY = pwd.getpwnam("nobody")
DROPPED = {
    "Uid": {NOBODY.pw_uid},
    "Gid": {NOBODY.pw_gid},
    "Groups": set(os.getgrouplist(NOBODY.pw_name, NOBODY.pw_gid)),
}


def identity(pid):
    """Every user and group id that a process has: real, effective, saved, file system."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {name: set(map(int, fields[name].split())) for name in ("Uid", "Gid", "Groups")}


def test_children_are_the_user_and_the_key_is_read_for_them(start_servers, start_gateway, authority, tmp_path):
    (server,) = start_servers("app1")
    certificate = authority.issue("localhost")
    assert stat.S_IMODE(certificate.key.stat().st_mode) == 0o600
    assert certificate.key.stat().st_uid == 0
    log = tmp_path / "access.log"
    description = site([server], workers=2) | {"user": "nobody", "access_log": {"path": str(log)}}
    description["frontends"][0]["tls"] = {"certificates": [certificate.as_site()]}
    gateway = start_gateway(description)
    context = authority.client_context()

    def check(lines):
        children = [gateway.control(), *gateway.workers().values()]
        # Control loads its libraries before it gives anything up.
        eventually(lambda: all(identity(pid) == DROPPED for pid in children), "all to be nobody")
        assert identity(gateway.process.pid)["Uid"] == {0}
        with RawClient(gateway.port, context) as client:
            assert client.get().status == 200
            assert isinstance(client.socket, ssl.SSLSocket)
            served = client.socket.getpeercert(binary_form=True)
        eventually(lambda: len(log.read_text().splitlines()) == lines, "the access log")
        return served

    first = check(1)
    # A new key, as private as the old one, for children that could not read it.
    renewed = authority.issue("localhost")
    certificate.cert.write_bytes(renewed.cert.read_bytes())
    certificate.key.write_bytes(renewed.key.read_bytes())
    gateway.reload(description, "worker 0 uses load 2")
    gateway.wait_for_log("worker 1 uses load 2")
    assert check(2) != first
    # Children that are born later are no different.
    old = {gateway.kill_worker(0), gateway.kill_worker(1), gateway.kill_control()}

    def replaced():
        new = {*gateway.workers().values(), gateway.control()} - {None}
        return len(new) == 3 and not new & old

    eventually(replaced, "three new ones")
    check(3)
    # What root opened can be opened again.
    log.rename(tmp_path / "access.log.1")
    gateway.process.send_signal(signal.SIGUSR1)
    gateway.wait_for_log("access log reopened")
    check(1)


TELL = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
numbers = [int(name) for name in os.listdir("/proc/self/fd")]
files = [os.readlink(f"/proc/self/fd/{n}") for n in numbers if n > 2 and os.path.lexists(f"/proc/self/fd/{n}")]
with open(MARK, "a") as mark:
    comm = open("/proc/self/comm").read().strip()
    mark.write(json.dumps([comm, os.getuid(), status["Groups"].split(), status["NoNewPrivs"].strip(), files]) + "\\n")

def route(request):
    return {"respond": 200}
"""


@pytest.fixture
def told(tmp_path):
    """A site whose rule notes who runs its file: where it is, and what it has noted."""
    room = Path(tempfile.mkdtemp())  # tmp_path is root's alone
    room.chmod(0o755)
    mark = room / "mark"
    mark.touch()
    mark.chmod(0o666)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "tell.py").write_text(TELL.replace("MARK", repr(str(mark))))
    description = {
        "user": "nobody",
        "sandbox": False,  # or the rule could not write down who it is
        "workers": 1,
        "admin": {"sockets": str(tmp_path)},
        "frontends": [{"listen": f"127.0.0.1:{free_port()}"}],
        "backends": {"app": {"servers": ["127.0.0.1:1"]}},
        "routes": [{"python": "rules.tell:route"}],
        "tests": [{"request": "GET http://a/x", "expect": {"status": 200}}],
        "tests_required": True,
    }

    def notes():
        found = [json.loads(line) for line in mark.read_text().splitlines()]
        mark.write_text("")
        return found

    yield description, notes
    shutil.rmtree(room)


def command(directory, *arguments):
    """Run the command `gateway` in `directory`."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=directory,
        env=hardened.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", [("check",), ("test",), ("explain", "GET", "http://a/x")], ids=lambda item: item[0]
)
def test_commands_of_root_run_the_code_of_a_site_as_its_user(told, tmp_path, arguments):
    description, notes = told
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(description))
    name, *more = arguments
    done = command(tmp_path, name, str(path), *more)
    assert done.returncode == 0, done
    groups = sorted(map(str, DROPPED["Groups"]))
    found = notes()
    assert found
    for _, uid, found_groups, no_new_privileges, _ in found:
        assert (uid, sorted(found_groups), no_new_privileges) == (NOBODY.pw_uid, groups, "1")


def of_others(files):
    """The kinds of what a process has open, without the file that it writes to."""
    return [name.partition(":")[0] for name in files if not name.endswith("/mark")]


def test_the_supervisor_runs_the_code_of_a_site_as_its_user(told, tmp_path):
    """Before it starts, before it reloads; and that child has no socket, no board and no channel of the supervisor."""
    description, notes = told
    with GatewayProcess(tmp_path, description) as gateway:
        first = notes()
        gateway.reload(description, "reloaded: ")
        second = notes()
    for found in (first, second):
        assert {uid for _, uid, *_ in found} == {NOBODY.pw_uid}
        # The first child to note anything tries the rules alone; for the tests it makes a board of its own.
        tried = [files for comm, *_, files in found if not comm.startswith("gw-worker")]
        assert of_others(tried[0]) == ["pipe"]


def test_python_m_gateway_imports_nothing_from_the_current_directory(tmp_path):
    for name in ("json", "click", "email", "typing", "re", "yaml", "pathlib", "encodings", "socket"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('imported {name}')")
    done = command(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match("gateway, version", done.stdout)


def test_a_rule_takes_the_place_of_no_module(tmp_path, told):
    description, _ = told
    (tmp_path / "rules" / "json.py").write_text("def route(request):\n    return {'respond': 200}\n")
    (tmp_path / "json.py").write_text("def route(request):\n    return {'respond': 204}\n")
    description["routes"] = [
        {"match": {"path": "/a"}, "python": "rules.json:route"},
        {"match": {"path": "/b"}, "python": "json:route"},
    ]
    description["tests"] = []
    with GatewayProcess(tmp_path, description) as gateway, RawClient(gateway.port) as client:
        assert [client.get(path).status for path in ("/a", "/b")] == [200, 204]
        gateway.wait_for_log("control uses load")
        status = command(tmp_path, "status", str(gateway.path), "--json")
        assert json.loads(status.stdout)["tree"]["state"] == "running"


MADE = re.compile(r"^socket\((AF_\w+), .*= (\d+)$")
PAIR = re.compile(r"^socketpair\(.*\[(\d+), (\d+)\]\) = 0$")
SPOKE = re.compile(r"^(?:connect|recv\w*|send\w*|accept\w*)\((\d+),")
BORN = re.compile(r"^(?:clone3?|v?fork)\((.*)\)(?: => .*)? = (\d+)$")
CALLS = "socket,socketpair,connect,accept,accept4,recvfrom,recvmsg,recvmmsg,sendto,sendmsg,sendmmsg,clone,clone3,fork,vfork,setuid"
"""Without read(2): before it can bring anything from a network, one of these must have been called."""


def speakers(prefix):
    """Of every process traced that spoke over a network: whether it was no longer root, and the first such call."""
    found = []
    for path in prefix.parent.glob(f"{prefix.name}.*"):
        sockets: set[str] = set()
        dropped = False
        for line in path.read_text(errors="replace").splitlines():
            if made := MADE.match(line):
                (sockets.add if made[1] in ("AF_INET", "AF_INET6") else sockets.discard)(made[2])
            elif pair := PAIR.match(line):
                sockets -= {pair[1], pair[2]}
            elif line.startswith(f"setuid({NOBODY.pw_uid})"):
                dropped = True
            elif (spoke := SPOKE.match(line)) and spoke[1] in sockets:
                found.append((int(path.suffix[1:]), dropped, line))
                break
    return found


def threads(prefix):
    """The thread or process that each one traced was made by, for threads alone."""
    return {
        int(born[2]): int(path.suffix[1:])
        for path in prefix.parent.glob(f"{prefix.name}.*")
        for line in path.read_text(errors="replace").splitlines()
        if (born := BORN.match(line)) and "CLONE_THREAD" in born[1]
    }


@needs("strace")
def test_the_supervisor_says_and_reads_nothing_over_a_network(tmp_path):
    """At first start, at a reload and at an upgrade, names are looked up by children that are not root any more."""
    prefix = tmp_path / "trace"

    class Traced(GatewayProcess):
        command = (
            "strace", "-D", "--seccomp-bpf", "-ff", "-qq", "-o", str(prefix), "-e", f"trace={CALLS}",
            *GatewayProcess.command,
        )  # fmt: skip

    with NameServer() as names:
        names.records["app.internal", "A"] = names.records["more.internal", "A"] = ["127.0.0.1"]
        description: dict[str, Any] = {
            "user": "nobody",
            "workers": 1,
            "drain": "1s",
            "resolver": names.resolver,
            "frontends": [{"listen": f"127.0.0.1:{free_port()}"}],
            "backends": {"app": {"servers": ["dns:app.internal:8080", "localhost:8081"]}},
            "routes": [{"backend": "app"}],
        }
        with Traced(tmp_path, description) as gateway:
            gateway.wait_for_log("control uses load", seconds=50)
            description["backends"]["more"] = {"servers": ["dns:more.internal:8080", "localhost:8082"]}
            refused = {**description, "backends": {"app": {"servers": ["no-such-name.invalid:1"]}}}
            assert "refused" in gateway.reload(refused)
            assert "cannot resolve no-such-name.invalid" in gateway.log
            gateway.process.send_signal(signal.SIGUSR2)  # a successor starts as any gateway does
            failed = gateway.wait_for_log(r"a new gateway starts, pid (\d+)").group(1)
            gateway.wait_for_log("upgrade failed: .*cannot resolve no-such-name.invalid")
            eventually(lambda: not Path(f"/proc/{failed}").exists(), "the successor that failed to be gone")
            tree = Process(gateway.process.pid)
            eventually(lambda: len(tree.children()) == 2, "its launcher to be gone")  # control and the worker stay
            gateway.reload(description, "reloaded: ")
            before = gateway.process.pid
            after = gateway.upgrade()
            eventually(lambda: gateway.process.poll() is not None, "the old one to end")
            os.kill(after, signal.SIGTERM)
            eventually(lambda: not Path(f"/proc/{after}").exists(), "the new one to end")
    made_by = threads(prefix)
    spoke = speakers(prefix)
    for who, dropped, line in spoke:  # a thread is what its process is
        process = Path(f"{prefix}.{made_by.get(who, who)}").read_text(errors="replace")
        assert dropped or (who in made_by and f"setuid({NOBODY.pw_uid})" in process), (who, line)
    assert len(spoke) > 3  # a child at each of them, and control
    assert not {before, after} & {made_by.get(who, who) for who, *_ in spoke}


def test_the_witness_gives_up_root_before_it_reads(tmp_path):
    key = tmp_path / "cluster.key"
    key.touch(mode=0o600)
    key.write_bytes(b"0123456789abcdef")
    arguments = ["witness", "--listen", f"127.0.0.1:{free_port()}", "--key-file", str(key)]
    refused = command(tmp_path, *arguments, "--user", "no-such-user")
    assert (refused.returncode, refused.stderr) == (
        1, "there is no user no-such-user on this machine; name another one with --user\n"
    )  # fmt: skip
    log = tmp_path / "log"
    with log.open("wb") as file, subprocess.Popen(
        [sys.executable, "-m", "gateway", *arguments], cwd=tmp_path, env=hardened.environment(), stderr=file
    ) as witness:  # fmt: skip
        try:
            eventually(lambda: "witness on UDP" in log.read_text() or witness.poll() is not None, "the witness")
            assert identity(witness.pid) == DROPPED, log.read_text()
        finally:
            witness.terminate()
        assert witness.wait(20) == 0
