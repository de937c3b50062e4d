"""Rotation of the access log: rename, SIGUSR1, and not a line is lost."""

import grp
import json
import os
import pwd
import signal
import subprocess
from functools import partial

import pytest

from tests.scenarios.test_counters import figures
from tests.support.gateway_process import site
from tests.support.load import Load
from tests.support.programs import SEARCH, needs
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port


def lines(path):
    return path.read_text().splitlines()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.log"


def rotate(gateway, path):
    """Do what logrotate does, and return where the old lines are now."""
    old = path.rename(path.with_suffix(".1"))
    since = len(gateway.log)
    gateway.process.send_signal(signal.SIGUSR1)
    gateway.wait_for_log("access log reopened", since)
    return old


def test_rotation_under_load_loses_no_line(start_servers, start_gateway, path):
    description = site(start_servers("app1", "app2"), workers=2) | {"access_log": {"path": str(path)}}
    gateway = start_gateway(description)
    with Load(gateway.port, "/load", clients=12) as load:
        load.wait_for(300)
        old = rotate(gateway, path)
        load.wait_for(300)
    assert gateway.terminate() == 0
    assert load.failures == []
    written = [[json.loads(line) for line in lines(file)] for file in (old, path)]
    assert min(map(len, written)) > 100
    assert len(written[0]) + len(written[1]) == load.good
    assert {(item["uri"], item["status"]) for part in written for item in part} == {("/load", 200)}


def test_new_file_is_for_workers_that_come_later_too(start_servers, start_gateway, path):
    description = site(start_servers("app1")) | {"access_log": {"path": str(path), "format": "{uri}"}}
    gateway = start_gateway(description)

    def ask(uri, written):
        with RawClient(gateway.port) as client:
            assert client.get(uri).status == 200
        eventually(lambda: lines(path) == written, f"the line of {uri}")

    ask("/one", ["/one"])
    old = rotate(gateway, path)
    ask("/two", ["/two"])
    killed = gateway.kill_worker(0)
    eventually(lambda: gateway.workers().get(0, killed) != killed, "the new worker")
    ask("/three", ["/two", "/three"])
    gateway.reload(description | {"node": "other"}, "worker 0 uses load 2")
    ask("/four", ["/two", "/three", "/four"])
    assert lines(old) == ["/one"]


@needs("logrotate")
@pytest.mark.parametrize("way", ["create", "copytruncate"])
def test_logrotate(start_servers, start_gateway, path, tmp_path, way):
    """The real one, as docs/operations.md has it. With copytruncate lines may be lost between its two steps."""
    pid_file = tmp_path / "gateway.pid"
    description = site(start_servers("app1"), workers=2) | {"access_log": {"path": str(path), "format": "{uri}"}}
    gateway = start_gateway(description)
    pid_file.write_text(str(gateway.process.pid))
    signals = f"create 0640\n postrotate\n kill -USR1 $(cat {pid_file})\n endscript"
    config = tmp_path / "logrotate.conf"
    me = f"su {pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}\n"
    config.write_text(f"{me}{path} {{\n rotate 3\n {signals if way == 'create' else 'copytruncate'}\n}}\n")
    config.chmod(0o600)

    def ask(uri):
        with RawClient(gateway.port) as client:
            assert client.get(uri).status == 200

    def has(wanted):
        return lines(path) == wanted

    written: list[str] = []
    for number in range(3):
        ask(f"/{number}")
        eventually(partial(has, [f"/{number}"]), f"the line of {number}")
        written.insert(0, f"/{number}")
        since = len(gateway.log)
        done = subprocess.run(
            ["logrotate", "--force", "--state", str(tmp_path / "rotated"), str(config)],
            check=False, capture_output=True, text=True, env={"PATH": SEARCH}, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        if way == "create":
            gateway.wait_for_log("access log reopened", since)
        assert [lines(path.with_name(f"{path.name}.{old + 1}")) for old in range(len(written))] == [
            [uri] for uri in written
        ]
    ask("/last")
    eventually(lambda: lines(path) == ["/last"], "the last line")
    assert path.read_bytes() == b"/last\n"  # without a hole in front of it


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for 16 KiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=777", "tmpfs", str(directory)],
                             capture_output=True, text=True, check=False)  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_disk_stops_no_traffic_and_lost_lines_are_counted(start_servers, start_gateway, small_disk, tmp_path):
    path, admin, lost = small_disk / "access.log", free_port(), ("gateway_access_log_lost_lines_total",)
    description = site(start_servers("app1"), workers=1)
    description["access_log"] = {"path": str(path), "format": "<{uri}>"}
    description["admin"] = {"sockets": str(tmp_path), "listen": f"127.0.0.1:{admin}"}
    gateway = start_gateway(description)
    uris = [f"/{number}/{'x' * 80}" for number in range(300)]

    def ask(*uris):
        with RawClient(gateway.port) as client:
            for uri in uris:
                assert client.get(uri).status == 200

    ask(*uris)
    # Of the line that was written in part, the rest is kept.
    eventually(lambda: figures(admin)[lost] == len(uris) - len(lines(path)) > 0, "every lost line to be counted")
    full = lines(path)
    assert path.stat().st_size == 16384  # full in the middle of a line
    assert gateway.log.count("cannot write the access log: No space left on device; lines are lost") == 1
    os.truncate(path, 0)  # an operator makes room
    ask("/last")
    gateway.wait_for_log("the access log can be written again")
    eventually(lambda: lines(path)[-1:] == ["</last>"], "the last line")
    written = [*full[:-1], full[-1] + lines(path)[0]]  # the rest of the line that was written in part
    assert written == [f"<{uri}>" for uri in uris[: len(written)]]
    assert lines(path)[1:] == ["</last>"]
    assert figures(admin)[lost] == len(uris) - len(written)
