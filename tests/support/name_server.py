"""A name server of a test, on a port of 127.0.0.1 over UDP: its answers can be changed at any moment."""

import socket
import threading
from collections import Counter
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

REFUSES = "refuses"
SILENT = "silent"
LOOPS = "loops"
FORGES = "forges"
TRUNCATES = "truncates"
ECHOES = "echoes"


class NameServer:
    """Answers from `records`: (name, kind) → the data of each record, as in a zone file.

    A name without any record does not exist. `chains` has a name's real name, and for how long; of a name in `aliases` the
    real name is all that the answer has. `mood` is "", REFUSES (answers are SERVFAIL), SILENT, or what no name server should do: LOOPS (a compressed name that
    points at itself), FORGES (an address under another id), TRUNCATES (half an answer) or ECHOES (the question comes back). Every answer holds for `ttl` seconds. `asked` counts questions by (name, kind).
    """

    def __init__(self, ttl: int = 1) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.chains: dict[str, tuple[str, int]] = {}
        self.aliases: dict[str, tuple[str, int]] = {}
        self.ttl = ttl
        self.mood = ""
        self.asked: Counter[tuple[str, str]] = Counter()
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run)

    @property
    def port(self) -> int:
        """Its port."""
        return int(self._socket.getsockname()[1])

    @property
    def resolver(self) -> dict[str, object]:
        """The key `resolver` of a site that asks it."""
        return {"nameservers": [f"127.0.0.1:{self.port}"], "timeout": "500ms"}

    def _run(self) -> None:
        while True:
            wire, client = self._socket.recvfrom(4096)
            if not wire:
                return
            answer = self._answer(dns.message.from_wire(wire))
            if answer is not None:
                self._socket.sendto(self._spoilt(wire, answer.to_wire()), client)

    def _spoilt(self, question: bytes, answer: bytes) -> bytes:
        """Return what is sent instead of a good answer, by the mood."""
        if self.mood == LOOPS:  # 12 bytes of header, the question, then a name that is a pointer to itself
            head = question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
            name = (0xC000 | len(question)).to_bytes(2)
            return head + question[12:] + name + b"\0\1\0\1\0\0\0\1\0\4\x06\x06\x06\x06"
        if self.mood == FORGES:
            return bytes([answer[0] ^ 0xFF]) + answer[1:]
        if self.mood == TRUNCATES:
            return answer[: len(answer) - 6]
        return question if self.mood == ECHOES else answer

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked[name, kind] += 1
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if self.mood == SILENT:
            return None
        if self.mood == REFUSES:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif name in self.aliases:
            real, ttl = self.aliases[name]
            response.answer.append(dns.rrset.from_text(question.name, ttl, "IN", "CNAME", f"{real}."))
        elif not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif data := self.records.get((name, kind)):
            if name in self.chains:
                real, ttl = self.chains[name]
                response.answer.append(dns.rrset.from_text(question.name, ttl, "IN", "CNAME", f"{real}."))
                name = real
            response.answer.append(dns.rrset.from_text(f"{name}.", self.ttl, "IN", kind, *data))
        return response

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5.0)
        self._socket.close()
