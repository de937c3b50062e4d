"""`gateway witness` as a process: clusters side by side, and a port that is its own."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.heartbeat.beat import Beat, Claim, Codec, Echo, Stake
from gateway.heartbeat.node import WITNESS
from tests.support import hardened
from tests.support.waiting import eventually, free_udp_port

KEYS = b"the key of the first cluster", b"the key of two other clusters"
VIP = "192.0.2.10"
pytestmark = pytest.mark.slow  # starts processes

THIEF = """
import os, socket, sys
os.setgid(65534), os.setuid(65534)
for option in (), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
    for host in ("127.0.0.1", ""):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
            for each in option:
                thief.setsockopt(socket.SOL_SOCKET, each, 1)
            try:
                thief.bind((host, int(sys.argv[1])))
            except OSError:
                continue
            sys.exit(f"bound {host} with {option}")
"""


class Gateway:
    """The node gw1 of some cluster, as the witness sees it."""

    def __init__(self, port: int, key: bytes, cluster: str, incarnation: int) -> None:
        self._codec = Codec(key, cluster)
        self._incarnation = incarnation
        self._numbers = itertools.count(1)
        self._echoes: tuple[Echo, ...] = ()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(0.2)

    def close(self) -> None:
        self._socket.close()

    def beat(self) -> Beat | None:
        """Send one; the answer."""
        claims = (Claim(VIP, Stake.ASKING, 1),)
        beat = Beat("gw1", self._incarnation, next(self._numbers), 0.4, 0.1, echoes=self._echoes, claims=claims)
        with contextlib.suppress(ConnectionRefusedError, TimeoutError):
            self._socket.send(self._codec.encode(beat))
            answer = self._codec.decode(self._socket.recv(9000))
            self._echoes = (Echo(WITNESS, answer.incarnation, answer.sequence, 0.0),)
            return answer
        return None

    def has_vote(self) -> bool:
        answer = self.beat()
        return answer is not None and [vote.incarnation for vote in answer.votes] == [self._incarnation]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where a witness with both keys answers; its log is the file `log`."""
    port = free_udp_port()
    command = [sys.executable, "-m", "gateway", "witness", "--listen", f"127.0.0.1:{port}", "--longest", "0.5"]
    for i, key in enumerate(KEYS):
        file = tmp_path / f"key{i}"
        file.touch(0o600)
        file.write_bytes(key)
        command += ["--key-file", str(file)]
    with (tmp_path / "log").open("wb") as log:
        witness = subprocess.Popen(command, stderr=log, env=hardened.environment())
    try:
        eventually(lambda: "witness on UDP" in (tmp_path / "log").read_text(), "the witness to start")
        yield port
    finally:
        witness.terminate()
        assert witness.wait(20) == 0


@pytest.fixture
def gateways(port: int) -> Iterator[list[Gateway]]:
    described = (KEYS[0], ""), (KEYS[1], "melbourne"), (KEYS[1], "sydney")
    found = [Gateway(port, *each, 1000 + i) for i, each in enumerate(described)]
    yield found
    for gateway in found:
        gateway.close()


def test_clusters_with_the_same_names_and_addresses_are_served_side_by_side(
    gateways: list[Gateway], tmp_path: Path
) -> None:
    for gateway in gateways:
        eventually(gateway.has_vote, "the vote")
    for _ in range(5):
        assert [gateway.has_vote() for gateway in gateways] == [True] * 3, (tmp_path / "log").read_text()


def test_a_sender_without_the_key_gets_no_answer_and_is_named(
    port: int, gateways: list[Gateway], tmp_path: Path
) -> None:
    stranger = Gateway(port, b"another key, long enough", "", 5)
    assert stranger.beat() is None
    stranger.close()
    eventually(gateways[0].has_vote, "the vote")
    assert "beat from 127.0.0.1 refused: signature" in (tmp_path / "log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_no_other_user_can_take_its_port(port: int, gateways: list[Gateway]) -> None:
    eventually(gateways[0].has_vote, "the vote")
    tried = subprocess.run([sys.executable, "-c", THIEF, str(port)], capture_output=True, text=True, check=False)
    assert (tried.returncode, tried.stderr) == (0, "")
    assert gateways[0].has_vote()
