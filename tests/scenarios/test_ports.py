"""Ports of a whole gateway, against other processes of the machine, also of the user that its children become."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.health.hint import Codec, Hint
from gateway.system.process_socket import ask
from tests.scenarios.test_upgrade import end
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.waiting import eventually, free_port, free_udp_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: for a cluster, and to become another user")

KEY = b"a key of this test alone, 0123456789"
THIEF = """
import os, pwd, socket, sys
os.setgid(pwd.getpwnam("nobody").pw_gid), os.setuid(pwd.getpwnam("nobody").pw_uid)
for place in sys.argv[1:]:
    kind, port = place.split(":")
    for options in (), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        for host in ("127.0.0.1", ""):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as thief:
                for option in options:
                    thief.setsockopt(socket.SOL_SOCKET, option, 1)
                try:
                    thief.bind((host, int(port)))
                    if kind == "tcp":
                        thief.listen(1)
                except OSError:
                    continue
                print(place, host or "any address", options)
"""


class Ports:
    """A site that listens wherever a gateway can."""

    def __init__(self, directory: Path, servers: list[BackendServer]) -> None:
        for name in ("reports.secret", "sites.key", "cluster.key"):
            (directory / name).touch(0o600)
            (directory / name).write_bytes(KEY)
        self.site = site(servers, check={"http": "/", "interval": "40s"})
        self.udp = {name: free_udp_port() for name in ("reports", "sites", "hints", "beats", "elsewhere")}
        self.tcp = {"web": int(self.site["frontends"][0]["listen"].rpartition(":")[2]), "admin": free_port()}
        self.site |= {
            "node": "gw1",
            "user": "nobody",
            "load_reports": {"listen": f"127.0.0.1:{self.udp['reports']}", "secret_file": "reports.secret"},
            "admin": {"sockets": str(directory), "listen": f"127.0.0.1:{self.tcp['admin']}"},
            "sites": {
                "self": "here",
                "listen": f"127.0.0.1:{self.udp['sites']}",
                "peers": {"there": {"url": "http://127.0.0.1:9", "report": f"127.0.0.1:{self.udp['elsewhere']}"}},
                "key_file": "sites.key",
            },
            "cluster": self.cluster(self.udp["hints"]),
        }

    def cluster(self, hints: int) -> dict[str, Any]:
        return {
            "key_file": "cluster.key",
            "nodes": {"gw1": "127.0.0.1", "gw2": "127.0.0.2"},
            "listen": hints,
            "heartbeat": {"links": [{"udp": self.udp["beats"]}]},
        }

    def stolen(self) -> str:
        """What a process of the user nobody could bind."""
        udp = [f"udp:{port}" for name, port in self.udp.items() if name != "elsewhere"]
        places = [*udp, *(f"tcp:{port}" for port in self.tcp.values())]
        done = subprocess.run([sys.executable, "-c", THIEF, *places], capture_output=True, text=True, check=True)
        return done.stdout


@pytest.fixture
def ports(start_servers: Callable[..., list[BackendServer]], tmp_path: Path) -> Ports:
    return Ports(tmp_path, start_servers("app1"))


def heartbeat_works(directory: Path) -> bool:
    try:
        return bool(ask(directory, "status")["node"] == "gw1")
    except OSError:
        return False


def test_no_other_user_can_share_or_take_a_port(
    ports: Ports, start_gateway: Callable[[Site], GatewayProcess], tmp_path: Path
) -> None:
    gateway = start_gateway(ports.site)
    gateway.wait_for_log("control uses load 1")
    gateway.wait_for_log("heartbeat uses load 1")
    assert ports.stolen() == ""
    # A reload moves the port of the hints; what stays goes on.
    ports.udp["hints"] = free_udp_port()
    gateway.reload({**ports.site, "cluster": ports.cluster(ports.udp["hints"])}, "control uses load 2")
    eventually(lambda: heartbeat_works(tmp_path), "the heartbeat by the new file")
    assert ports.stolen() == ""
    # An upgrade inherits every socket, and the lock of the node.
    new = gateway.upgrade()
    gateway.wait_for_log("gw1: another process goes on")
    assert gateway.wait() == 0
    assert ports.stolen() == ""
    message = Codec(KEY).encode(Hint("app", "app1", "192.0.2.1:1"), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, ("127.0.0.1", ports.udp["hints"]))
    eventually(lambda: "check hint from 127.0.0.1 refused: not fresh" in gateway.log, "the new control to hear it")
    assert heartbeat_works(tmp_path)
    assert "cannot use UDP" not in gateway.log
    end(new)


def test_no_name_that_another_user_takes_keeps_the_heartbeat_from_coming(
    ports: Ports, start_gateway: Callable[[Site], GatewayProcess], tmp_path: Path
) -> None:
    code = (
        "import os, socket, sys\n"
        "os.setgid(65534), os.setuid(65534)\n"
        "lock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "lock.bind(chr(0) + 'gateway-heartbeat-gw1'), lock.listen(1)\n"
        "print('taken', flush=True), sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as squatter:
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == b"taken\n"
        gateway = start_gateway(ports.site)
        gateway.wait_for_log("heartbeat uses load 1")
        assert heartbeat_works(tmp_path)
        squatter.kill()
    tmp_path.chmod(0o777)
    heartbeat = int(gateway.wait_for_log(r"heartbeat started, pid (\d+)").group(1))
    gateway.kill(heartbeat)
    wrong = gateway.wait_for_log(r"\[(\d+)\] no heartbeat: other users can write to .*: chown root, chmod 755")
    gateway.expect_death(int(wrong.group(1)))
    tmp_path.chmod(0o755)
    eventually(lambda: heartbeat_works(tmp_path), "the heartbeat to come back")
    for started in gateway.log.split("heartbeat started, pid ")[1:]:
        gateway.expect_death(int(started.split()[0]))
