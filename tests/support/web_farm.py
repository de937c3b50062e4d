"""Another site of a web farm, as far as a gateway hears of it, and questions to the gateway's name server."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import dns.message
import dns.query

from gateway.control.sites import CONTEXT
from loadagent.report import Report, State, encode
from tests.support.waiting import free_port, free_udp_port

KEY = "0123456789abcdef0123456789abcdef"


def both_port() -> int:
    """Return a port that is free for TCP and UDP."""
    while True:
        port = free_port()
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def sites_of_mel(directory: Path, port: int) -> dict[str, Any]:
    """`sites` of a gateway that is the site mel, beside syd and dub, and hears reports at a port."""
    key = directory / "sites.key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    peers = {
        name: {"url": f"http://{name}.example.com", "report": f"127.0.0.1:{free_udp_port()}"} for name in ("syd", "dub")
    }
    return {"self": "mel", "listen": f"127.0.0.1:{port}", "peers": peers, "key_file": str(key)}


def ask(port: int, name: str = "www.example.com", kind: str = "A", **options: Any) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=0, **options)
    return dns.query.udp(query, "127.0.0.1", timeout=5.0, port=port)


def first(port: int, **options: Any) -> str:
    return str(ask(port, **options).answer[0][0])


class Site:
    """Another site's gateway, which reports to the one that is tested."""

    def __init__(self, port: int, name: str) -> None:
        self._port = port
        self._name = name
        self._sequence = 0
        self._incarnation = time.time_ns()
        self.load = 0.5
        self.requests = 100.0
        self.state = State.READY
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10.0)

    def say(self) -> None:
        self._sequence += 1
        metrics = {"load": self.load, "requests": self.requests}
        report = Report(self._name, self._incarnation, self._sequence, time.time_ns(), self.state, "gw", metrics)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.sendto(encode(report, KEY.encode(), CONTEXT), ("127.0.0.1", self._port))

    def _talk(self) -> None:
        while not self._stop.wait(0.2):
            self.say()
