"""MaxMind files for tests: where the networks of documentation are said to be."""

from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

PLACES: dict[str, dict[str, Any]] = {
    "198.51.100.0/24": {"country": {"iso_code": "AU"}, "continent": {"code": "OC"},
                        "location": {"latitude": -33.9, "longitude": 151.2}},
    "203.0.113.0/25": {"country": {"iso_code": "FR"}, "continent": {"code": "EU"},
                       "location": {"latitude": 48.9, "longitude": 2.4}},
    "203.0.113.128/25": {"registered_country": {"iso_code": "SG"}, "continent": {"code": "AS"},
                         "location": {"latitude": 1.3, "longitude": 103.8}},
    "2001:db8:5::/48": {"country": {"iso_code": "NZ"}, "continent": {"code": "OC"}},
}  # fmt: skip


def write(path: Path, places: dict[str, dict[str, Any]], version: int = 6) -> bytes:
    """Write a file, at once as a whole, and return its content."""
    writer = MMDBWriter(version, "Test-City", description="of a test", ipv4_compatible=version == 6)
    for network, place in places.items():
        writer.insert_network(IPSet([network]), place)
    fresh = path.with_suffix(".new")
    writer.to_db_file(str(fresh))
    content = fresh.read_bytes()
    fresh.rename(path)
    return content
