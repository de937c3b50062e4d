"""Checks of zones as wholes: names outside of them, name servers without an address, records that belong to no set."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.config.dns import MAX_NAME, Dns, Entry, Zone, parse_entry, parse_record
from gateway.config.problem import Finding, Loc

MAX_SET: Final = 60_000
"""Bytes of the records of one name and type: an answer has at most 65,535."""


@dataclass(slots=True)
class Owner:
    """A name of a zone, as far as other names depend on it."""

    at: Loc
    zone: str
    address: bool = False
    alias: str | None = None
    """The target of its CNAME."""


@dataclass(slots=True)
class Found:
    """What was found in all zones."""

    owners: dict[str, Owner] = field(default_factory=dict)
    """By whole name, wildcards with their asterisk."""

    def owner(self, name: str) -> Owner | None:
        """Who answers for a name, perhaps by a wildcard; None: there is no such name."""
        if name in self.owners:
            return self.owners[name]
        _, _, above = name.partition(".")
        while above and above not in self.owners:
            _, _, above = above.partition(".")
        return self.owners.get(f"*.{above}")

    def add(self, name: str, owner: Owner) -> Owner:
        """Note a name, unless it is known, and that those between it and its zone exist."""
        _, _, above = name.partition(".")
        while above not in self.owners:
            self.owners[above] = Owner(owner.at, owner.zone)
            _, _, above = above.partition(".")
        return self.owners.setdefault(name, owner)


def conflicts(model: Dns) -> Iterator[Finding]:
    """What is wrong with zones, beyond what one key says."""
    found = Found()
    for zone, item in model.zones.items():
        yield from _names(model, zone, item, found)
    for zone, item in model.zones.items():
        yield from _servers(model, zone, item, found)
    yield from _circles(found)


def _closest(zones: Mapping[str, Zone], name: str) -> str | None:
    """The zone that a name is in; None: none of these."""
    while name:
        if name in zones:
            return name
        _, _, name = name.partition(".")
    return None


def _whole(owner: str, zone: str) -> str:
    return zone if owner == "@" else f"{owner}.{zone}"


def _names(model: Dns, zone: str, item: Zone, found: Found) -> Iterator[Finding]:
    at: Loc = ("dns", "zones", zone)
    found.owners[zone] = Owner(at, zone, bool(item.sites))
    for owner in item.names:
        here = (*at, "names", owner)
        if (wrong := _misplaced(model, zone, owner)) is not None:
            yield Finding(here, wrong, key=True)
        else:
            found.add(_whole(owner, zone), Owner(here, zone)).address = True
    sets: dict[tuple[str, str], tuple[int, int]] = {}
    """TTL and bytes by owner and type."""
    for i, line in enumerate(item.records):
        here = (*at, "records", i)
        entry = parse_entry(line)
        if (wrong := _misplaced(model, zone, entry.owner)) is not None:
            yield Finding(here, wrong)
            continue
        ttl = int(item.ttl) if entry.ttl is None else entry.ttl
        first, size = sets.get((entry.owner, entry.kind), (ttl, 0))
        sets[entry.owner, entry.kind] = first, size + len(entry.data)
        if ttl != first:
            message = f"the {entry.kind} records of {entry.owner} have one TTL (RFC 2181 section 5.2): {first} before"
            yield Finding(here, f"{message}, {ttl} here")
        if size <= MAX_SET < size + len(entry.data):
            yield Finding(here, f"the {entry.kind} records of {entry.owner} are too long for an answer")
        if len(entry.data) + len(zone) > MAX_NAME:  # names in it may be longer than they were without the zone's
            try:
                parse_record(line, zone)
            except ValueError as error:
                yield Finding(here, str(error))
        _note(found, _whole(entry.owner, zone), Owner(here, zone), entry)


def _note(found: Found, name: str, owner: Owner, entry: Entry) -> None:
    known = found.owners[name] if name in found.owners else found.add(name, owner)
    if entry.kind in {"A", "AAAA"}:
        known.address = True
    if entry.kind == "CNAME":
        known.at = owner.at
        target = entry.data.lower()
        known.alias = target.removesuffix(".") if target.endswith(".") else _whole(target, owner.zone)


def _misplaced(model: Dns, zone: str, owner: str) -> str | None:
    """What is wrong with the place of a name; None: it is where it belongs."""
    name = _whole(owner, zone)
    if owner == zone or owner.endswith(f".{zone}"):
        inner = owner.removesuffix(zone).removesuffix(".") or "@"
        return f"names are within {zone} already: write {inner}"
    if len(name) > MAX_NAME:
        return f"{name} is longer than {MAX_NAME} characters"
    where = _closest(model.zones, name.removeprefix("*."))
    return f"{name} is in the zone {where}, which is here as well: write it there" if where != zone else None


def _servers(model: Dns, zone: str, item: Zone, found: Found) -> Iterator[Finding]:
    """Name servers whose address only this gateway can say."""
    if not model.listen or item.updates is not None:
        return  # another server answers for it
    for i, server in enumerate(item.ns):
        where = _closest(model.zones, server)
        if where is None:
            continue
        owner, inner = found.owner(server), server.removesuffix(where).removesuffix(".") or "@"
        if owner is not None and owner.alias is not None:
            message = f"{server} is an alias, and a name server must not be one (RFC 2181 section 10.3)"
            yield Finding(("dns", "zones", zone, "ns", i), f"{message}: give it an address")
        elif owner is None or not owner.address:
            message = f"{server} is a name of the zone {where} and has no address there"
            yield Finding(("dns", "zones", zone, "ns", i), f"{message}: add the record {inner} A and its address")


def _circles(found: Found) -> Iterator[Finding]:
    """Aliases that lead back to themselves."""
    clear: set[str] = set()
    for name, owner in found.owners.items():
        path: list[str] = []
        at: str | None = name
        while at is not None and at not in clear and at not in path:
            path.append(at)
            known = found.owner(at)
            at = known.alias if known is not None else None
        if at is not None and at in path:
            circle = (*path[path.index(at) :], at)
            yield Finding((found.owner(at) or owner).at, f"the alias {at} leads back to itself: {' → '.join(circle)}")
        clear.update(path)
