"""What the name server says about a name to a client, and why. Pure."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, TypeAlias

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from gateway.balance.site_shares import UNKNOWN, SiteState
from gateway.config.expectation import client_address
from gateway.dns import records
from gateway.dns.responder import Responder
from gateway.dns.table import Client, Table

InForce: TypeAlias = Mapping[str, Mapping[str, float]]
"""Shares of sites by name."""


def decide(
    table: Table, question: tuple[str, str], client: str, states: Mapping[str, SiteState], in_force: InForce
) -> dict[str, Any]:
    """The answer to a question, (name, type), as JSON. `in_force`: the shares of the gateway that runs, by name.

    Raises ValueError for what is no name, type or address.
    """
    name, kind = question
    try:
        asked = dns.name.from_text(name)
        rdtype = dns.rdatatype.from_text(kind)
    except dns.exception.DNSException:
        raise ValueError(f"{name} {kind} is not a name and a record type such as www.example.com A") from None
    address = ip_address(client_address(client)).packed
    table.move(states, 0.0)
    wire = records.wire_name(name)
    node, exists = table.node(wire)
    found: dict[str, Any] = {"name": name, "type": kind, "client": client, "zone": None, "balanced": None}
    if node is not None:
        found["zone"] = _text(node.zone.name)
        found["signed"] = node.zone.signer is not None
        if exists and node.alias is not None:
            found["alias"] = _text(node.alias)
            node, exists = table.node(node.alias)
    if node is not None and exists and node.balanced is not None:
        item = node.balanced
        near = item.near(Client(address, 8 * len(address), sender=True))
        prefers = item.group.first_live(near.sites)
        balance = item.group.balance(prefers)
        found["balanced"] = {
            "name": _text(node.name),
            "policy": item.group.plan.policy,
            "ttl": item.ttl,
            "prefers": prefers,
            "why": near.reasons[near.sites.index(prefers)] if prefers is not None else None,
            "passed_over": list(near.sites[: near.sites.index(prefers)] if prefers is not None else near.sites),
            "scope": near.scope,
            "open": balance.open,
            "sites": {
                site: {
                    **_state(states.get(site, UNKNOWN)),
                    "share": round(balance.shares.get(site, 0.0), 4),
                    "in_force": in_force.get(_text(node.name), {}).get(site) if prefers is None else None,
                    "addresses": [str(ip) for ip in item.addresses[site]],
                }
                for site in item.group.plan.sites
            },
        }
    query = dns.message.make_query(asked, rdtype, use_edns=0)
    response = Responder(table.find, bytes(16)).respond(query.to_wire(), address, tcp=True)
    assert response is not None  # noqa: S101 - it is a query
    said = dns.message.from_wire(response)
    found["rcode"] = dns.rcode.to_text(said.rcode())
    found["answer"] = [line for rrset in said.answer for line in rrset.to_text().splitlines()]
    found["authority"] = [line for rrset in said.authority for line in rrset.to_text().splitlines()]
    return found


def _text(name: bytes) -> str:
    return dns.name.from_wire(name, 0)[0].to_text(omit_final_dot=True)


def _state(state: SiteState) -> dict[str, Any]:
    return {"up": state.up, "draining": state.draining, "load": state.load, "capacity": state.capacity}


def text(found: Mapping[str, Any], remark: str = "") -> str:
    """The same for a terminal."""
    return "\n".join(_lines(found, remark))


def _lines(found: Mapping[str, Any], remark: str) -> Iterator[str]:
    yield f"{found['name']} {found['type']} for {found['client']}"
    if remark:
        yield f"  {remark}"
    if found["zone"] is None:
        yield "  no zone of dns: has this name"
    else:
        yield f"  zone {found['zone']}{', signed' if found['signed'] else ''}"
    if found.get("alias"):
        yield f"  CNAME: {found['alias']}"
    balanced = found["balanced"]
    if balanced is not None:
        yield f"  balanced name {balanced['name']}: policy {balanced['policy']}, ttl {balanced['ttl']} s"
        for site in balanced["passed_over"]:
            yield f"  {site} is nearer, but takes no clients"
        if balanced["prefers"] is not None:
            yield f"  the client prefers {balanced['prefers']}: {balanced['why']} (scope /{balanced['scope']})"
        elif balanced["scope"]:
            yield f"  the client prefers no site (scope /{balanced['scope']})"
        if balanced["open"]:
            yield "  no site works: answered with the addresses of all"
        for site, about in balanced["sites"].items():
            state = "down" if not about["up"] else "draining" if about["draining"] else "works"
            load = "load unknown" if about["load"] is None else f"load {about['load']:.0%}"
            capacity = "" if about["capacity"] is None else f", capacity {about['capacity']:.0f}/s"
            share = f"share {about['share']:.1%}"
            if about["in_force"] is not None:
                share = f"share {about['in_force']:.1%}, moving to {about['share']:.1%}"
            yield f"    {site:<20} {state}, {load}{capacity}, {share}: {', '.join(about['addresses'])}"
    yield f"  {found['rcode']}"
    for line in (*found["answer"], *found["authority"]):
        yield f"    {line}"
