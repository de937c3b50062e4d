"""The `dns:` section of the site file: zones that this gateway answers for, and how it picks sites for clients."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue

from gateway.config import address
from gateway.config.fields import (
    Duration,
    File,
    Flag,
    Given,
    ListenField,
    Model,
    Name,
    NameServer,
    Network,
    OneOrMany,
    Share,
    Text,
    Whole,
    text,
)
from gateway.config.places import Place
from gateway.config.problem import Fault, Loc, kind, suggest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

MAX_TTL: Final = 7 * 86400
LEAST_EVERY: Final = 10.0
MAX_ANSWERS: Final = 32
MAX_ADDRESSES: Final = 64
"""Addresses of a name, over all sites."""
MAX_PROCESSES: Final = 16
MAX_NAME: Final = 253
"""Characters of a whole name (RFC 1035 section 2.3.4), without the dot at its end."""
MAX_RECORD: Final = 4000
"""Characters of a record."""
TYPES: Final = {
    "A": "192.0.2.25",
    "AAAA": "2001:db8::25",
    "CNAME": "www",
    "TXT": '"v=spf1 -all"',
    "CAA": '0 issue "ca.example"',
    "MX": "10 mail",
    "SRV": "0 5 443 www",
    "HTTPS": "1 . alpn=h2",
    "SVCB": "1 www port=853",
    "PTR": "www",
    "TLSA": "3 1 1 and the certificate's SHA-256",
    "SSHFP": "4 2 and the key's SHA-256",
}
"""Types of records that a zone may list, each with data such as it has."""
_NAMING: Final = frozenset({"CNAME", "MX", "SRV", "PTR"})
"""Types whose data ends with a name."""
_MADE: Final = {
    "NS": "the zone's own NS records are made of ns, and zones below it are not delegated from here",
    "SOA": "the SOA record is made of soa",
    **dict.fromkeys(("DNSKEY", "RRSIG", "NSEC"), "records of signatures are made as they are asked for, with dnssec"),
}
"""Types of records that no zone lists."""
_POLICIES_OF_OTHERS: Final = {
    **dict.fromkeys(("geo", "geoip", "geolocation", "geoproximity", "proximity", "latency", "rtt"), "nearest"),
    **dict.fromkeys(("leastload", "least-load", "leastconn", "least-connections", "wlc", "auto"), "load"),
    **dict.fromkeys(("rr", "random", "simple", "multivalue"), "round-robin"),
    **dict.fromkeys(("wrr", "ratio", "weight", "weightedcname"), "weighted"),
    **dict.fromkeys(("priority", "backup", "simplefo", "multifo", "active-passive"), "failover"),
}
"""Words of gdnsd, PowerDNS and other servers that answer by load, place or health."""
ALGORITHMS: Final = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
"""Of TSIG keys."""
MIN_SECRET: Final = 16
_KEY_STATEMENT: Final = re.compile(
    r"""key\s+"?(?P<name>[^\s"{]+)"?\s*\{\s*algorithm\s+"?(?P<algorithm>[\w-]+)"?\s*;\s*secret\s+"(?P<secret>[^"]*)"\s*;\s*\}\s*;"""
)
_KEY_LINE: Final = re.compile(r"(?P<algorithm>[\w-]+):(?P<name>[^\s:]+):(?P<secret>\S+)")
_BROADCAST: Final = IPv4Address("255.255.255.255")
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_ALPN: Final = re.compile(r"[!-+\--~]{1,32}")

Ip: TypeAlias = IPv4Address | IPv6Address
Policy: TypeAlias = Literal["load", "nearest", "round-robin", "weighted", "failover"]
_POLICIES: Final = get_args(Policy)


def domain(value: str) -> str:
    """A name in lower case, without the dot at its end."""
    name = _labels(value.removesuffix("."))
    if address.is_ip(name):
        raise ValueError(f"expected a name such as www.example.com, not the address {name}")
    return name


def _labels(value: str) -> str:
    name = value.lower()
    if not name.isascii():
        raise ValueError("write an internationalized name in its xn-- form")
    if len(name) > MAX_NAME or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("expected a name such as www.example.com")
    return name


def _owner(value: str) -> str:
    """A name within a zone: * as its first label is a wildcard (RFC 4592)."""
    if value.endswith("."):
        raise ValueError("names are within the zone: write www for www.example.com., and @ for the zone itself")
    if value == "*":
        return value
    return "*." + _labels(value[2:]) if value.startswith("*.") else _labels(value)


def _each_once(value: object) -> object:
    """Refuse names that are one, in letters of another case or with the dot at the end."""
    seen: dict[str, str] = {}
    for name in value if isinstance(value, dict) else ():
        if isinstance(name, str):
            before = seen.setdefault(name.removesuffix(".").lower(), name)
            if before != name:
                raise Fault(f"{name} is the same name as {before}", name, key=True)
    return value


def _mailbox(value: str) -> str:
    local, _, host = value.partition("@")
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,63}", local) or not host:
        raise ValueError("expected a mail address such as hostmaster@example.com")
    return f"{local}@{domain(host)}"


def _ip(value: object) -> Ip:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    written = text(value, "an IP address such as 192.0.2.10")
    try:
        found = ip_address(written)
    except ValueError:
        raise ValueError(f"{written} is not an IP address") from None
    if found.is_multicast or found.is_unspecified or found == _BROADCAST:
        raise ValueError(f"{written} is not the address of a machine")
    if found.is_link_local:
        raise ValueError(f"{written} is reached from its own network only")
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        raise ValueError(f"write {found.ipv4_mapped}, which is IPv4")
    return found


def _ttl(value: float) -> float:
    if not 0 <= value <= MAX_TTL or value != int(value):
        raise ValueError("must be whole seconds, up to 7d")
    return value


def _policy(value: object) -> object:
    """Say what a policy of another name server is called here."""
    ours = _POLICIES_OF_OTHERS.get(value.lower()) if isinstance(value, str) else None
    if ours is not None:
        raise ValueError(f"expected one of {', '.join(_POLICIES)} (did you mean {ours}?)")
    return value


def _alpn(value: str) -> str:
    if not _ALPN.fullmatch(value):
        raise ValueError("expected the name of a protocol such as h2 or http/1.1")
    return value


def _nsid(value: str) -> str:
    if not 0 < len(value.encode()) <= 64:
        raise ValueError("expected 1 to 64 bytes")
    return value


def _https(value: object) -> object:
    if value is False:
        return None
    if value is True:
        return {}
    if isinstance(value, dict | Https):
        return value
    raise ValueError(f"expected true, false or a mapping, not {kind(value)}")


Domain: TypeAlias = Annotated[
    str, BeforeValidator(lambda value: domain(text(value, "a name such as www.example.com"))),
    WithJsonSchema({"type": "string", "examples": ["www.example.com"]}),
]  # fmt: skip
Owner: TypeAlias = Annotated[
    str, BeforeValidator(lambda value: _owner(text(value, 'a name within the zone such as www or "*.shop"'))),
    WithJsonSchema({"type": "string", "examples": ["www", "*", "*.shop"]}),
]  # fmt: skip
IpField: TypeAlias = Annotated[
    Ip, PlainValidator(_ip), WithJsonSchema({"type": "string", "examples": ["192.0.2.10", "2001:db8::10"]})
]
Ttl: TypeAlias = Annotated[Duration, AfterValidator(_ttl)]
Weight: TypeAlias = Annotated[Whole, Field(ge=1, le=1_000_000)]


class Https(Model):
    """The HTTPS record of a name (RFC 9460)."""

    shorthand: ClassVar[JsonSchemaValue | None] = {"type": "boolean"}

    alpn: Annotated[tuple[Annotated[Text, AfterValidator(_alpn)], ...], OneOrMany()] = Field(
        ("h2", "http/1.1"), description="Protocols that its frontends speak, by their ALPN names."
    )
    port: Annotated[Annotated[Whole, Field(ge=1, le=65535)] | None, Given()] = Field(
        None, description="Port. Default: 443."
    )


class BalancedName(Model):
    """A name whose addresses are those of sites, best first."""

    ttl: Ttl = Field("10s", validate_default=True, description="How long resolvers may keep an answer.")
    sites: dict[Name, Annotated[tuple[IpField, ...], OneOrMany()]] = Field(
        {}, description="Addresses of each site, IPv4 or IPv6; for failover in the order of preference."
    )
    policy: Annotated[Policy, BeforeValidator(_policy)] = Field(
        "load",
        description="How sites are picked: load (by the capacity that is left), nearest (by client network, latency or "
        "place), round-robin, weighted, failover (the first one that works).",
    )
    answers: Annotated[Annotated[Whole, Field(ge=1, le=MAX_ANSWERS)] | None, Given()] = Field(
        None, description="Addresses in an answer, best first. Default: all."
    )
    weights: dict[Name, Weight] = Field(
        {}, description="Weights of sites for weighted; for load, their capacities where none is measured. Default: 1."
    )
    networks: dict[Name, Annotated[tuple[Network, ...], OneOrMany()]] = Field(
        {}, description="Client networks that prefer a site, by EDNS client subnet or the resolver's address."
    )
    networks_file: Annotated[File | None, Given()] = Field(
        None, description="More of them: lines of a network and the name of a site, separated by spaces."
    )
    places: dict[Name, Place] = Field(
        {}, description="Countries, continents and locations whose clients prefer a site, by `maxmind_file` of dns."
    )
    latency: Flag = Field(
        default=False,
        description="Prefer the site with the shortest time to the client's resolver, where sites may `probe` it.",
    )
    shift: Share = Field(
        "10%", validate_default=True, description="Largest share of clients that moves between sites per ttl."
    )
    https: Annotated[Https | None, BeforeValidator(_https)] = Field(
        None, description="Answer HTTPS queries as well, with the addresses as hints; or true. Default: no such record."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "BalancedName":
        for key in ("weights", "networks", "places"):
            for site in getattr(self, key):
                if site not in self.sites:
                    raise Fault(f"{site} is not one of sites{suggest(site, self.sites)}", key, site, key=True)
        if sum(map(len, self.sites.values())) > MAX_ADDRESSES:
            raise Fault(f"at most {MAX_ADDRESSES} addresses for a name", "sites")
        if self.shift <= 0:
            raise Fault("must be more than 0%", "shift")
        if self.policy == "nearest" and self.sites and not self.knows_near:
            raise Fault("nearest needs networks, networks_file, places or latency", "policy")
        return self

    @model_validator(mode="after")
    def _nothing_twice(self) -> "BalancedName":
        taken: dict[Ip, str] = {}
        for site, addresses in self.sites.items():
            for i, ip in enumerate(addresses):
                if ip in taken:
                    raise Fault(f"{ip} is there twice: it is an address of {taken[ip]}", "sites", site, i)
                taken[ip] = site
        covered: dict[IPv4Network | IPv6Network, str] = {}
        for site, networks in self.networks.items():
            for i, network in enumerate(networks):
                if network in covered:
                    message = f"{network} is there twice: its clients prefer {covered[network]}"
                    raise Fault(message, "networks", site, i)
                covered[network] = site
        return self

    @property
    def knows_near(self) -> bool:
        """Whether anything says which clients are near a site."""
        return bool(self.networks or self.networks_file is not None or self.places or self.latency)


class Soa(Model):
    """The SOA record of a zone (RFC 1035 section 3.3.13)."""

    mail: Annotated[Annotated[Text, AfterValidator(_mailbox)] | None, Given()] = Field(
        None, description="Mail address of who is responsible. Default: hostmaster at the zone."
    )
    serial: Annotated[Annotated[Whole, Field(ge=0, le=2**32 - 1)] | None, Given()] = Field(
        None, description="Serial number. Default: the time at which the site file was loaded."
    )
    refresh: Ttl = Field(
        "1h", validate_default=True, description="For secondary servers, which this server has none of."
    )
    retry: Ttl = Field("10m", validate_default=True, description="As refresh.")
    expire: Ttl = Field("7d", validate_default=True, description="As refresh.")
    negative_ttl: Ttl = Field(
        "60s", validate_default=True, description="How long resolvers may remember that a name or type does not exist."
    )


class Dnssec(Model):
    """Signatures of a zone, made as they are asked for."""

    key_file: File = Field(
        description="Private key, ECDSA P-256, of `gateway key dnssec`; only its owner may read the file."
    )


class Updates(Model):
    """Another name server that is told the addresses of balanced names (RFC 2136)."""

    server: NameServer = Field(description="Address of the zone's primary name server; port 53 unless it says another.")
    key_file: File = Field(
        description="TSIG key as tsig-keygen writes it, or ALGORITHM:NAME:SECRET; only its owner may read the file."
    )
    zone: Annotated[Domain | None, Given()] = Field(
        None, description="The zone there that has the names. Default: this one."
    )
    every: Duration = Field(
        "5m",
        validate_default=True,
        description="Time between two looks at what the server has; changes are told at once.",
    )


OF_SITES: Final = frozenset({"policy", "answers", "networks_file", "latency", "https"})
"""Keys of a zone that say nothing without sites."""


class Zone(BalancedName):
    """A zone that this gateway is authoritative for; its own name is balanced if it has sites."""

    ns: Annotated[tuple[Domain, ...], OneOrMany()] = Field(description="Names of the zone's name servers.")
    ns_ttl: Ttl = Field("1h", validate_default=True, description="TTL of NS and SOA records.")
    soa: Soa = Field(default_factory=Soa, description="SOA record.")
    names: Annotated[dict[Owner, BalancedName], BeforeValidator(_each_once)] = Field(
        {}, description='More balanced names, within the zone: www, or "*" for all that are not listed.'
    )
    dnssec: Annotated[Dnssec | None, Given()] = Field(None, description="Sign the zone. Default: not signed.")
    updates: Annotated[Updates | None, Given()] = Field(
        None, description="Keep the A and AAAA records of balanced names at another name server. Default: none."
    )
    records: tuple[Text, ...] = Field(
        (), description='Other records as in a zone file: "mail 1h A 192.0.2.25"; @ is the zone itself.'
    )

    @model_validator(mode="after")
    def _own_name(self) -> "Zone":
        for i, server in enumerate(self.ns):
            if server in self.ns[:i]:
                raise Fault(f"{server} is there twice", "ns", i)
        unused = () if self.sites else sorted(self.model_fields_set & OF_SITES)
        for key in unused:
            where = "write it in each of names" if self.names else "give the zone sites"
            raise Fault(f"{key} is about the zone's own name, which has no sites: {where}", key, key=True)
        return self

    @model_validator(mode="after")
    def _updates(self) -> "Zone":
        if self.updates is not None and self.updates.every < LEAST_EVERY:
            raise Fault(f"must be at least {LEAST_EVERY:g}s", "updates", "every")
        return self

    @model_validator(mode="after")
    def _records(self) -> "Zone":
        taken = {"@": "sites", **dict.fromkeys(self.names, "names")}
        if not self.sites:
            del taken["@"]
        for name, item in self.names.items():
            if not item.sites:
                raise Fault("sites is missing: the addresses of each site", "names", name)
        kinds: dict[str, set[str]] = {"@": {"SOA"}}
        for i, line in enumerate(self.records):
            try:
                record = parse_record(line)
            except ValueError as error:
                raise Fault(str(error), "records", i) from None
            there = kinds.setdefault(record.owner, set())
            if record.owner in taken and record.kind in {"A", "AAAA", "CNAME", "HTTPS"}:
                raise Fault(f"{record.owner} has its addresses from {taken[record.owner]}", "records", i)
            if there and ("CNAME" in there or record.kind == "CNAME"):
                raise Fault(
                    f"{record.owner} has other records: a CNAME stands alone (RFC 1034 section 3.6.2)", "records", i
                )
            there.add(record.kind)
        return self


class Dns(Model):
    """The authoritative name server of this gateway."""

    listen: Annotated[tuple[ListenField, ...], OneOrMany()] = Field(
        (), description="Addresses for UDP and TCP. Default: none, if all zones have updates."
    )
    zones: Annotated[dict[Domain, Zone], BeforeValidator(_each_once)] = Field(description="Zones by name.")
    processes: Annotated[Whole, Field(ge=1, le=MAX_PROCESSES)] = Field(
        1, description="Processes that answer; the kernel spreads clients over them by address and port."
    )
    nsid: Annotated[Annotated[Text, AfterValidator(_nsid)] | None, Given()] = Field(
        None, description="What NSID queries are told (RFC 5001). Default: the option is not answered."
    )
    cookie_key_file: Annotated[File | None, Given()] = Field(
        None,
        description="Key of DNS cookies, shared by all servers at the same address; only its owner may read the file. "
        "Default: derived from the key of `sites`, or random.",
    )
    maxmind_file: Annotated[File | None, Given()] = Field(
        None,
        description="MaxMind file (.mmdb) with countries, continents or locations, for `places`; taken up again when "
        "it changes.",
    )
    udp_bytes: Annotated[Whole, Field(ge=512, le=4096)] = Field(
        1232, description="Largest UDP response; a larger one is sent over TCP."
    )
    client_subnet: Flag = Field(default=True, description="Use the EDNS client subnet of queries (RFC 7871).")
    response_rate: Annotated[Whole, Field(ge=0, le=1_000_000)] = Field(
        20,
        description="UDP responses per second to a client network (/24, /56); 0: no limit. Half of the others are sent "
        "truncated, so that real clients ask again over TCP. Clients with a DNS cookie are exempt.",
    )
    tcp_connections: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        1000, description="Limit of TCP connections of each process."
    )
    tcp_connections_per_source: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        20, description="The same from one address."
    )
    tcp_idle: Duration = Field("10s", validate_default=True, description="Idle time after which TCP connections end.")

    @model_validator(mode="after")
    def _some(self) -> "Dns":
        if not self.zones:
            raise Fault("expected at least one", "zones")
        if not self.listen and any(zone.updates is None for zone in self.zones.values()):
            raise Fault("listen is missing: the addresses for UDP and TCP")
        for (_, _, *at), _, model in self.balanced():
            if model.places and self.maxmind_file is None:
                raise Fault(
                    "places need the file that says where clients are: maxmind_file of dns", "zones", *at, "places"
                )
        return self

    def balanced(self) -> Iterator[tuple[Loc, str, BalancedName]]:
        """Each balanced name with its location in the file and the whole name."""
        for zone, model in self.zones.items():
            if model.sites:
                yield ("dns", "zones", zone), zone, model
            for name, item in model.names.items():
                yield ("dns", "zones", zone, "names", name), f"{name}.{zone}", item


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a zone: `owner` is relative to it, "@" for the zone itself; `rdata` is dnspython's."""

    owner: str
    ttl: int | None
    kind: str
    rdata: Any


@dataclass(frozen=True, slots=True)
class Entry:
    """The parts of a record as it is written: `data` is text."""

    owner: str
    ttl: int | None
    kind: str
    data: str


def parse_record(line: str, zone: str = "invalid") -> Record:
    """A line of a zone file: owner, optional TTL, optional IN, type, data. Raises ValueError with what is wrong."""
    # Here, since most gateways have no zones, and every process of the tree loads this module.
    import dns.exception  # noqa: PLC0415
    import dns.name  # noqa: PLC0415
    import dns.rdata  # noqa: PLC0415

    entry = parse_entry(line)
    _, _, last = entry.data.rpartition(" ")
    if entry.kind in _NAMING and address.is_ip(last.removesuffix(".")):
        raise ValueError(f"{entry.kind} needs a name such as www.example.com., not the address {last}")
    try:
        origin = dns.name.from_text(zone)
        rdata = dns.rdata.from_text("IN", entry.kind, entry.data, origin=origin, relativize=False)
    except (dns.exception.DNSException, ValueError):
        wrong = f"cannot read {entry.data or 'nothing'} as the data of {entry.kind}"
        raise ValueError(f"{wrong}: expected data such as {TYPES[entry.kind]}") from None
    return Record(entry.owner, entry.ttl, entry.kind, rdata)


def parse_entry(line: str) -> Entry:
    """The parts of a line of a zone file; its data may be none. Raises ValueError with what is wrong."""
    import dns.exception  # noqa: PLC0415
    import dns.ttl  # noqa: PLC0415

    if len(line) > MAX_RECORD:
        raise ValueError(f"longer than {MAX_RECORD} characters")
    words = line.split(None, 1) if line.isprintable() else []
    if len(words) < 2:
        raise ValueError('expected a record such as "mail 1h A 192.0.2.25"')
    owner = words[0] if words[0] == "@" else _owner(words[0])
    word, rest = _first(words[1])
    ttl = None
    if word[0].isdigit():
        try:
            ttl = dns.ttl.from_text(word)
        except dns.exception.DNSException:
            raise ValueError(f"{word} is not a TTL such as 300 or 1h") from None
        word, rest = _first(rest)
    if word.upper() == "IN":
        word, rest = _first(rest)
    kind_ = word.upper()
    if kind_ in _MADE:
        raise ValueError(_MADE[kind_])
    if kind_ not in TYPES:
        raise ValueError(f"expected one of {', '.join(TYPES)}, not {word or 'nothing'}{suggest(kind_, TYPES)}")
    if ttl is not None and ttl > MAX_TTL:
        raise ValueError(f"the TTL {ttl} is longer than a week")
    return Entry(owner, ttl, kind_, rest)


def _first(words: str) -> tuple[str, str]:
    """The first word, and the others."""
    word, _, rest = words.strip().partition(" ")
    return word, rest.strip()


def parse_signing_key(content: bytes) -> "EllipticCurvePrivateKey":
    """The private key of a zone, PEM. Raises ValueError."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not a private key: make one with gateway key dnssec") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a key for ECDSA P-256: make one with gateway key dnssec")  # noqa: TRY004 - of a file
    return key


def parse_update_key(content: bytes) -> tuple[str, str, bytes]:
    """Name, algorithm and secret of a TSIG key: a `key` statement, or ALGORITHM:NAME:SECRET. Raises ValueError."""
    written = " ".join(line.partition("#")[0] for line in content.decode("utf-8", "replace").splitlines()).strip()
    match = _KEY_STATEMENT.fullmatch(written) or _KEY_LINE.fullmatch(written)
    if match is None:
        raise ValueError("not a TSIG key: make one with tsig-keygen, or write ALGORITHM:NAME:SECRET")
    algorithm = match["algorithm"].lower()
    if algorithm not in ALGORITHMS:
        raise ValueError(f"expected one of {', '.join(ALGORITHMS)}, not {algorithm}")
    try:
        secret = base64.b64decode(match["secret"], validate=True)
    except ValueError:
        raise ValueError("the secret of the TSIG key is not base64") from None
    if len(secret) < MIN_SECRET:
        raise ValueError(f"the secret of the TSIG key is too short: at least {MIN_SECRET} bytes")
    return domain(match["name"]), algorithm, secret


def parse_networks(content: bytes, sites: Mapping[str, object]) -> list[tuple[IPv4Network | IPv6Network, str]]:
    """Lines of a network and a site; # begins a comment. Raises ValueError, which begins with the line's number."""
    found = []
    for number, raw in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        words = raw.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:
            raise ValueError(f"{number}: expected a network and a site, such as 198.51.0.0/16 sydney")
        try:
            network = address.network(words[0])
        except ValueError as error:
            raise ValueError(f"{number}: {error}") from None
        if words[1] not in sites:
            raise ValueError(f"{number}: {words[1]} is not one of sites{suggest(words[1], sites)}")
        found.append((network, words[1]))
    return found
