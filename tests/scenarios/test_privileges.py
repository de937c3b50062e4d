"""Started as root: only the supervisor stays root, and what only root may read goes on to work."""

import os
import pwd
import signal
import ssl
import stat
from pathlib import Path

import pytest

from tests.support.gateway_process import site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

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
    gateway.reload(description, "worker 0 works by version 2")
    gateway.wait_for_log("worker 1 works by version 2")
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
