"""The zones of the tests, signed."""

from pathlib import Path
from typing import Any

import dns.name
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.config.dns import Dns
from gateway.dns.responder import Responder
from gateway.dns.table import Table
from tests.dns.zones import KEY, ZONES

KEY_FILE = Path("/zone.key")
PEM = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
SIGNED: dict[str, Any] = {name: {**zone, "dnssec": {"key_file": str(KEY_FILE)}} for name, zone in ZONES.items()}
APEXES = [dns.name.from_text(name) for name in ZONES]


def signed(zones: dict[str, Any] = SIGNED, before: Table | None = None) -> Table:
    model = Dns.model_validate({"listen": "127.0.0.1:53", "zones": zones})
    return Table.of(model, {KEY_FILE: PEM}, 1, before)


def signed_responder() -> Responder:
    """Return what answers for them."""
    return Responder(signed().find, KEY)
