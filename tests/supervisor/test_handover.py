import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.config.address import Listen
from gateway.supervisor.handover import READY, SEALS, VARIABLE, BadHandover, HandedServer, receive, start
from gateway.supervisor.sockets import Sockets
from tests.support.waiting import eventually

# A successor that shows what it received in its answer.
CHILD = """
import os
from gateway.supervisor.handover import VARIABLE, receive
received = receive(os.environ)
assert VARIABLE not in os.environ
flags = {opened.place[1].get_inheritable() for opened in received.sockets}
places = sorted((opened.role, opened.name, opened.number, str(opened.place[0])) for opened in received.sockets)
received.predecessor.failed(f"{places} {flags} {[tuple(s)[3:] for s in received.servers]} {os.get_inheritable(received.sessions)}")
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


def one_socket(sock):
    return Sockets({"worker": {"http": {0: [(listen(sock), sock)]}}})


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


def test_the_successor_receives_everything_that_is_handed_over(sockets):
    one, two, reports = sockets
    server = HandedServer(backend="app", server="app1", endpoint="('10.0.0.1', 80)", state=2, admin=1, weight=1.5)
    again = one.dup()
    memory = os.memfd_create("sessions")
    before = descriptors()
    successor = start(
        [sys.executable, "-c", CHILD],
        Sockets(
            {
                "worker": {"http": {0: [(listen(one), one), (listen(one), again)], 3: [(listen(one), one)]}},
                "control": {"reports": {0: [(listen(reports), reports)]}, "admin": {0: [(listen(two), two)]}},
            }
        ),
        [server],
        memory,
    )
    said = hear(successor)
    assert os.waitpid(successor.launcher.pid, 0)[1] == 0
    wanted = [
        ("control", "admin", 0, str(listen(two))),
        ("control", "reports", 0, str(listen(reports))),
        *[("worker", "http", number, str(listen(one))) for number in (0, 0, 3)],
    ]
    values = [("state", 2), ("admin", 1), ("weight", 1.5)]
    assert said == f"{wanted} {{False}} {[tuple(values)]} False"
    assert descriptors() == before
    assert not any(sock.get_inheritable() for sock in (one, again, two, reports))
    assert not os.get_inheritable(memory)
    os.close(memory)
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
handover = json.loads(os.pread(int(os.environ[{VARIABLE!r}]), 100000, 0))
answer = handover["answer"]
{code}
"""
    successor = start([sys.executable, "-c", child], one_socket(sockets[0]), [], sockets[0].fileno())
    assert hear(successor) == answer
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.kill(successor.pid, signal.SIGKILL)
    os.waitpid(successor.launcher.pid, 0)


def test_program_that_cannot_run_leaves_nothing_behind(sockets):
    before = descriptors()
    with pytest.raises(OSError, match="No such file"):
        start(["/no/such/program"], one_socket(sockets[0]), [], sockets[0].fileno())
    assert descriptors() == before
    assert not sockets[0].get_inheritable()


def test_ordinary_start_receives_nothing():
    assert receive({}) is None


def sealed(content, seals=SEALS):
    fd = os.memfd_create("handover", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.mark.parametrize("number", ["", "x", "-1", "999999"])
def test_number_that_names_nothing_is_refused(number):
    environment = {VARIABLE: number}
    with pytest.raises(BadHandover, match=f"{VARIABLE}={number}"):
        receive(environment)
    assert environment == {}


def test_file_that_can_still_be_changed_is_refused():
    fd = sealed(b"{}", fcntl.F_SEAL_GROW)
    with pytest.raises(BadHandover, match="not sealed"):
        receive({VARIABLE: str(fd)})
    os.close(fd)


@pytest.mark.parametrize("change", [
    {"format": 1}, {"format": 3}, {"sockets": []}, {"sockets": None}, {"sockets": {"worker": {"http": [5]}}},
    {"answer": -1}, {"answer": "1"},
    {"servers": [{"backend": "a", "server": "b", "endpoint": "c", "state": 256, "admin": 0, "weight": 0.0}]},
])  # fmt: skip
def test_handover_that_is_not_understood_is_refused(change):
    handover = {"format": 2, "sockets": {}, "servers": [], "answer": 0, **change}
    fd = sealed(json.dumps(handover).encode())
    with pytest.raises(BadHandover, match="cannot be used"):
        receive({VARIABLE: str(fd)})
    os.close(fd)


@pytest.mark.parametrize("wrong", ["address", "kind", "not listening", "no socket", "unlike the others"])
def test_a_socket_that_differs_from_its_description_is_refused(sockets, wrong):
    one, two, udp = (sock.dup() for sock in sockets)
    host, port = one.getsockname()
    handed = {"host": host, "port": port, "fd": one.fileno(), "kind": "stream", "number": 0}
    others = []
    with socket.socket() as idle, Path(os.devnull).open("rb") as null:
        idle.bind(("127.0.0.1", 0))
        match wrong:
            case "address":
                handed["port"] = two.getsockname()[1]
            case "kind":
                handed |= {"port": udp.getsockname()[1], "fd": udp.fileno()}
            case "not listening":
                handed |= {"port": idle.getsockname()[1], "fd": os.dup(idle.fileno())}
            case "no socket":
                handed["fd"] = os.dup(null.fileno())
            case _:
                others = [handed | {"port": two.getsockname()[1], "fd": two.fileno(), "number": 1}]
        reading, writing = os.pipe()
        sockets = {"worker": {"http": [handed, *others]}}
        handover = {"format": 2, "sockets": sockets, "servers": [], "answer": writing}
        with pytest.raises(BadHandover, match=r"is not a socket on|same addresses"):
            receive({VARIABLE: str(sealed(json.dumps(handover).encode()))})
        assert b"socket" in os.read(reading, 1000)
        os.close(reading)
    for sock in (one, two, udp):
        sock.detach()
