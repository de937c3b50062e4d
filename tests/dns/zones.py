"""Tables of zones for tests, and questions to them as dnspython asks."""

from ipaddress import ip_address
from typing import Any

import dns.edns
import dns.message
import dns.name

from gateway.config.dns import Dns
from gateway.dns.responder import Responder
from gateway.dns.table import Table

KEY = bytes(range(16))
CLIENT = "192.0.2.1"

ZONES: dict[str, Any] = {
    "www.example.com": {
        "ns": ["ns1.example.com", "ns2.example.com"],
        "sites": {
            "mel": ["192.0.2.10", "2001:db8::10"],
            "syd": ["198.51.100.10", "2001:db8:1::10"],
            "dub": ["203.0.113.10"],
        },
        "networks": {"syd": ["198.51.0.0/16", "2001:db8:8000::/33"]},
        "https": True,
    },
    "example.org": {
        "ns": "ns.example.net",
        "soa": {"mail": "dns.admin@example.net", "serial": 7, "negative_ttl": "30s"},
        "names": {
            "shop": {"sites": {"mel": "192.0.2.11", "syd": "198.51.100.11"}, "policy": "failover", "ttl": "5s"},
            "*.w": {"sites": {"mel": "192.0.2.12"}},
        },
        "records": [
            "@ 1h TXT 'v=spf1 -all'".replace("'", '"'),
            '@ CAA 0 issue "ca.example"',
            "mail A 192.0.2.25",
            "mail A 192.0.2.26",
            "store CNAME shop",
            "stall CNAME store",
            "lost CNAME nowhere.w2",
            "ext CNAME www.elsewhere.example.",
            "loop1 CNAME loop2",
            "loop2 CNAME loop1",
            "a.b.c A 192.0.2.1",
            '*.wild TXT "any"',
            "host.wild A 192.0.2.77",
        ],
    },
}


def table(zones: dict[str, Any] = ZONES, **more: Any) -> Table:
    """Return the table of zones."""
    model = Dns.model_validate({"listen": "127.0.0.1:53", "zones": zones, **more})
    return Table.of(model, {}, serial=1)


def responder(zones: dict[str, Any] = ZONES, **options: Any) -> Responder:
    """Return what answers for zones."""
    found = Responder(table(zones).find, KEY)
    found.configure(KEY, **options)
    return found


def query(name: str, kind: str = "A", **options: Any) -> dns.message.QueryMessage:
    """Return a query; EDNS unless `use_edns` says otherwise."""
    return dns.message.make_query(name, kind, **{"use_edns": 0, "payload": 1232, **options})


def attempt(
    of: Responder, asked: dns.message.Message | bytes, client: str = CLIENT, *, tcp: bool = False
) -> dns.message.Message | None:
    """Return the response as dnspython reads it, which compares it with the query; None: there is none."""
    response = of.respond(wire(asked), ip_address(client).packed, tcp=tcp)
    if response is None:
        return None
    found = dns.message.from_wire(response)
    if isinstance(asked, dns.message.QueryMessage):
        assert asked.is_response(found)
    return found


def wire(asked: dns.message.Message | bytes) -> bytes:
    """Return a message as bytes."""
    return asked if isinstance(asked, bytes) else asked.to_wire()


def ask(
    of: Responder, asked: dns.message.Message | bytes, client: str = CLIENT, *, tcp: bool = False
) -> dns.message.Message:
    """Return the response, which there must be."""
    found = attempt(of, asked, client, tcp=tcp)
    assert found is not None
    return found


def size(of: Responder, asked: dns.message.Message, *, tcp: bool = False) -> int:
    """Return the bytes of the response."""
    return len(of.respond(wire(asked), ip_address(CLIENT).packed, tcp=tcp) or b"")


def said(of: Responder, name: str, kind: str = "A", **options: Any) -> dns.message.Message:
    """Return the response to a query, which there must be."""
    return ask(of, query(name, kind, **options))


def lines(found: dns.message.Message) -> list[str]:
    """Return the records of the answer, as text."""
    return [line for rrset in found.answer for line in rrset.to_text().splitlines()]
