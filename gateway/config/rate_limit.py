"""How often requests may come and how fast answers go: the keys that a class and a route have in common."""

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
_KINDS: Final = ("source", "header:NAME", "cookie:NAME", "query:NAME")
MOST_BURST: Final = 1_000_000_000
SLOWEST_BANDWIDTH: Final = 1024.0
FASTEST_BANDWIDTH: Final = 1024.0**4
"""Bytes per second."""


@dataclass(frozen=True, slots=True)
class Per:
    """What requests are counted by: each value has the rate to itself."""

    kind: Literal["source", "header", "cookie", "query", "template"]
    name: str = ""
    """Of the header, cookie or parameter; the text of a template."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.kind in {"header", "cookie", "query"} else self.name or self.kind


def per_of(value: object) -> Per:
    """What requests are counted or told apart by, from its text. Raises ValueError."""
    if isinstance(value, Per):
        return value
    written = text(value, f"one of {', '.join(_KINDS)}, or a template such as {{client}}{{path}}")
    if written == "source":
        return Per("source")
    if "{" in written:
        return Per("template", written)
    named = _NAMED.fullmatch(written)
    if named is None:
        hint = suggest(written, ("source", "header", "cookie", "query"))
        raise ValueError(f"expected one of {', '.join(_KINDS)}, or a template such as {{client}}{{path}}{hint}")
    kind, name = named.groups()
    if kind != "query" and not TOKEN.fullmatch(name):
        raise Fault(f"not the name of a {kind}", offset=len(kind) + 1)
    return Per(kind, name)  # type: ignore[arg-type]  # one of the three that the pattern has


def _rate(value: object) -> float:
    if isinstance(value, float):
        return value
    if isinstance(value, str) and "B" in value:
        raise ValueError("this rate is of requests: expected 5/s, 600/m, 100/h")
    try:
        rate = units.rate(value)
    except ValueError as error:
        raise ValueError(str(error).replace("500/s, 10KiB/s, 600/m", "5/s, 600/m, 100/h")) from None
    if not SLOWEST <= rate <= FASTEST:
        raise ValueError(f"must be between 1/h and {FASTEST:.0f}/s; to admit nothing there is admit: never")
    return rate


def rate_text(rate: float) -> str:
    """A rate in requests per second as in a site file."""
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
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        rate = units.rate(value)
    except ValueError:
        raise ValueError("expected bytes per second such as 500KiB/s, 1MiB/s") from None
    if "B" not in str(value):
        raise ValueError(f"this is of bytes: did you mean {str(value).replace('/', 'B/')}?")
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
    """What may have a rate and a bandwidth."""

    bandwidth: Annotated[Bandwidth | None, Given()] = Field(
        None, description="Bytes per second that each answer's body is passed on with, such as 1MiB/s. Default: any."
    )

    rate: Annotated[RequestRate | None, Given()] = Field(
        None, description="Requests that may come on average, over all workers, such as 5/s; more are answered 429."
    )
    burst: Annotated[Annotated[Whole, Field(ge=1, le=MOST_BURST)] | None, Given()] = Field(
        None, description="Of them, how many may come at once. Default: those of one second, at least 1."
    )
    per: Annotated[PerField | None, Given()] = Field(
        None,
        description="Each of these has the rate to itself: source (an IPv4 address, an IPv6 /64), header:NAME, "
        "cookie:NAME, query:NAME, or a template. Default: all share it.",
    )
    delay: Annotated[PositiveDuration | None, Given()] = Field(
        None, description="Let a request that comes too early wait for its turn, so long at most. Default: 429 at once."
    )
    dry_run: Flag = Field(default=False, description="Refuse and delay nothing, and count what would have been.")

    @property
    def at_once(self) -> int:
        """The burst, with its default."""
        return self.burst or max(1, ceil(self.rate or 0))

    @model_validator(mode="after")
    def _has_rate(self) -> "RateLimited":
        if self.rate is None:
            for name in ("burst", "per", "delay"):
                if name in self.model_fields_set:
                    raise Fault(f"{name} goes with rate only", name, key=True)
            return self
        if (self.at_once - 1) / self.rate + (self.delay or 0) > LONGEST:
            hours = f"{self.at_once / self.rate / 3600:.0f}h"
            name = "burst" if self.burst else "delay"
            raise Fault(f"a burst must be made up for within a day, and this one takes {hours} at the rate", name)
        return self

    def check_per(self, groups: "frozenset[str] | dict[str, str]") -> None:
        """Refuse a template with fields that there are not; `groups`: named groups that there are. Raises Fault."""
        if self.per is not None and self.per.kind == "template":
            try:
                template.parts(self.per.name, (*template.REDIRECT_FIELDS, *groups), named=template.FAMILIES)
            except Fault as fault:
                raise Fault(str(fault), "per", offset=fault.offset) from None
