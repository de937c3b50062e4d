"""Rate and bandwidth limits: the keys that classes and routes have in common."""

import re
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from gateway.config import template, units
from gateway.config.fields import TOKEN, Flag, Given, Model, PositiveDuration, Whole, text
from gateway.config.problem import Fault, suggest
from qos.rates import FASTEST, LONGEST, SLOWEST

_NAMED: Final = re.compile(r"(header|cookie|query):(.+)")
_SOURCES: Final = ("ip", "client_ip", "src", "client", "remote_addr", "binary_remote_addr", "addr", "address")
"""What others call a client's address."""
_KINDS: Final = ("source", "header:NAME", "cookie:NAME", "query:NAME")
MOST_BURST: Final = 1_000_000_000
SLOWEST_BANDWIDTH: Final = 1024.0
FASTEST_BANDWIDTH: Final = 1024.0**4
"""Bytes per second."""


@dataclass(frozen=True, slots=True)
class Per:
    """The key by which requests are counted: each value has a rate of its own."""

    kind: Literal["source", "header", "cookie", "query", "template"]
    name: str = ""
    """Name of the header, cookie or parameter; or the text of a template."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.kind in {"header", "cookie", "query"} else self.name or self.kind


def per_of(value: object) -> Per:
    """Parse the key by which requests are counted or distinguished. Raises ValueError."""
    if isinstance(value, Per):
        return value
    written = text(value, f"one of {', '.join(_KINDS)}, or a template such as {{client}}{{path}}")
    if written == "source":
        return Per("source")
    if "{" in written:
        return Per("template", written)
    named = _NAMED.fullmatch(written)
    if named is None:
        by_source = written.strip("${}").lower() in _SOURCES
        hint = " (did you mean source?)" if by_source else suggest(written, ("source", "header", "cookie", "query"))
        raise ValueError(f"expected one of {', '.join(_KINDS)}, or a template such as {{client}}{{path}}{hint}")
    kind, name = named.groups()
    if kind != "query" and not TOKEN.fullmatch(name):
        raise Fault(f"not the name of a {kind}", offset=len(kind) + 1)
    return Per(kind, name)  # type: ignore[arg-type]  # one of the three that the pattern has


def _rate(value: object) -> float:
    if isinstance(value, str) and "B" in value:
        raise ValueError("expected a rate of requests: 5/s, 600/m, 100/h")
    try:
        rate = units.rate(value)
    except ValueError as error:
        raise ValueError(str(error).replace("500/s, 10KiB/s, 600/m", "5/s, 600/m, 100/h")) from None
    if not SLOWEST <= rate <= FASTEST:
        raise ValueError(f"must be between 1/h and {FASTEST:.0f}/s; to admit none, use admit: never")
    return rate


def rate_text(rate: float) -> str:
    """A rate in requests per second, in the notation of the site file."""
    for unit, seconds in (("s", 1), ("m", 60), ("h", 3600)):
        if abs(rate * seconds - round(rate * seconds)) < 1e-6:
            return f"{round(rate * seconds)}/{unit}"
    return f"{rate:.3g}/s"


RequestRate = Annotated[
    float,
    BeforeValidator(_rate),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+ ?/ ?[smh]$", "examples": ["5/s", "600/m", "100/h"]}),
]
"""Requests per second."""
PerField = Annotated[
    Per,
    PlainValidator(per_of),
    WithJsonSchema(
        {"type": "string", "examples": ["source", "header:X-Api-Key", "cookie:id", "query:key", "{client}{path}"]}
    ),
]


def _bandwidth(value: object) -> int:
    try:
        rate = units.rate(value)
    except ValueError:
        raise ValueError("expected bytes per second such as 500KiB/s, 1MiB/s") from None
    if "B" not in str(value):
        raise ValueError(f"the rate is in bytes: did you mean {str(value).replace('/', 'B/')}?")
    if not SLOWEST_BANDWIDTH <= rate <= FASTEST_BANDWIDTH:
        raise ValueError("must be between 1KiB/s and 1TiB/s")
    return int(rate)


Bandwidth = Annotated[
    int,
    BeforeValidator(_bandwidth),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?)?B ?/ ?[smh]$",
            "examples": ["500KiB/s", "1MiB/s"],
        }
    ),
]
"""Bytes per second."""


class RateLimited(Model):
    """Keys for a rate and a bandwidth."""

    bandwidth: Annotated[Bandwidth | None, Given()] = Field(
        None, description="Bytes per second of each response body, such as 1MiB/s. Default: no limit."
    )

    rate: Annotated[RequestRate | None, Given()] = Field(
        None, description="Average rate of requests, over all workers, such as 5/s; others get 429."
    )
    burst: Annotated[Annotated[Whole, Field(ge=1, le=MOST_BURST)] | None, Given()] = Field(
        None, description="Requests at once. Default: those of one second, at least 1."
    )
    per: Annotated[PerField | None, Given()] = Field(
        None,
        description="Key of the rate: source (an IPv4 address, an IPv6 /64), header:NAME, "
        "cookie:NAME, query:NAME, or a template. Default: all requests share one rate.",
    )
    delay: Annotated[PositiveDuration | None, Given()] = Field(
        None, description="Delay a request over the rate for up to this time. Default: 429 at once."
    )
    dry_run: Flag = Field(default=False, description="Only count: refuse and delay nothing.")

    @property
    def at_once(self) -> int:
        """The burst, with its default."""
        return self.burst or max(1, ceil(self.rate or 0))

    @model_validator(mode="after")
    def _has_rate(self) -> "RateLimited":
        if self.rate is None:
            for name in ("burst", "per", "delay"):
                if name in self.model_fields_set:
                    raise Fault(f"{name} needs rate", name, key=True)
            return self
        if (self.at_once - 1) / self.rate + (self.delay or 0) > LONGEST:
            hours = f"{self.at_once / self.rate / 3600:.0f}h"
            name = "burst" if self.burst else "delay"
            raise Fault(f"at this rate the burst takes {hours} to recover: at most 24h are allowed", name)
        return self

    def check_per(self, groups: "frozenset[str] | dict[str, str]") -> None:
        """Refuse a template with unknown fields; `groups`: the known named groups. Raises Fault."""
        if self.per is not None and self.per.kind == "template":
            try:
                template.parts(self.per.name, (*template.REDIRECT_FIELDS, *groups), named=template.FAMILIES)
            except Fault as fault:
                raise Fault(str(fault), "per", offset=fault.offset) from None
