"""One query to the name service: its records as servers, and their time to live."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Final

import dns.asyncbackend
import dns.asyncresolver
import dns.exception

# dnspython would import these on first use, which is too late for a confined process.
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
import dns.resolver
from dns.name import Name
from dns.nameserver import Do53Nameserver

from gateway.config.discovery import Member, Question
from gateway.config.model import Resolver

MAX_RECORDS: Final = 512
"""Answers with more records are refused: no real service has that many, and each SRV record needs another query."""
MAX_ALIASES: Final = 8
"""Chained aliases, each in its own answer."""
_BACKEND: Final = dns.asyncbackend.get_backend("asyncio")
_MAX_WEIGHT: Final = 256
"""Largest weight of a server in a site file."""


class LookupFailedError(Exception):
    """The name service gave no usable answer; the message gives the reason. Earlier answers may still be valid."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query: no members if the name does not exist. `ttl` in seconds."""

    members: tuple[Member, ...]
    ttl: float


@dataclass(frozen=True, slots=True)
class _Records:
    data: tuple[str, ...]  # as in a zone file, sorted
    ttl: float


async def look_up(question: Question, resolver: Resolver) -> Answer:
    """Send the query. Raises LookupFailedError, after `resolver.timeout` seconds at most (twice that for SRV)."""
    address = question.address
    records = await _ask(address.host, question.kind, resolver)
    if question.kind == "SRV":
        return await _services(records, address.port, resolver)
    members = tuple(Member(ip, address.port, address.token) for ip in records.data)
    return Answer(members, records.ttl)


async def _services(records: _Records, port: int, resolver: Resolver) -> Answer:
    """The servers in SRV records (RFC 2782); `port` overrides theirs unless it is 0."""
    services = []
    for record in records.data:
        priority, weight, own_port, target = record.split(" ")
        if target != ".":  # "decidedly not available"
            services.append((int(priority), int(weight), port or int(own_port), target))
    targets = sorted({target for _, _, _, target in services})
    found = dict(zip(targets, await asyncio.gather(*(_addresses(target, resolver) for target in targets)), strict=True))
    weights = _weights([weight for _, weight, _, _ in services])
    first = min((priority for priority, _, _, _ in services), default=0)
    members = {
        Member(ip, service_port, target.removesuffix("."), weights[weight], priority > first)
        for priority, weight, service_port, target in services
        for ip in found[target].data
    }
    return Answer(tuple(sorted(members, key=_place)), min([records.ttl, *(item.ttl for item in found.values())]))


def _place(member: Member) -> tuple[str, int, str]:
    return member.ip, member.port, member.host


async def _addresses(host: str, resolver: Resolver) -> _Records:
    """Both kinds of address; if only one kind is available, that one."""
    answers = await asyncio.gather(
        *(_ask(host, kind, resolver) for kind in ("A", "AAAA")),
        return_exceptions=True,
    )
    good = [answer for answer in answers if isinstance(answer, _Records)]
    for answer in answers:
        if isinstance(answer, BaseException) and (not good or not isinstance(answer, LookupFailedError)):
            raise answer
    return _Records(
        tuple(ip for answer in good for ip in answer.data),
        min((answer.ttl for answer in good if answer.data), default=good[0].ttl),
    )


def _weights(given: list[int]) -> Mapping[int, int | None]:
    """Shares from 1 to 256 for weights from 0 to 65535; none if all are equal."""
    most = max(given, default=0)
    if len(set(given)) <= 1:
        return dict.fromkeys(given)
    scale = min(1.0, _MAX_WEIGHT / most)
    return {weight: max(1, round(weight * scale)) for weight in given}


async def _ask(name: str, kind: str, resolver: Resolver) -> _Records:
    """The records of a name. An alias without those of its target is followed (RFC 1034 section 5.3.3, 4c)."""
    asked: Name | str = name
    ttl = inf
    end = monotonic() + resolver.timeout
    try:
        for _ in range(MAX_ALIASES):
            answer = await _resolver(resolver).resolve(
                asked,
                kind,
                raise_on_no_answer=False,
                lifetime=max(0.0, end - monotonic()),
                search=not resolver.nameservers and asked is name,
                backend=_BACKEND,
            )
            ttl = min(ttl, answer.chaining_result.minimum_ttl)
            asked = answer.chaining_result.canonical_name
            if answer.rrset is not None or not answer.chaining_result.cnames:
                break
        else:
            raise LookupFailedError(f"more than {MAX_ALIASES} aliases")
    except dns.resolver.NXDOMAIN:
        return _Records((), 0.0)
    except (dns.exception.DNSException, OSError) as error:
        raise LookupFailedError(_why(error)) from None
    data = tuple(sorted(record.to_text() for record in answer.rrset or ()))
    if len(data) > MAX_RECORDS:
        raise LookupFailedError(f"{len(data)} records, more than {MAX_RECORDS}")
    return _Records(data, float(ttl))


def _resolver(resolver: Resolver) -> dns.asyncresolver.Resolver:
    """Created for each query: /etc/resolv.conf may have changed."""
    asking = dns.asyncresolver.Resolver(configure=not resolver.nameservers)
    if resolver.nameservers:
        asking.nameservers = [Do53Nameserver(server.host, server.port) for server in resolver.nameservers]
    # For one try with one server: a lost datagram must not use up the whole timeout.
    asking.timeout = resolver.timeout / (2 * max(1, len(asking.nameservers)))
    return asking


def _why(error: Exception) -> str:
    if isinstance(error, dns.exception.Timeout):
        return "no answer in time"
    if isinstance(error, dns.resolver.NoNameservers):
        return "name resolution failed"
    return str(error) or type(error).__name__
