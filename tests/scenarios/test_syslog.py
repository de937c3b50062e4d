"""The access log over syslog: a real rsyslog reads it; receivers that go away or stall neither stop nor slow traffic."""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.test_counters import figures
from tests.support.backend_server import BackendServer
from tests.support.ending import end_process
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import needs, start
from tests.support.raw import RawClient
from tests.support.waiting import answers, eventually, free_port, free_udp_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

RSYSLOG = """
module(load="imudp")
module(load="imtcp")
input(type="imudp" address="127.0.0.1" port="{udp}")
input(type="imtcp" address="127.0.0.1" port="{tcp}")
template(name="parts" type="string" string="%syslogfacility-text%|%syslogseverity-text%|%hostname%|%app-name%|%procid%|%msgid%|%protocol-version%|%timereported:::date-rfc3339%|%msg%\\n")
action(type="omfile" file="{file}" template="parts")
"""
LOST = ("gateway_access_log_lost_lines_total",)


def ask(port: int, *paths: str) -> None:
    with RawClient(port) as client:
        for path in paths:
            assert client.get(path).status == 200


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@contextmanager
def rsyslog(directory: Path) -> Iterator[tuple[int, int, Path]]:
    """A receiver: its ports for UDP and TCP, and the file with what it has received."""
    udp, tcp, file = free_udp_port(), free_port(), directory / "received"
    settings = directory / "rsyslog.conf"
    settings.write_text(RSYSLOG.format(udp=udp, tcp=tcp, file=file))
    command = ["rsyslogd", "-n", "-f", str(settings), "-i", str(directory / "rsyslog.pid")]
    process = start(command, directory / "rsyslog.log", lambda: answers("127.0.0.1", tcp))
    try:
        yield udp, tcp, file
    finally:
        end_process(process, 5.0)


@needs("rsyslogd")
def test_rsyslog_reads_every_line(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with rsyslog(tmp_path) as (udp, tcp, received):
        described: dict[str, Any] = {**site(start_servers("app1"), workers=2), "node": "gw 1"}
        described["access_log"] = [
            {"path": str(file)},
            {"syslog": f"udp://127.0.0.1:{udp}"},
            {"syslog": {"to": f"tcp://127.0.0.1:{tcp}", "facility": "daemon", "severity": "notice", "app": "front"},
             "format": "combined"},
        ]  # fmt: skip
        gateway = start_gateway(described)
        for number in range(5):  # by either worker
            ask(gateway.port, f"/bytes/10?{number}", '/bytes/10?"quoted"')
        eventually(lambda: len(lines(received)) == 20, "all messages")
        workers = {str(pid) for pid in gateway.workers().values()}
        parts = [line.split("|", 8) for line in lines(received)]
        by_udp = [one for one in parts if one[0] == "local0"]
        by_tcp = [one for one in parts if one[0] == "daemon"]
        assert {tuple(one[1:4]) for one in by_udp} == {("info", "gw-1", "gateway")}
        assert {tuple(one[1:4]) for one in by_tcp} == {("notice", "gw-1", "front")}
        assert {one[4] for one in parts} <= workers
        assert {(one[5], one[6]) for one in parts} == {("access", "1")}
        # The same requests, and the time of each is the time of its message.
        eventually(lambda: len(lines(file)) == 10, "all lines in the file")
        assert sorted(one[8].strip() for one in by_udp) == sorted(lines(file))
        for one in by_udp:
            assert one[7][:19] == json.loads(one[8])["time"][:19]
        assert sum('"GET /bytes/10?\\"quoted\\" HTTP/1.1" 200 10' in one[8] for one in by_tcp) == 5
    assert gateway.terminate() == 0


class Receiver:
    """A receiver over TCP that takes lines while it `reads`; each whole message that came, and what is left of others."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._readers: list[tuple[socket.socket, threading.Thread]] = []
        self.data: list[bytearray] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.data.append(bytearray())
            reader = threading.Thread(target=self._read, args=(connection, self.data[-1]), daemon=True)
            reader.start()
            self._readers.append((connection, reader))

    def _read(self, connection: socket.socket, data: bytearray) -> None:
        try:
            while piece := connection.recv(65536):
                data += piece
        except OSError:
            pass

    @property
    def messages(self) -> list[str]:
        """The messages that are complete (RFC 6587 section 3.4.1)."""
        found = []
        for data in self.data:
            rest = bytes(data)
            while (match := re.match(rb"([1-9][0-9]*) ", rest)) and len(rest) >= match.end() + int(match[1]):
                end = match.end() + int(match[1])
                found.append(rest[match.end() : end].decode())
                rest = rest[end:]
        return found

    def close(self) -> None:
        # A thread that waits in a call keeps a socket open: it is woken first.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for connection, reader in self._readers:
            with contextlib.suppress(OSError):  # it has ended
                connection.shutdown(socket.SHUT_RDWR)
            reader.join()
            connection.close()


def test_a_receiver_over_tcp_goes_away_and_comes_back(start_gateway: Starter, start_servers: Servers) -> None:
    port = free_port()
    described: dict[str, Any] = site(start_servers("app1"), workers=1)
    described["access_log"] = {"syslog": f"tcp://127.0.0.1:{port}", "format": "{uri}"}
    gateway = start_gateway(described)  # before there is a receiver
    gateway.wait_for_log("access log: no connection to tcp://127.0.0.1:")
    ask(gateway.port, "/bytes/1?early")
    first = Receiver(port)
    eventually(lambda: len(first.messages) == 1, "the line that has waited", 10.0)
    assert re.fullmatch(r"<134>1 20\S+Z \S+ gateway \d+ access - /bytes/1\?early", first.messages[0])
    gateway.wait_for_log(r"the access log can be written to tcp://\S+ again")
    first.close()
    gateway.wait_for_log(r"access log: no connection to tcp://\S+: the receiver has closed the connection")
    ask(gateway.port, *(f"/bytes/1?{number}" for number in range(20)))
    second = Receiver(port)
    eventually(lambda: len(second.messages) == 20, "the lines that have waited", 10.0)
    assert [message.rpartition("?")[2] for message in second.messages] == [str(number) for number in range(20)]
    ask(gateway.port, "/bytes/1?last")
    assert gateway.terminate() == 0  # which sends the last lines
    assert second.messages[-1].endswith("?last")
    second.close()


def test_a_receiver_that_reads_nothing_stops_no_traffic(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    admin = free_port()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        described: dict[str, Any] = site(start_servers("app1"), workers=1)
        described["admin"] = {"sockets": str(tmp_path), "listen": f"127.0.0.1:{admin}"}
        described["access_log"] = {"syslog": f"tcp://127.0.0.1:{listener.getsockname()[1]}"}
        described["drain"] = "1s"
        gateway = start_gateway(described)
        assert figures(admin)[LOST] == 0
        long = "/bytes/1?" + "x" * 4000
        began = time.monotonic()
        with RawClient(gateway.port) as client:
            for _ in range(1200):
                client.ask(f"GET {long} HTTP/1.1\r\nHost: a\r\nUser-Agent: {long}\r\nReferer: {long}\r\n\r\n".encode())
        assert time.monotonic() - began < 20
        eventually(lambda: figures(admin)[LOST] > 0, "lost lines to be counted")
        assert gateway.log.count("its receiver is too slow; lines are lost until it can be written") == 1
        assert gateway.terminate() == 0


def test_lines_over_udp_are_counted_as_lost_until_there_is_a_receiver(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    """Lines are lost and counted as far as the kernel says so, and arrive as soon as there is a receiver."""
    port, admin = free_udp_port(), free_port()
    described: dict[str, Any] = site(start_servers("app1"), workers=1)
    described["admin"] = {"sockets": str(tmp_path), "listen": f"127.0.0.1:{admin}"}
    described["access_log"] = {
        "syslog": {"to": f"udp://localhost:{port}", "app": "x"},
        "format": "{header:X-Long}{uri}",
    }
    gateway = start_gateway(described)

    def is_counted() -> bool:
        ask(gateway.port, "/bytes/1")
        return figures(admin)[LOST] > 0

    eventually(is_counted, "lost lines to be counted", 10.0)
    with socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        receiver.settimeout(10.0)
        ask(gateway.port, "/bytes/1?there")
        while not (message := receiver.recv(65536)).endswith(b"/bytes/1?there"):
            assert message.startswith(b"<134>1 ")
        with RawClient(gateway.port) as client:
            client.get("/bytes/1?" + "y" * 9000)
        assert receiver.recv(65536).endswith(b"y...")  # a field is bounded, and so is a datagram


def test_several_logs_and_their_samples(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    """What is drawn depends on the request's id alone, so that gateways agree; what failed is always there."""
    path = tmp_path / "access.log"
    described: dict[str, Any] = site(start_servers("app1"), workers=2)
    described["frontends"][0]["trusted_proxies"] = ["127.0.0.1"]
    with socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0)
        described["access_log"] = [
            {"path": str(path), "format": "{request_id} {status}", "sample": "25%"},
            {
                "syslog": f"udp://127.0.0.1:{receiver.getsockname()[1]}",
                "format": "{request_id} {status}",
                "sample": "5 %",
            },
        ]
        gateway = start_gateway(described)
        with RawClient(gateway.port) as client:
            for name in ("first", "second"):
                for number in range(200):
                    client.get("/bytes/1", f"X-Request-ID: id-{number}")
                client.get("/status/503", f"X-Request-ID: {name}-error")
                client.get("/status/404", "X-Request-ID: id-0")
        assert gateway.terminate() == 0
        got = []
        while True:
            try:
                got.append(receiver.recv(9000).decode().rpartition(" - ")[2])
            except BlockingIOError:
                break
    written = path.read_text().splitlines()
    rounds = [[line for line in written if line.endswith(" 200")], [line for line in got if line.endswith(" 200")]]
    for found, share in zip(rounds, (0.25, 0.05), strict=True):
        half = len(found) // 2
        assert found[:half] == found[half:]  # the same requests in both rounds
        assert half == pytest.approx(200 * share, abs=200 * 0.1)
        assert half > 0
    assert set(rounds[1]) < set(rounds[0])
    for log in (written, got):
        assert {"first-error 503", "second-error 503"} < set(log)
        assert sum(line.endswith(" 404") for line in log) in (0, 2)  # a request as any other
