"""Asks each gateway what it thinks of this agent's reports: `loadagent test`."""

import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from loadagent.config import AgentConfig, Endpoint, read_key
from loadagent.receipt import LONGEST, Opinion, Receipt, Trial, decode_receipt, encode_trial

PATIENCE: Final = 2.0
"""Seconds to wait for a gateway."""
TRIES: Final = 3
"""Datagrams in that time: one may be lost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking one gateway: its receipt, or why there is none."""

    gateway: Endpoint
    receipt: Receipt | None = None
    offset: float | None = None
    """Seconds by which the gateway's clock is ahead of ours."""
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether the gateway accepts this agent's reports."""
        return self.receipt is not None and self.receipt.opinion is Opinion.ACCEPTED

    def sentence(self, server: str) -> str:
        """Say it, with what to do."""
        if self.receipt is None:
            return self.problem
        match self.receipt.opinion:
            case Opinion.ACCEPTED:
                return f"accepted{_aside(self.offset)}; {_heard(self.receipt.age)}"
            case Opinion.WRONG_KEY:
                return "wrong key: key_file here and the key of this server in the site file differ"
            case Opinion.UNKNOWN_SERVER:
                return f"unknown server: the site file has no server {server}, or no key for it"
            case Opinion.CLOCK:
                return f"refused: the clocks differ{_aside(self.offset)}; set both by NTP"
            case Opinion.ELSEWHERE:
                return "refused: another address reports for this server with the shared key"

    def as_json(self, server: str) -> dict[str, Any]:
        """The same for programs."""
        receipt = self.receipt
        return {
            "gateway": str(self.gateway),
            "opinion": receipt.opinion.name.lower() if receipt is not None else None,
            "signed": receipt is not None and receipt.time is not None,
            "clock_ahead": self.offset,
            "last_report_ms": receipt.age if receipt is not None else None,
            "text": self.sentence(server),
        }


def _aside(offset: float | None) -> str:
    if offset is None or abs(offset) < 1.0:
        return ""
    return f" (this machine's clock is {abs(offset):.1f} s {'behind' if offset > 0 else 'ahead'})"


def _heard(age: int | None) -> str:
    if age is None:
        return "it has not heard a report of this server yet: is `loadagent run` running?"
    return f"it heard the last report of this server {age / 1000:.1f} s ago"


def ask_all(config: AgentConfig) -> Iterator[Answer]:
    """Ask every gateway in turn."""
    key = read_key(config.key_file) if config.key_file else b""
    for gateway in config.gateways:
        try:
            yield _ask(config, gateway, key)
        except (OSError, UnicodeError) as error:
            yield Answer(gateway, problem=f"cannot be asked: {getattr(error, 'strerror', None) or error}")


def _ask(config: AgentConfig, gateway: Endpoint, key: bytes) -> Answer:
    family, kind, protocol, _, address = socket.getaddrinfo(*gateway, type=socket.SOCK_DGRAM)[0]
    nonce, refused = secrets.randbits(64), False
    with socket.socket(family, kind, protocol) as sock:
        sock.connect(address)
        for _ in range(TRIES):
            sent = time.time_ns()
            end = time.monotonic() + PATIENCE / TRIES
            try:
                sock.send(encode_trial(Trial(nonce, sent, config.server, config.backend), key))
                while (left := end - time.monotonic()) > 0:
                    sock.settimeout(left)
                    receipt = decode_receipt(sock.recv(LONGEST), key, nonce)
                    if receipt is not None:
                        return Answer(gateway, receipt, _offset(receipt, sent))
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                refused = True
                time.sleep(max(0.0, end - time.monotonic()))
    if refused:
        return Answer(gateway, problem="nothing listens there: is it the address of load_reports in the site file?")
    return Answer(
        gateway,
        problem=f"nothing heard within {PATIENCE:g} s: a wrong address, a firewall, a gateway that is down or too old "
        "to answer, or one that was asked too often",
    )


def _offset(receipt: Receipt, sent: int) -> float | None:
    """The gateway's clock minus ours, in the middle of the exchange."""
    return None if receipt.time is None else (receipt.time - (sent + time.time_ns()) / 2) / 1e9
