"""The `sites:` section of the site file: the other sites' addresses, and the exchange of loads."""

import re
from datetime import datetime
from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue

from gateway.config.address import Address, server_address
from gateway.config.fields import (
    File,
    Given,
    ListenField,
    Model,
    Name,
    Network,
    OneOrMany,
    PositiveDuration,
    Rate,
    Share,
    Text,
    text,
)
from gateway.config.problem import Fault

AUTO: Final = "auto"
"""Denotes the best site in a route's `site`."""
SPILL: Final = "spill"
"""Denotes, in the same place, any site for a part of the clients."""
MAX_PEERS: Final = 31
MAX_PROBES: Final = 100
LEAST_KEEP: Final = 10
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
        description="Target of redirects: scheme and host; the requested path and query are appended."
    )
    report: Annotated[tuple[ReportField, ...], OneOrMany()] = Field(
        description="Addresses of its gateways for reports: host:port, or a list of them."
    )
    clients: Annotated[tuple[Network, ...], OneOrMany()] = Field(
        (), description="Networks whose clients prefer this site: site: auto sends them there while it has room."
    )


def _moment(value: object) -> datetime:
    """A date and time with its zone."""
    if isinstance(value, datetime):
        return value
    written = text(value, "a date and time such as 2026-12-05T02:00:00+11:00")
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        raise ValueError(f"{written} is not a date and time such as 2026-12-05T02:00:00+11:00") from None
    if found.tzinfo is None:
        raise ValueError(f"say in which zone: {written}Z is UTC, {written}+11:00 is eleven hours ahead of it")
    return found


class Window(Model):
    """A time in which this site is evacuated."""

    from_: Annotated[
        datetime,
        PlainValidator(_moment),
        WithJsonSchema({"type": "string", "examples": ["2026-12-05T02:00:00+11:00"]}),
    ] = Field(alias="from", description="When it begins: date, time and zone.")
    for_: PositiveDuration = Field(alias="for", description="How long it lasts.")
    every: Annotated[PositiveDuration | None, Given()] = Field(
        None, description="How often it is repeated, such as 7d; default: never."
    )

    def begun(self, now: float) -> float | None:
        """When the window began that is open at `now`, both in seconds since 1970; None: it is not open."""
        began = self.from_.timestamp()
        if now >= began and self.every is not None:
            began += (now - began) // self.every * self.every
        return began if began <= now < began + self.for_ else None

    @model_validator(mode="after")
    def _shorter(self) -> "Window":
        if self.every is not None and self.for_ >= self.every:
            raise Fault("must be shorter than every", "for")
        return self


class SpillOver(Model):
    """Loads of this site between which `site: spill` sends a growing part of its new clients to others."""

    from_: Share = Field("75%", validate_default=True, alias="from", description="Load at which it begins.")
    all_: Share = Field(
        "100%", validate_default=True, alias="all", description="Load at which all new clients are sent."
    )

    @model_validator(mode="after")
    def _grows(self) -> "SpillOver":
        if self.from_ >= self.all_:
            raise Fault("must be more than from", "all")
        return self


def _probe(value: object) -> object:
    if value is False:
        return None
    return {} if value is True else value


class Probe(Model):
    """Probes of resolvers from this site, for names with `latency`."""

    shorthand: ClassVar[JsonSchemaValue | None] = {"type": "boolean"}

    rate: Rate = Field("5/s", validate_default=True, description="Resolvers that are probed, at most.")
    keep: PositiveDuration = Field("1h", validate_default=True, description="How long a result is used.")

    @model_validator(mode="after")
    def _bounded(self) -> "Probe":
        if not 0.0 < self.rate <= MAX_PROBES:
            raise Fault(f"must be more than 0/s, and at most {MAX_PROBES}/s", "rate")
        if self.keep < LEAST_KEEP:
            raise Fault(f"must be at least {LEAST_KEEP}s", "keep")
        return self


class Sites(Model):
    """The other sites that clients may be redirected to, and the exchange of loads."""

    self_: Name = Field(alias="self", description="Name of this site.")
    listen: ListenField = Field(
        description="Address for the other sites' reports, over UDP, and over TCP where UDP does not come through."
    )
    peers: dict[Name, Peer] = Field(
        description="The sites by name; all sites can have the same list. The entry of this site names its own "
        "gateways, which tell each other how many requests they answer."
    )
    key_file: File = Field(description="Key shared by all sites; only its owner may read the file.")
    stale_after: PositiveDuration = Field(
        "5s", validate_default=True, description="Silence after which a site's load is unknown."
    )

    spill: SpillOver = Field(default_factory=SpillOver, description="When `site: spill` sends clients to other sites.")
    probe: Annotated[Probe | None, BeforeValidator(_probe)] = Field(
        None,
        description="Measure the time to resolvers that have asked a site for a name with `latency`; or true. Default: "
        "this site does not.",
    )
    maintenance: tuple[Window, ...] = Field(
        (), description="Times in which this site is evacuated, as by gateway evacuate-site."
    )

    @property
    def others(self) -> dict[str, Peer]:
        """The sites but this one."""
        return {name: peer for name, peer in self.peers.items() if name != self.self_}

    def window(self, now: float) -> tuple[float, float] | None:
        """Begin and end of the maintenance window that is open at `now`, in seconds since 1970."""
        return next(((began, began + each.for_) for each in self.maintenance if (began := each.begun(now))), None)

    @model_validator(mode="after")
    def _names(self) -> "Sites":
        for word in (AUTO, SPILL):
            if word in self.peers:
                raise Fault(f"{word} has a meaning in routes: no site can have this name", "peers", word, key=True)
        if not self.others:
            raise Fault("expected at least one other site", "peers")
        if len(self.others) > MAX_PEERS:
            raise Fault(f"at most {MAX_PEERS} other sites", "peers")
        return self
