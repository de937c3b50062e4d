"""The part of the site file about other sites: where they are, and how they tell each other their loads."""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator

from gateway.config.address import Address, server_address
from gateway.config.fields import (
    File,
    ListenField,
    Model,
    Name,
    Network,
    OneOrMany,
    PositiveDuration,
    Text,
    text,
)
from gateway.config.problem import Fault

AUTO: Final = "auto"
"""Stands for the best site in a route's `site`."""
MAX_PEERS: Final = 31
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+/?")


def _origin(value: str) -> str:
    try:
        found = urlsplit(value)
        good = bool(_ORIGIN.fullmatch(value)) and found.hostname is not None and found.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError("expected scheme and host such as https://syd.example.com")
    return value.rstrip("/")


def _report(value: object) -> Address:
    if isinstance(value, Address):
        return value
    address = server_address(text(value, "host:port such as gw.example.com:7946"))
    if address.kind != "tcp":
        raise ValueError("expected host:port such as gw.example.com:7946")
    return address


ReportField = Annotated[
    Address,
    PlainValidator(_report),
    WithJsonSchema({"type": "string", "examples": ["gw.example.com:7946"]}),
]


class Peer(Model):
    """Another site."""

    url: Annotated[Text, AfterValidator(_origin)] = Field(
        description="Where clients are sent: scheme and host, before the path and query that they asked for."
    )
    report: Annotated[tuple[ReportField, ...], OneOrMany()] = Field(
        description="Where its gateways listen for reports, UDP: host:port, or a list of them."
    )
    clients: Annotated[tuple[Network, ...], OneOrMany()] = Field(
        (), description="Networks whose clients it suits best: site: auto prefers it for them while it has room."
    )


class Sites(Model):
    """The sites that clients may be sent to, and what is known of their loads."""

    self_: Name = Field(alias="self", description="Name of this site.")
    listen: ListenField = Field(description="UDP address to receive the other sites' reports on.")
    peers: dict[Name, Peer] = Field(
        description="The sites by name; one called as this site is left out, so that all may have the same list."
    )
    key_file: File = Field(description="Key shared by all sites; only its owner may read the file.")
    stale_after: PositiveDuration = Field(
        "5s", validate_default=True, description="Silence after which nothing is known of a site's load."
    )

    @property
    def others(self) -> dict[str, Peer]:
        """The sites but this one."""
        return {name: peer for name, peer in self.peers.items() if name != self.self_}

    @model_validator(mode="after")
    def _names(self) -> "Sites":
        if AUTO in self.peers:
            raise Fault("auto stands for the best site: no site can have this name", "peers", AUTO, key=True)
        if not self.others:
            raise Fault("expected at least one other site", "peers")
        if len(self.others) > MAX_PEERS:
            raise Fault(f"at most {MAX_PEERS} other sites", "peers")
        return self
