"""Keeps the records of other name servers current, by dynamic updates (RFC 2136) signed with TSIG (RFC 8945)."""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.message
import dns.query
import dns.rcode

# dnspython would import these on first use, which is too late for a confined process.
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.SOA
import dns.rdtypes.ANY.TSIG
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.tsig

from gateway.balance.site_shares import Balance, Plan, SiteState, live, states_of
from gateway.config.dns import BalancedName, Updates
from gateway.config.snapshot import Snapshot
from gateway.control.tasks import keep_running, stop
from gateway.control.update_messages import Found, Ip, Key, found_in, question, signing_key, update, urgent, wanted
from gateway.reports import DnsUpdateReport
from loadagent.log_throttle import LogThrottle

PAUSE: Final = 1.0
"""Least seconds between two looks at what is to be changed."""
PER_SECOND: Final = 50.0
"""Messages to a name server."""
TOGETHER: Final = 20
"""Names and types that are changed by one message."""
TIMEOUT: Final = 2.0
UDP_BYTES: Final = 1232
"""Longest message over UDP."""
FIRST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 60.0
_BACKEND: Final = dns.asyncbackend.get_backend("asyncio")
_log = logging.getLogger("gateway.control")


class UpdateFailed(Exception):
    """A name server was not told; `reason` names why in metrics."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Plans:
    """What one name server is told about."""

    zone: str
    model: Updates
    names: Mapping[str, BalancedName]
    key: dns.tsig.Key


@dataclass(slots=True)
class Keeper:
    """Keeps one zone of a name server current."""

    plans: Plans
    balances: dict[str, Balance] = field(init=False)
    found: dict[Key, Found] = field(default_factory=dict)
    """What the server is known to have."""
    first_look: float = 0.0
    """Seconds until nothing is unknown of the sites: until then, one that is down counts as up."""
    changed: dict[Key, float] = field(default_factory=dict)
    """When each was changed last."""
    counts: dict[str, int] = field(default_factory=dict)
    failing: str = ""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    states: Mapping[str, SiteState] = field(default_factory=dict)
    _sent: float = 0.0
    _throttle: LogThrottle = field(default_factory=LogThrottle)

    def __post_init__(self) -> None:
        self.balances = {name: Balance(Plan.of(model)) for name, model in self.plans.names.items()}

    def report(self) -> DnsUpdateReport:
        """The part of `gateway status`."""
        foreign = sorted({name for (name, _), found in self.found.items() if found.foreign})
        return DnsUpdateReport(
            zone=self.plans.zone,
            server=str(self.plans.model.server),
            failing=self.failing,
            foreign=tuple(islice(foreign, 10)),
            counts=dict(self.counts),
        )

    async def run(self) -> None:
        """Bring the server's records up to date: on news, and every `every` after a look at what it has."""
        retry, looked = FIRST_RETRY, 0.0
        await asyncio.sleep(self.first_look)
        while True:
            self.news.clear()
            now = time.monotonic()
            if not looked or now - looked >= self.plans.model.every:
                self.found.clear()
                looked = now
            wait: float = self.plans.model.every
            try:
                if await self._bring(now):
                    wait = PAUSE
                self._worked()
                retry = FIRST_RETRY
            except UpdateFailed as failure:
                self._failed(failure)
                if failure.reason == "conflict":
                    self.found.clear()
                wait = retry * random.uniform(0.75, 1.25)  # noqa: S311 - not a secret
                retry = min(2 * retry, LONGEST_RETRY)
                await asyncio.sleep(wait)
                continue
            await asyncio.sleep(PAUSE)
            try:
                await asyncio.wait_for(self.news.wait(), max(0.0, wait - PAUSE))
            except TimeoutError:
                continue

    async def _bring(self, now: float) -> bool:
        """Change what differs; whether something waits for its TTL. Raises UpdateFailed."""
        changes: dict[Key, tuple[frozenset[Ip], frozenset[Ip], int]] = {}
        waits = False
        for name, model in self.plans.names.items():
            balance = self.balances[name]
            balance.move(self.states, now)
            own = [ip for there in model.sites.values() for ip in there]
            sites, _ = live(tuple(model.sites), self.states)
            alive = frozenset(ip for site in sites for ip in model.sites[site])
            for key, after in wanted(name, model, balance).items():
                before = self.found.get(key)
                if before is None:
                    before = self.found[key] = found_in(await self._ask(question(*key, self.plans.key)), *key, own)
                if before.foreign or before.addresses == after:
                    continue
                if not urgent(before, after, alive) and now - self.changed.get(key, -model.ttl) < model.ttl:
                    waits = True
                    continue
                changes[key] = before.addresses, after, int(model.ttl)
        listed = list(changes.items())
        for some in (listed[at : at + TOGETHER] for at in range(0, len(listed), TOGETHER)):
            await self._ask(update(self.plans.model.zone or self.plans.zone, dict(some), self.plans.key))
            self.counts["changed"] = self.counts.get("changed", 0) + len(some)
            for key, (_, after, _) in some:
                self.found[key], self.changed[key] = Found(after), now
            (first, kind), (_, after, _) = some[0]
            said = ", ".join(map(str, sorted(after, key=int))) or "empty"
            more = f", and {len(some) - 1} more have changed" if len(some) > 1 else ""
            _log.info("%s at %s: %s %s is now %s%s", self.plans.zone, self.plans.model.server, first, kind, said, more)
        return waits

    async def _ask(self, message: dns.message.Message) -> dns.message.Message:
        """Send a message and return the response, over TCP if it is long or UDP does not work. Raises UpdateFailed."""
        await asyncio.sleep(max(0.0, self._sent + 1.0 / PER_SECOND - time.monotonic()))
        self._sent = time.monotonic()
        server = self.plans.model.server
        try:
            try:
                if len(message.to_wire()) > UDP_BYTES:
                    raise dns.exception.Timeout
                response = await dns.asyncquery.udp(
                    message, server.host, TIMEOUT, server.port, raise_on_truncation=True, backend=_BACKEND
                )
            except (dns.exception.Timeout, dns.message.Truncated, OSError):
                response = await dns.asyncquery.tcp(message, server.host, TIMEOUT, server.port, backend=_BACKEND)
        except dns.exception.Timeout:
            raise UpdateFailed("timeout", "no response") from None
        except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.tsig.BadTime, dns.message.UnknownTSIGKey) as error:
            raise UpdateFailed("signature", f"the key or the clocks differ: {error}") from None
        except OSError as error:
            raise UpdateFailed("connection", error.strerror or str(error)) from None
        except (dns.exception.DNSException, EOFError) as error:
            raise UpdateFailed("malformed", str(error) or type(error).__name__) from None
        return _checked(response)

    def _worked(self) -> None:
        if self.failing:
            _log.info("%s at %s: updates work again", self.plans.zone, self.plans.model.server)
        self.failing = ""
        foreign = sorted({name for (name, _), found in self.found.items() if found.foreign})
        if foreign:
            self._failed(UpdateFailed("foreign", f"other records than the site file's are left alone: {foreign[0]}"))

    def _failed(self, failure: UpdateFailed) -> None:
        self.counts[failure.reason] = self.counts.get(failure.reason, 0) + 1
        self.failing = f"{failure.reason}: {failure}"
        if self._throttle.ask(failure.reason, time.monotonic()) is not None:
            _log.error("%s at %s: cannot update: %s", self.plans.zone, self.plans.model.server, self.failing)


def _checked(response: dns.message.Message) -> dns.message.Message:
    """A response that says that all is well. Raises UpdateFailed."""
    code = response.rcode()
    if code in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN} and response.opcode() == 0:
        return response
    if code == dns.rcode.NOERROR:
        return response
    text = dns.rcode.to_text(code)
    if code in {dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN}:
        raise UpdateFailed("conflict", f"the records have changed meanwhile ({text})")
    if code in {dns.rcode.REFUSED, dns.rcode.NOTAUTH, dns.rcode.NOTZONE}:
        raise UpdateFailed("refused", f"the server allows no updates of this zone with this key ({text})")
    raise UpdateFailed("answer", text)


class NameUpdates:
    """All that other name servers are told, in the running event loop."""

    def __init__(self) -> None:
        self._running: list[tuple[Keeper, asyncio.Task[None]]] = []
        self._states: Mapping[str, SiteState] = {}
        self._began = time.monotonic()

    async def apply(self, snapshot: Snapshot) -> None:
        """Use another snapshot. What servers have is looked at anew."""
        await self.close()
        for plans in _plans(snapshot):
            sites = snapshot.site.sites
            unknown = self._began + sites.stale_after - time.monotonic() if sites is not None else 0.0
            keeper = Keeper(plans, states=self._states, first_look=max(0.0, unknown))
            work = keep_running(f"updating {plans.zone} at {plans.model.server}", keeper.run)
            self._running.append((keeper, asyncio.create_task(work)))

    def tell(self, said: Mapping[str, Mapping[str, object]]) -> None:
        """The states of sites, as the name server is told them."""
        self._states = states_of(said)
        for keeper, _ in self._running:
            before, keeper.states = keeper.states, self._states
            if {name: state.live for name, state in before.items()} != {
                name: state.live for name, state in self._states.items()
            }:
                keeper.news.set()

    def report(self) -> tuple[DnsUpdateReport, ...]:
        """One for each zone."""
        return tuple(keeper.report() for keeper, _ in self._running)

    async def close(self) -> None:
        """Stop; records stay as they are."""
        await stop([task for _, task in self._running])
        self._running.clear()


def _plans(snapshot: Snapshot) -> list[Plans]:
    if snapshot.site.dns is None:
        return []
    found = []
    for zone, model in snapshot.site.dns.zones.items():
        if model.updates is not None:
            names = {f"{name}.{zone}": item for name, item in model.names.items()}
            if model.sites:
                names[zone] = model
            found.append(Plans(zone, model.updates, names, signing_key(snapshot.files[model.updates.key_file])))
    return found
