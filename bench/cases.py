"""The cases of all proxies. A goal is CPU per request relative to the better of nginx and HAProxy."""

from dataclasses import dataclass

from bench.load import Load

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """A load with a name; `goal` is what the gateway's CPU per request may be, relative to the better peer's."""

    name: str
    load: Load
    goal: float | None = None
    quick: bool = True
    """Part of the short run."""
    large: bool = False
    """Bodies so large that proxies need settings of their own."""


CASES = (
    Case("130 B", Load(), 0.85),
    Case("130 B, no fields but Host", Load(fields=()), quick=False),
    Case("10 KB", Load("/bytes/10000"), 0.85),
    Case("1 MB", Load(f"/bytes/{MB}", connections=16), 0.8, large=True),
    Case("100 MB", Load(f"/bytes/{100 * MB}", connections=4, requests=12), 0.8, quick=False, large=True),
    Case("upload 1 MB", Load("/sink", connections=16, upload=MB), 0.8, quick=False, large=True),
    Case("TLS keep-alive", Load(tls=True), 0.95),
    Case("TLS 1 MB", Load(f"/bytes/{MB}", connections=16, tls=True), quick=False, large=True),
    Case("TLS full handshake", Load(connections=32, tls=True, fresh=True), 1.0),
    Case("TLS resumed handshake", Load(connections=32, tls=True, fresh=True, resume=True), 1.0),
    Case("WebSocket", Load("/ws", message=100), 0.9),
)
SMALL = CASES[0]
"""The plain case: the reference for the others."""
