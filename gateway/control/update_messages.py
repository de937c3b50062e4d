"""What another name server is to be told about balanced names (RFC 2136). Pure, but for dnspython's messages.

Only what is this gateway's is changed: a set of addresses all of which the site file has for that name, or one that is
not there. Every change says what it has found there, so that the server refuses it if that has changed meanwhile
(RFC 2136 section 2.4.2), by whomever.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

import dns.message
import dns.name
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.update

from gateway.balance.site_shares import Balance
from gateway.config.dns import BalancedName, parse_update_key

Ip: TypeAlias = IPv4Address | IPv6Address
Key: TypeAlias = tuple[str, str]
"""A name, and A or AAAA."""
TYPES: Final = {"A": 4, "AAAA": 6}


@dataclass(frozen=True, slots=True)
class Found:
    """What a name server has of a name and type. `foreign`: there is something that is not this gateway's."""

    addresses: frozenset[Ip] = frozenset()
    foreign: bool = False


def wanted(name: str, model: BalancedName, balance: Balance) -> dict[Key, frozenset[Ip]]:
    """The addresses that a name should have: of the sites with most clients, as many as an answer has."""
    sites = [site for site in model.sites if balance.shares.get(site, 0.0) > 0.0]
    sites.sort(key=lambda site: -balance.shares[site])
    found: dict[Key, frozenset[Ip]] = {}
    for kind, version in TYPES.items():
        ips = [ip for site in sites for ip in model.sites[site] if ip.version == version]
        if any(ip.version == version for there in model.sites.values() for ip in there):
            found[name, kind] = frozenset(ips[: model.answers])
    return found


def urgent(before: Found, after: frozenset[Ip], live: frozenset[Ip]) -> bool:
    """Whether a change cannot wait for the TTL: addresses of sites that take no clients are there, or none at all."""
    return not before.addresses or bool(before.addresses - live) or not after


def question(name: str, kind: str, key: dns.tsig.Key | None) -> dns.message.Message:
    """Ask what a name server has."""
    query = dns.message.make_query(name, kind, use_edns=0)
    query.flags &= ~dns.flags.RD
    if key is not None:
        query.use_tsig(key)
    return query


def found_in(response: dns.message.Message, name: str, kind: str, own: Iterable[Ip]) -> Found:
    """What a response says about a name."""
    owner, rdtype = dns.name.from_text(name), dns.rdatatype.from_text(kind)
    addresses: set[Ip] = set()
    foreign = False
    for rrset in response.answer:
        if rrset.rdtype == dns.rdatatype.RRSIG:
            continue
        if rrset.name != owner or rrset.rdtype != rdtype:
            foreign = True  # a CNAME
            continue
        addresses |= {ip_address(rdata.to_text()) for rdata in rrset}
    return Found(frozenset(addresses), foreign or not addresses <= set(own))


def update(
    zone: str, changes: Mapping[Key, tuple[frozenset[Ip], frozenset[Ip], int]], key: dns.tsig.Key
) -> dns.update.UpdateMessage:
    """The message that makes changes, {name and type: (what is there, what should be, its TTL)}, all or none."""
    message = dns.update.UpdateMessage(zone, keyring=key, keyname=key.name, keyalgorithm=key.algorithm)
    for (name, kind), (before, after, ttl) in changes.items():
        owner = dns.name.from_text(name)
        if before:
            message.present(
                owner, dns.rdataset.from_text_list("IN", kind, 0, [str(ip) for ip in sorted(before, key=int)])
            )
        else:
            message.absent(owner, kind)
        message.delete(owner, kind)
        if after:
            message.add(owner, dns.rdataset.from_text_list("IN", kind, ttl, [str(ip) for ip in sorted(after, key=int)]))
    return message


def signing_key(content: bytes) -> dns.tsig.Key:
    """The TSIG key of a file. Raises ValueError."""
    name, algorithm, secret = parse_update_key(content)
    return dns.tsig.Key(name, secret, algorithm)
