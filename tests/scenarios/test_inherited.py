"""Each process of a gateway has open what its role needs: what was opened for another one is not there to be misused."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess, site
from tests.support.open_files import open_files
from tests.support.waiting import eventually, free_port

WORKER = Counter({"gateway-board (to read)": 1, "access.log (to append)": 1, "eventpoll": 1, "pipe": 2, "unix": 5})
"""The table, its descriptor of the log, its poller, what wakes it; its channel, for traces, the pair of its event loop."""
CONTROL = Counter({
    "gateway-board (to read)": 1, "meminfo (to read)": 1, "eventpoll": 1, "eventfd": 1, "pipe": 4, "unix": 3,
    "unix:control.sock": 1, "unix:api.sock": 1,
})  # fmt: skip
"""The table, how much memory is in use; its event loop with what wakes it (libuv), its channel, what `gateway status` asks."""


class Careless(GatewayProcess):
    """A gateway that is started by a program which leaves files open."""

    command = ("sh", "-c", 'exec "$@" 7</etc/passwd 9<>/dev/null', "sh", *GatewayProcess.command)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_bytes(b"0123456789abcdef")
    description = {
        **site([], workers=2),
        "admin": {"listen": f"127.0.0.1:{free_port()}", "sockets": str(tmp_path)},
        "access_log": str(tmp_path / "access.log"),
        "load_reports": {"listen": f"127.0.0.1:{free_port()}", "key_file": str(key)},
        "backends": {"app": {"servers": ["127.0.0.1:1"]}},
    }
    description["frontends"][0]["listen"] = [f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/front.sock"]
    with Careless(tmp_path, description) as gateway:
        gateway.wait_for_log("control uses load")
        yield gateway


def check(gateway: GatewayProcess, supervisor: int, elder: int = 0) -> None:
    """Hold every process against its role; `supervisor` may differ from the one that was started.

    elder: boards of gateways before, whose counts go on (docs/operations.md).
    """
    ports = {name: int(gateway.site[name]["listen"].rpartition(":")[2]) for name in ("admin", "load_reports")}
    entrance = Counter({f"tcp:{gateway.port}": 1, "unix:front.sock": 1})
    of_control = Counter({f"tcp:{ports['admin']}": 1, f"udp:{ports['load_reports']}": 1})
    roles = {f"worker {number}": (pid, WORKER + entrance) for number, pid in workers(gateway, supervisor).items()}
    assert len(roles) == 2
    control = int(gateway.log.rpartition("control started, pid ")[2].split()[0])
    roles["control"] = control, CONTROL + of_control
    own = Counter({"gateway-board (to read)": 1, "access.log (to append)": 1, "eventpoll": 1, "pipe": 2, "unix": 7})
    own["gateway-vault (to write)"] = 1  # sealed; passed to workers, which close it
    own["gateway-sessions (to write)"] = 1  # passed to workers, and to the next gateway at an upgrade
    own[f"unix:{supervisor}.operator"] = 1  # for commands
    roles["supervisor"] = supervisor, own + entrance + entrance + of_control
    for name, (pid, of_role) in roles.items():
        expected = of_role + Counter({"gateway-board (to read)": elder})
        try:
            eventually(partial(has_open, pid, expected), name, 10.0)
        except AssertionError:
            assert (name, open_files(pid)) == (name, expected)


def has_open(pid: int, role: Counter[str]) -> bool:
    return open_files(pid) == role


def workers(gateway: GatewayProcess, supervisor: int) -> dict[int, int]:
    """The workers of that supervisor."""
    found = {}
    for number in range(2):
        pid = int(gateway.log.rpartition(f"worker {number} started, pid ")[2].split()[0])
        assert int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == supervisor
        found[number] = pid
    return found


def test_nothing_is_open_that_the_role_does_not_need(gateway: GatewayProcess) -> None:
    """After the first start; a second process of each kind, a reload and an upgrade do not change it."""
    check(gateway, gateway.process.pid)
    old = gateway.kill_worker(1)
    eventually(lambda: gateway.workers().get(1, old) != old, "another worker")
    gateway.reload(None, "reloaded: ")
    check(gateway, gateway.process.pid)
    since = len(gateway.log)
    successor = gateway.upgrade()
    eventually(lambda: "control uses load" in gateway.log[since:], "its control to work")
    eventually(lambda: gateway.process.poll() is not None, "the old one to end")
    check(gateway, successor, elder=1)
    os.kill(successor, 15)
    eventually(lambda: not Path(f"/proc/{successor}").exists(), "the new one to end")
