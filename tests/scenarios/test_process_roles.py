"""A new kind of process is one entry in the table of roles: it starts, reloads, restarts, is handed over and ends."""

import os
import socket
import sys

import pytest

from tests.support.echo_role import PORT
from tests.support.gateway_process import GatewayProcess, site
from tests.support.waiting import eventually, free_port


class WithEcho(GatewayProcess):
    """A gateway with one more role."""

    command = (
        sys.executable,
        "-c",
        "from tests.support import echo_role; echo_role.install(); from gateway.cli import main; main()",
        "run",
    )


@pytest.fixture
def port(monkeypatch):
    number = free_port()
    monkeypatch.setenv(PORT, str(number))
    return number


def ask(port):
    """Process id, user id and version of a process that answers a new client."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(5.0)
        client.connect(("127.0.0.1", port))
        client.send(b"?")
        return tuple(map(int, client.recv(100).split()))


def answering(port):
    """The processes among which the kernel spreads clients."""
    found = {}

    def both():
        pid, user, version = ask(port)
        found[pid] = (user, version)
        return len(found) == 2

    eventually(both, "both processes to answer")
    return found


def test_a_role_of_the_table_is_a_process_of_the_tree(start_servers, tmp_path, port):
    description = site(start_servers("app1"), workers=1)
    with WithEcho(tmp_path, description) as gateway:
        gateway.wait_for_log("echo 1 uses load 1")
        first = answering(port)
        user = next(iter(first.values()))[0]
        assert (user != 0) == (os.geteuid() == 0), "confined as its role says"
        gateway.reload(description | {"drain": "2s"}, says="echo 0 uses load 2")
        gateway.wait_for_log("echo 1 uses load 2")
        assert answering(port) == dict.fromkeys(first, (user, 2)), "the same processes go over to the new configuration"
        since = len(gateway.log)
        gateway.kill(min(first))
        gateway.wait_for_log("echo [01] uses load 2", since)
        second = answering(port)
        assert len(first.keys() & second.keys()) == 1
        since = len(gateway.log)
        gateway.upgrade()
        for number in (0, 1):
            gateway.wait_for_log(rf"echo {number} \(pid \d+\) ended with status 0", since)
            gateway.wait_for_log(f"echo {number} uses load 1", since)
        assert gateway.wait() == 0
        third = answering(port)
        assert not third.keys() & (first.keys() | second.keys()), "the next gateway has the same sockets"
