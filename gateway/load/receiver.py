"""Receives load reports: one datagram each, accepted only if signed, fresh, and about a known server."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from gateway.config.snapshot import ServerKey
from gateway.load.keys import ReportKeys
from gateway.load.receipts import OPINIONS, Receipts
from gateway.load.refusals import Refusals
from gateway.load.replay import ReplayGuard, Verdict
from loadagent.receipt import Opinion, Receipt, Trial, encode_receipt, is_signed, read_trial
from loadagent.report import BadReport, Report, claimed_server, decode

_log = logging.getLogger("gateway.load")

Homes = Mapping[str, Collection[str]]
"""The IP addresses of each server, by its name."""
Send = Callable[[bytes, tuple[str, int]], None]
"""Sends a datagram to an address."""
_NO_HOMES: Final[Homes] = MappingProxyType({})


class Receiver(asyncio.DatagramProtocol):
    """Passes each valid report to `hear`, once for every server that it is about.

    `refused` counts the others by reason. Reports get no response, so a forger learns nothing, and a forged source
    address directs no traffic to a third party. Only a trial (`loadagent test`) gets one: gateway/load/receipts.py.
    """

    def __init__(
        self,
        hear: Callable[[ServerKey, Report], None],
        wall: Callable[[], int] = time.time_ns,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refusals = Refusals("load report", _log, steady)
        self.refused = self._refusals.counts
        self._hear = hear
        self._wall = wall
        self._steady = steady
        self._guard = ReplayGuard(wall(), steady())
        self._receipts = Receipts(steady)
        self.send: Send | None = None
        """Sends receipts; None: there are none."""
        self._shared = b""
        self._own = ReportKeys({})
        self._homes: Homes = {}
        self._named: dict[str, list[ServerKey]] = {}

    def expect(
        self,
        shared: bytes,
        servers: Iterable[ServerKey],
        own: ReportKeys | None = None,
        homes: Homes = _NO_HOMES,
    ) -> None:
        """Accept reports about these servers from now on.

        They are signed with the server's key in `own`, or with `shared` (empty: none) if the server has none there.
        What the shared key signs is bound to the address that it comes from; see ReplayGuard.
        """
        named = defaultdict(list)
        for backend, server in servers:
            named[server].append((backend, server))
        self._shared, self._named = shared, dict(named)
        self._own, self._homes = own or ReportKeys({}), homes

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Process one datagram from any sender."""
        trial = read_trial(data)
        if trial is not None:
            self._try(trial, data, addr)
            return
        name = claimed_server(data)
        own = self._own_key(name)
        if name and not (own or self._shared):
            self._refusals.note("unknown server", f"there is no server {name} that has a key", addr[0])
            return
        try:
            report = decode(data, own or self._shared)
        except BadReport as error:
            self._refusals.note(error.reason.value, str(error), addr[0])
            return
        servers = [key for key in self._named.get(report.server, ()) if report.backend in (None, key[0])]
        if not servers:
            self._refusals.note("unknown server", f"there is no server {report.server}", addr[0])
            return
        verdict = self._guard.check(
            report,
            self._wall(),
            self._steady(),
            source=addr[0] if own is None else None,
            home=self._homes.get(report.server, ()),
        )
        if verdict is not Verdict.ACCEPTED:
            self._refusals.note(verdict.value, f"{report.server}: {verdict.value}", addr[0])
            return
        for server in servers:
            self._hear(server, report)

    def _own_key(self, name: str) -> bytes | None:
        return self._own.of(name) if name in self._named else None

    def _try(self, trial: Trial, data: bytes, addr: tuple[str, int]) -> None:
        """Tell an agent what would become of its reports."""
        own = self._own_key(trial.server)
        key = own or self._shared
        signed = bool(key) and is_signed(data, key)
        if self.send is None or not self._receipts.may_answer(signed=signed):
            return
        receipt = Receipt(Opinion.WRONG_KEY if key else Opinion.UNKNOWN_SERVER, trial.nonce)
        if signed:
            source, home = addr[0] if own is None else None, self._homes.get(trial.server, ())
            verdict, age = self._guard.foresee(trial, self._wall(), self._steady(), source, home)
            opinion = OPINIONS[verdict]
            if not any(trial.backend in (None, backend) for backend, _ in self._named.get(trial.server, ())):
                opinion = Opinion.UNKNOWN_SERVER
            receipt = Receipt(opinion, trial.nonce, self._wall(), None if age is None else round(age * 1000))
        self.send(encode_receipt(receipt, key if signed else b""), addr)
        if receipt.opinion is not Opinion.ACCEPTED:
            why = receipt.opinion.name.lower().replace("_", " ")
            self._refusals.note(f"trial: {why}", f"a trial of {trial.server}: {why}", addr[0])

    def error_received(self, exc: Exception) -> None:
        """Note a socket error; the next datagram may be fine."""
        self._refusals.note("socket error", str(exc), "")
