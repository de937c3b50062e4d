"""A zone as the text that other name servers read (RFC 1035 section 5). Pure."""

from collections.abc import Iterator

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from gateway.dns import records
from gateway.dns.records import RecordSet
from gateway.dns.table import Table


def lines(table: Table, zone: str) -> Iterator[str]:
    """The lines of a zone file. Balanced names have the addresses of the sites that take clients, best first.

    Raises ValueError for a zone that the table does not have.
    """
    apex = records.wire_name(zone)
    found = sorted(table.records_of(apex), key=lambda item: _order(*item))
    if not found:
        raise ValueError(f"there is no zone {zone}: the site file has {', '.join(table.zones) or 'none'}")
    yield f"$ORIGIN {_text(apex)}"
    for name, one in found:
        for data in one.data if one.type != records.DNSKEY else ():  # others sign it by keys of their own
            rdtype = dns.rdatatype.RdataType.make(one.type)
            rdata = dns.rdata.from_wire(dns.rdataclass.IN, rdtype, data, 0, len(data))
            yield f"{_text(name)} {one.ttl} IN {dns.rdatatype.to_text(rdtype)} {rdata.to_text()}"


def _order(name: bytes, one: RecordSet) -> tuple[dns.name.Name, bool, int]:
    """Names in their canonical order (RFC 4034 section 6.1), and the SOA record first."""
    return dns.name.from_wire(name, 0)[0], one.type != records.SOA, one.type


def _text(name: bytes) -> str:
    return dns.name.from_wire(name, 0)[0].to_text()
