"""All names that are answered for, and what is said about each. No I/O; what sites are worth comes from Balances.

A lookup walks from the name asked for to the closest name that exists (RFC 4592), so each takes as long with a hundred
thousand names as with ten. Answers are made once for each type and order of addresses, and kept.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from gateway.balance.site_shares import TURNS, UNKNOWN, Balance, Order, Plan, SiteState
from gateway.config.dns import BalancedName, Dns, Https, Zone, parse_networks, parse_record
from gateway.config.files import STAND_IN
from gateway.config.places import Database
from gateway.dns import records
from gateway.dns.kept import Answer
from gateway.dns.nearest import NOT_KNOWN, Latencies, Near, Nearest
from gateway.dns.networks import Networks
from gateway.dns.records import RecordSet, Writer, wire_name
from gateway.dns.signing import NXNAME, Signer, TooMany, denial

Ip: TypeAlias = IPv4Address | IPv6Address
Line: TypeAlias = tuple[int | None, bool]
"""Clients that get turns after each other: those who ask for a family (None: both), with signatures or without."""

KEPT: Final = 65_536
"""Answers about balanced names that are kept; more, and all are made anew as they are asked for."""
MAX_CHAIN: Final = 8
"""CNAMEs that are followed within an answer."""
LONGEST_PERIOD: Final = 16 * TURNS
"""Answers to queries after each other that are kept for one name and type."""
_COMMON: Final = frozenset({1, 2, 5, 6, 12, 15, 16, 28, 33, 43, 44, 48, 52, 64, 65, 255, 257})
"""Types whose answers are kept, also that there are none: so many of a name, whatever clients ask for."""
_MINIMAL: Final = RecordSet(records.HINFO, 3600, (records.MINIMAL,))
_FAMILIES: Final = {records.A: 4, records.AAAA: 6}


@dataclass(slots=True, eq=False)
class ZoneData:
    """What all answers of a zone have in common."""

    name: bytes
    negative: RecordSet
    """Its SOA, with the TTL of negative answers (RFC 2308 section 5)."""
    number: int
    signer: Signer | None = None
    nxdomain: Answer = field(init=False)
    nodata: Answer = field(init=False)

    def __post_init__(self) -> None:
        self.nxdomain = self.no(records.NXDOMAIN)
        self.nodata = self.no(records.NOERROR)

    def no(self, code: int, before: Writer | None = None, answers: int = 0) -> Answer:
        """The answer that there is nothing, behind what was said before: CNAMEs."""
        writer = before or Writer()
        # With CNAMEs, the name asked for need not end like this zone.
        count = writer.add(self.negative, -len(self.name) if before is None else self.name)
        return writer.answer(code, answers, count, self.number)


class Client(NamedTuple):
    """Who an answer is for: the first `source` bits of its address are known."""

    address: bytes
    source: int
    sender: bool = False
    """The query has come from there: it is the client's resolver."""


class Group:
    """The names of equal plans: the shares that are in force for their clients, by the site that these prefer."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._balances: dict[str | None, Balance] = {}
        self._states: Mapping[str, SiteState] = {}
        self._now = 0.0

    def balance(self, prefers: str | None) -> Balance:
        """The shares of clients that prefer a site or none."""
        balance = self._balances.get(prefers)
        if balance is None:
            balance = self._balances[prefers] = Balance(self.plan, prefers)
            balance.move(self._states, self._now)
        return balance

    def first_live(self, sites: tuple[str, ...]) -> str | None:
        """The first of some sites that takes clients."""
        return next((site for site in sites if self._states.get(site, UNKNOWN).live), None)

    def move(self, states: Mapping[str, SiteState], now: float) -> bool:
        """Move all shares; whether anything has changed."""
        self._states, self._now = states, now
        self.balance(None)
        changed = [balance.move(states, now) for balance in self._balances.values()]
        return any(changed)


@dataclass(slots=True, eq=False)
class Balanced:
    """The addresses of a name by site, and who prefers which."""

    addresses: Mapping[str, tuple[Ip, ...]]
    group: Group
    nearest: Nearest
    most: int
    ttl: int
    https: Https | None
    turns: dict[tuple[str | None, Line], "itertools.count[int]"] = field(default_factory=dict)
    """Clients so far, by the site that they prefer. Clients ask for A and AAAA in turn: each has a count of its own."""
    rotations: dict[tuple[int, str, Line], "itertools.count[int]"] = field(default_factory=dict)
    """Answers so far with the addresses of each site at each place."""

    def choose(self, line: Line, client: "Client") -> tuple[tuple[Ip, ...], int]:
        """Addresses for the next client of a line, best first, and the scope for which they hold."""
        near = self.near(client)
        return self.best(self.group.first_live(near.sites), line), near.scope

    def near(self, client: "Client") -> Near:
        """The sites that a client prefers, the scope of that, and why."""
        if not self.nearest:
            return NOT_KNOWN
        packed = client.address
        address: Ip = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
        return self.nearest.find(address, client.source, sender=client.sender)

    def best(self, prefers: str | None, line: Line) -> tuple[Ip, ...]:
        """The addresses for the next client that prefers a site or none."""
        turn = next(self.turns.setdefault((prefers, line), itertools.count()))
        orders = self.group.balance(prefers).orders
        return self.expand(orders[turn % TURNS], line)

    def period(self, family: int | None) -> int:
        """After how many answers they repeat while shares are the same; 0: after too many."""
        counts = [sum(family is None or ip.version == family for ip in there) for there in self.addresses.values()]
        found = TURNS * math.lcm(*(max(1, count) for count in counts))
        return found if found <= LONGEST_PERIOD else 0

    def expand(self, order: Order, line: Line) -> tuple[Ip, ...]:
        """The addresses of sites in an order, `most` of each family; those of one site take turns, too."""
        found: list[Ip] = []
        family, _ = line
        for place, site in enumerate(order):
            there = [ip for ip in self.addresses[site] if family is None or ip.version == family]
            if len(there) > 1:
                at = next(self.rotations.setdefault((place, site, line), itertools.count())) % len(there)
                there = there[at:] + there[:at]
            found += there
        if family is None:
            return tuple(ip for version in (4, 6) for ip in [ip for ip in found if ip.version == version][: self.most])
        return tuple(found[: self.most])


@dataclass(slots=True, eq=False)
class Node:
    """A name that exists, perhaps only because names below it do."""

    zone: ZoneData
    name: bytes
    number: int
    sets: dict[int, RecordSet] = field(default_factory=dict)
    balanced: Balanced | None = None
    alias: bytes | None = None
    """The target of its CNAME."""
    wildcard: "Node | None" = None
    """What stands for names below it that do not exist."""
    made: dict[int, Answer] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Chain:
    """What is said about a name, set by set: CNAMEs, and what the last target has."""

    first: Node
    last: Node
    exists: bool
    """Whether the last target does; else `last` is what is above it."""
    end: bytes
    """The name of the last target."""
    sets: list[tuple[bytes, RecordSet, ZoneData]] = field(default_factory=list)
    empty: bool = True
    """The last target is of a zone here and has no such records."""
    scope: int = 0
    signed: bool = False


class Table:
    """The names of a site file."""

    def __init__(self, before: "Table | None" = None, database: Database | None = None) -> None:
        self._database = database
        self._before: Mapping[Plan, Group] = before.groups if before is not None else {}
        self._signers_before: Mapping[str, Signer] = before.signers if before is not None else {}
        self._nodes: dict[bytes, Node] = {}
        self._zones: list[str] = []
        self._numbers = itertools.count(1)
        self._kept: dict[tuple[int, int, tuple[Ip, ...]], Answer] = {}
        self._refused = Answer(records.REFUSED, authoritative=False)
        self._overloaded = Answer(records.SERVFAIL, authoritative=False)
        self.latencies: Latencies = before.latencies if before is not None else Latencies()
        self.signers: dict[str, Signer] = {}
        """Of the zones that are signed, by their names."""
        self.groups: dict[Plan, Group] = {}
        self.balanced: dict[str, Balanced] = {}
        """By the names of the site file."""

    @classmethod
    def of(
        cls,
        model: Dns,
        files: Mapping[Path, bytes],
        serial: int,
        before: "Table | None" = None,
        database: Database | None = None,
    ) -> "Table":
        """The table of a site file; names go on with the shares of equal plans of the table `before`.

        `database` says where clients are.
        """
        table = cls(before, database)
        table._zones = list(model.zones)
        for name, zone in model.zones.items():
            table._add_zone(name, zone, files, serial)
        return table

    def move(self, states: Mapping[str, SiteState], now: float) -> bool:
        """Move the shares of all names; whether anything has changed."""
        changed = [group.move(states, now) for group in self.groups.values()]
        return any(changed)

    # ---------------------------------------------------------------------------------------------------------- lookup

    def find(
        self,
        name: bytes,
        kind: int,
        client: bytes,
        source: int,
        signed: bool = False,  # noqa: FBT001, FBT002
        sender: bool = False,  # noqa: FBT001, FBT002
    ) -> tuple[Answer, int, int]:
        """What is said about a name (on the wire, in lower case) and type to a Client, its scope, and its turns.

        Turns as Responder has them. Only what is asked by a name of the site file and a common type is to be kept.
        """
        node, exists = self.node(name)
        if node is None:
            return self._refused, 0, 0
        if signed and node.zone.signer is not None:
            return self._find_signed(name, kind, Client(client, source, sender))
        if not exists:
            return node.zone.nxdomain, 0, 0
        keep = kind in _COMMON and name == node.name
        if node.alias is not None and kind not in {records.CNAME, records.ANY}:
            chain = self._follow(name, kind, Client(client, source, sender), signed=False)
            return self._render(chain, kind), chain.scope, 0
        if node.balanced is not None and self._chosen(node.balanced, kind):
            family = _FAMILIES.get(kind)
            addresses, scope = node.balanced.choose((family, False), Client(client, source, sender))
            turns = 0 if node.balanced.nearest or not keep else node.balanced.period(family)
            return self._addresses(node, kind, addresses), scope, turns
        answer = node.made.get(kind)
        if answer is None:
            answer = self._static(node, kind)
        return answer, 0, int(keep)

    @property
    def places_failed(self) -> int:
        """Lookups in the MaxMind file that have failed."""
        return sum(item.nearest.failed for item in self.balanced.values())

    @property
    def zones(self) -> list[str]:
        """The names of all zones."""
        return list(self._zones)

    def records_of(self, apex: bytes) -> Iterator[tuple[bytes, RecordSet]]:
        """All records of a zone by their names on the wire; of balanced names, as a client near no site gets them."""
        for node in self._nodes.values():
            if node.zone.name != apex:
                continue
            for found in node.sets.values():
                yield node.name, found
            for kind in (*_FAMILIES, records.HTTPS) if node.balanced is not None else ():
                if node.balanced is None or not self._chosen(node.balanced, kind):
                    continue
                addresses = node.balanced.best(None, (_FAMILIES.get(kind), False))
                if addresses:
                    yield node.name, self._set(node.balanced, kind, addresses)

    def node(self, name: bytes) -> tuple[Node | None, bool]:
        """The node that answers for a name, and whether the name exists; None: none of these zones has it."""
        node = self._nodes.get(name)
        if node is not None:
            return node, True
        at = 0
        last = len(name) - 1
        while at < last:
            at += 1 + name[at]
            above = self._nodes.get(name[at:])
            if above is not None:
                return (above, False) if above.wildcard is None else (above.wildcard, True)
        return None, False

    def _chosen(self, balanced: Balanced, kind: int) -> bool:
        return kind in _FAMILIES or (kind == records.HTTPS and balanced.https is not None)

    def _static(self, node: Node, kind: int) -> Answer:
        """The answer of records that do not change; those of types that exist are kept."""
        found = node.sets.get(kind)
        if kind == records.ANY:
            found = _MINIMAL
        if found is None:
            return node.zone.nodata
        writer = Writer()
        count = writer.add(found)
        answer = node.made[kind] = writer.answer(records.NOERROR, count, 0, node.number)
        return answer

    def _addresses(self, node: Node, kind: int, addresses: tuple[Ip, ...]) -> Answer:
        balanced = node.balanced
        assert balanced is not None  # noqa: S101 - see find
        if not addresses and kind != records.HTTPS:
            return node.zone.nodata
        key = node.number, kind, addresses
        answer = self._kept.get(key)
        if answer is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            writer = Writer()
            count = writer.add(self._set(balanced, kind, addresses))
            answer = self._kept[key] = writer.answer(records.NOERROR, count, 0, node.number)
        return answer

    def _set(self, balanced: Balanced, kind: int, addresses: tuple[Ip, ...]) -> RecordSet:
        if kind == records.HTTPS:
            assert balanced.https is not None  # noqa: S101 - see _chosen
            return RecordSet(kind, balanced.ttl, (records.https(balanced.https, addresses),))
        return RecordSet(kind, balanced.ttl, tuple(ip.packed for ip in addresses))

    def _find_signed(self, name: bytes, kind: int, client: Client) -> tuple[Answer, int, int]:
        """What is said with signatures, as in `find`."""
        try:
            chain = self._follow(name, kind, client, signed=True)
            answer = self._render(chain, kind)
        except TooMany:
            return self._overloaded, 0, 0
        first = chain.first
        if kind not in _COMMON or name != first.name or not chain.exists or chain.last is not first:
            return answer, chain.scope, 0
        if first.balanced is None or not self._chosen(first.balanced, kind):
            return answer, chain.scope, 1
        return answer, chain.scope, 0 if first.balanced.nearest else first.balanced.period(_FAMILIES.get(kind))

    def _follow(self, name: bytes, kind: int, client: Client, *, signed: bool) -> Chain:
        """What is said about a name, over the CNAMEs that this table knows. Raises TooMany."""
        node, exists = self.node(name)
        assert node is not None  # noqa: S101 - see find
        chain = Chain(node, node, exists, name, signed=signed)
        seen: set[bytes] = set()
        while chain.exists:
            node = chain.last
            seen.add(node.name)
            found = self._chosen_set(chain, kind, client)
            if found is not None:
                chain.sets.append((chain.end, found, node.zone))
                chain.empty = False
                break
            if node.alias is None or kind in {records.CNAME, records.ANY, records.NSEC, records.RRSIG}:
                break
            chain.sets.append((chain.end, node.sets[records.CNAME], node.zone))
            after, exists = self.node(node.alias)
            if after is None or after.name in seen or len(seen) >= MAX_CHAIN:
                chain.empty = False
                break
            chain.last, chain.exists, chain.end = after, exists, node.alias
        return chain

    def _chosen_set(self, chain: Chain, kind: int, client: Client) -> RecordSet | None:
        """The records that a chain's last name has of a type."""
        node = chain.last
        if node.balanced is not None and self._chosen(node.balanced, kind):
            addresses, chain.scope = node.balanced.choose((_FAMILIES.get(kind), chain.signed), client)
            return self._set(node.balanced, kind, addresses) if addresses or kind == records.HTTPS else None
        if kind == records.ANY:
            return _MINIMAL
        if node.zone.signer is not None and kind == records.NSEC:
            return self._denial(chain.end, node, kind)
        if node.zone.signer is not None and kind == records.RRSIG:
            return node.zone.signer.sign(chain.end, self._denial(chain.end, node, kind), exists=chain.end == node.name)
        return node.sets.get(kind)

    def _denial(self, name: bytes, node: Node, kind: int) -> RecordSet:
        """The NSEC record of a name that exists, which says that it does not have a type."""
        types = set(node.sets)
        if node.balanced is not None:
            versions = {ip.version for there in node.balanced.addresses.values() for ip in there}
            types |= {type_ for type_, version in _FAMILIES.items() if version in versions}
            types |= {records.HTTPS} if node.balanced.https is not None else set()
        return denial(name, types - {kind}, node.zone.negative.ttl)

    def _render(self, chain: Chain, kind: int) -> Answer:
        """The bytes of a chain. Raises TooMany."""
        writer = Writer()
        count = 0
        distance: int | None = None
        for owner, found, zone in chain.sets:
            target = writer.last_data
            count += writer.add(found, distance)
            if chain.signed and zone.signer is not None and found.type != records.RRSIG:
                count += writer.add(zone.signer.sign(owner, found, exists=owner in self._nodes), distance)
            if found.type == records.CNAME:
                distance = target
        if not chain.empty:
            return writer.answer(records.NOERROR, count, 0, chain.first.number)
        zone = chain.last.zone
        code = records.NOERROR if chain.exists else records.NXDOMAIN
        if not chain.signed or zone.signer is None:
            return zone.no(code, writer, count)
        at: bytes | int = zone.name if chain.sets else -len(zone.name)
        authority = writer.add(zone.negative, at) + writer.add(zone.signer.sign(zone.name, zone.negative), at)
        nsec = denial(chain.end, {NXNAME}, zone.negative.ttl)
        if chain.exists:
            nsec = self._denial(chain.end, chain.last, kind)
        rrsig = zone.signer.sign(chain.end, nsec, exists=chain.exists and chain.end == chain.last.name)
        whose = chain.end if chain.sets else None
        authority += writer.add(nsec, whose) + writer.add(rrsig, whose)
        number = zone.number if not chain.exists else chain.first.number
        return writer.answer(code, count, authority, number, compact=not chain.exists)

    # ------------------------------------------------------------------------------------------------------- the names

    def _add_zone(self, name: str, model: Zone, files: Mapping[Path, bytes], serial: int) -> None:
        apex = wire_name(name)
        mail = model.soa.mail or f"hostmaster@{name}"
        times = int(model.soa.refresh), int(model.soa.retry), int(model.soa.expire), int(model.soa.negative_ttl)
        numbers = (model.soa.serial if model.soa.serial is not None else serial, *times)
        soa = records.soa(model.ns[0], mail, numbers)
        ttl = int(model.ns_ttl)
        signer = self._signer(name, apex, model, files)
        zone = ZoneData(apex, RecordSet(records.SOA, min(ttl, times[3]), (soa,)), next(self._numbers), signer)
        top = self._nodes[apex] = Node(zone, apex, next(self._numbers))
        top.sets[records.SOA] = RecordSet(records.SOA, ttl, (soa,))
        top.sets[records.NS] = RecordSet(records.NS, ttl, tuple(records.name_data(server) for server in model.ns))
        if signer is not None:
            top.sets[records.DNSKEY] = RecordSet(records.DNSKEY, ttl, (signer.dnskey,))
            for found in (*top.sets.values(), zone.negative):
                signer.sign(apex, found)
        if model.sites:
            self._balance(top, name, model, files)
        for owner, balanced in model.names.items():
            self._balance(self._node(zone, f"{owner}.{name}"), f"{owner}.{name}", balanced, files)
        listed: dict[tuple[str, int], tuple[int, list[bytes]]] = {}
        for line in model.records:
            record = parse_record(line, name)
            owner = name if record.owner == "@" else f"{record.owner}.{name}"
            ttl = int(model.ttl) if record.ttl is None else record.ttl
            _, several = listed.setdefault((owner, int(record.rdata.rdtype)), (ttl, []))
            several.append(records.record_data(record.rdata))
        for (owner, kind), (ttl, several) in listed.items():
            node = self._node(zone, owner)
            node.sets[kind] = RecordSet(kind, ttl, tuple(dict.fromkeys(several)))
            if kind == records.CNAME:
                node.alias = several[0].lower()

    def _signer(self, name: str, apex: bytes, model: Zone, files: Mapping[Path, bytes]) -> Signer | None:
        """What signs a zone; with the same key that of the table before, which has signatures already."""
        if model.dnssec is None:
            return None
        content = files[model.dnssec.key_file]
        if content == STAND_IN:
            return None
        before = self._signers_before.get(name)
        if before is None or before.content != content:
            before = Signer(apex, content)
        self.signers[name] = before
        return before

    def _node(self, zone: ZoneData, name: str) -> Node:
        """The node of a name in a zone, which is made with all that are between them."""
        wire = wire_name(name)
        at, above = 0, []
        while self._nodes.get(wire[at:]) is None:
            above.append(wire[at:])
            at += 1 + wire[at]
        for part in reversed(above):
            node = self._nodes[part] = Node(zone, part, next(self._numbers))
            if part.startswith(b"\1*"):
                self._nodes[part[2:]].wildcard = node
        return self._nodes[wire]

    def _balance(self, node: Node, name: str, model: BalancedName, files: Mapping[Path, bytes]) -> None:
        plan = Plan.of(model)
        group = self.groups.setdefault(plan, self._before.get(plan) or Group(plan))
        networks = [(network, site) for site, several in model.networks.items() for network in several]
        if model.networks_file is not None:
            networks += parse_networks(files[model.networks_file], model.sites)
        most = model.answers or sum(map(len, model.sites.values()))
        self.balanced[name] = node.balanced = Balanced(
            model.sites,
            group,
            Nearest(
                Networks(networks),
                model.places,
                self._database,
                self.latencies if model.latency else None,
                model.sites,
            ),
            most,
            int(model.ttl),
            model.https,
        )
