import fcntl
import json
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.config.address import Listen
from gateway.supervisor.handover import READY, SEALS, VARIABLE, BadEstate, LeftServer, inherit, start
from gateway.supervisor.sockets import Sockets
from tests.support.waiting import eventually

# A successor that shows what it inherited in its answer.
CHILD = """
import os
from gateway.supervisor.handover import VARIABLE, inherit
heritage = inherit(os.environ)
assert VARIABLE not in os.environ
workers = {number: sorted(str(listen) for listen, _ in places) for number, places in heritage.workers.items()}
flags = {sock.get_inheritable() for places in heritage.workers.values() for _, sock in places}
heritage.predecessor.failed(f"{workers} {flags} {[str(place[0]) for place in heritage.control.values()]} {[tuple(s)[3:] for s in heritage.servers]}")
"""


@pytest.fixture
def sockets():
    with ExitStack() as stack:
        tcp = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        yield *tcp, udp


def listen(sock):
    return Listen(*sock.getsockname())


def hear(successor):
    said = []

    def answered():
        said.append(successor.hear())
        return said[-1] is not None

    eventually(answered, "an answer")
    successor.close()
    assert successor.fileno() == -1
    return said[-1]


def descriptors():
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_successor_inherits_what_it_is_left(sockets):
    one, two, reports = sockets
    passed = [str(listen(reports)), str(listen(two))]
    server = LeftServer(backend="app", server="app1", endpoint="('10.0.0.1', 80)", state=2, admin=1, weight=1.5)
    again = one.dup()
    before = descriptors()
    successor = start(
        [sys.executable, "-c", CHILD],
        Sockets(
            {0: [(listen(one), one), (listen(one), again)], 3: [(listen(one), one)]},
            {"reports": (listen(reports), reports), "admin": (listen(two), two)},
        ),
        [server],
    )
    said = hear(successor)
    assert os.waitpid(successor.pid, 0)[1] == 0
    wanted = {0: [str(listen(one))] * 2, 3: [str(listen(one))]}
    values = [("state", 2), ("admin", 1), ("weight", 1.5)]
    assert said == f"{wanted} {{False}} {passed} {[tuple(values)]}"
    assert descriptors() == before
    assert not any(sock.get_inheritable() for sock in (one, again, two, reports))
    again.close()


@pytest.mark.parametrize(
    "code, answer",
    [
        (f"os.write(answer, {READY.encode()!r}); time.sleep(20)", READY),
        ("os.write(answer, b'no '); time.sleep(0.1); os.write(answer, b'way')", "no way"),
        ("", ""),
    ],
)
def test_answers(sockets, code, answer):
    child = f"""
import json, os, time
estate = json.loads(os.pread(int(os.environ[{VARIABLE!r}]), 100000, 0))
answer = estate["answer"]
{code}
"""
    successor = start([sys.executable, "-c", child], Sockets({0: [(listen(sockets[0]), sockets[0])]}), [])
    assert hear(successor) == answer
    os.kill(successor.pid, 9)
    os.waitpid(successor.pid, 0)


def test_program_that_cannot_run_leaves_nothing_behind(sockets):
    before = descriptors()
    with pytest.raises(OSError, match="No such file"):
        start(["/no/such/program"], Sockets({0: [(listen(sockets[0]), sockets[0])]}), [])
    assert descriptors() == before
    assert not sockets[0].get_inheritable()


def test_ordinary_start_inherits_nothing():
    assert inherit({}) is None


def sealed(content, seals=SEALS):
    fd = os.memfd_create("estate", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.mark.parametrize("number", ["", "x", "-1", "999999"])
def test_number_that_names_nothing_is_refused(number):
    environment = {VARIABLE: number}
    with pytest.raises(BadEstate, match=f"{VARIABLE}={number}"):
        inherit(environment)
    assert environment == {}


def test_file_that_somebody_may_still_change_is_refused():
    fd = sealed(b"{}", fcntl.F_SEAL_GROW)
    with pytest.raises(BadEstate, match="not sealed"):
        inherit({VARIABLE: str(fd)})
    os.close(fd)


@pytest.mark.parametrize("change", [
    {"format": 2}, {"listeners": [[]]}, {"listeners": None}, {"reports": 5}, {"answer": -1}, {"answer": "1"},
    {"servers": [{"backend": "a", "server": "b", "endpoint": "c", "state": 256, "admin": 0, "weight": 0.0}]},
])  # fmt: skip
def test_estate_that_is_not_understood_is_refused(change):
    estate = {"format": 1, "listeners": [], "reports": None, "servers": [], "answer": 0, **change}
    fd = sealed(json.dumps(estate).encode())
    with pytest.raises(BadEstate, match="cannot be used"):
        inherit({VARIABLE: str(fd)})
    os.close(fd)


@pytest.mark.parametrize("wrong", ["address", "kind", "not listening", "no socket", "unlike the others"])
def test_socket_that_is_not_what_it_is_said_to_be_is_refused(sockets, wrong):
    one, two, udp = (sock.dup() for sock in sockets)
    host, port = one.getsockname()
    left = {"host": host, "port": port, "fd": one.fileno(), "worker": 0}
    others = []
    with socket.socket() as idle, Path(os.devnull).open("rb") as null:
        idle.bind(("127.0.0.1", 0))
        match wrong:
            case "address":
                left["port"] = two.getsockname()[1]
            case "kind":
                left |= {"port": udp.getsockname()[1], "fd": udp.fileno()}
            case "not listening":
                left |= {"port": idle.getsockname()[1], "fd": os.dup(idle.fileno())}
            case "no socket":
                left["fd"] = os.dup(null.fileno())
            case _:
                others = [{"host": host, "port": two.getsockname()[1], "fd": two.fileno(), "worker": 1}]
        reading, writing = os.pipe()
        estate = {"format": 1, "listeners": [left, *others], "reports": None, "servers": [], "answer": writing}
        with pytest.raises(BadEstate, match=r"is not a socket on|same addresses"):
            inherit({VARIABLE: str(sealed(json.dumps(estate).encode()))})
        assert b"socket" in os.read(reading, 1000)
        os.close(reading)
    for sock in (one, two, udp):
        sock.detach()
