"""The part of the site file about quality of service: which class a request is of, and what its class may have."""

from typing import Annotated, Final, Literal

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from gateway.config.fields import ClassName, Flag, Given, PositiveDuration, Share, Whole
from gateway.config.fields import Model as _Model
from gateway.config.match import Match
from gateway.config.problem import Fault
from gateway.config.rate_limit import Per, RateLimited, per_of

PRIORITIES: Final = 16
PRIORITY: Final = 7
"""Of a class that does not say, and of requests without a class."""
MOST_CLASSES: Final = 63


class QosClass(RateLimited):
    """A class of requests."""

    name: ClassName = Field(description="Name, for routes to match, for metrics and for the log.")
    match: Match = Field(default_factory=Match, description="Which requests, as in routes; left out: all.")
    priority: Annotated[Whole, Field(ge=0, le=PRIORITIES - 1)] = Field(
        PRIORITY, description="Who is served first while requests wait for servers: 0 before 1, and so on to 15."
    )
    share: Annotated[Share | None, Given()] = Field(
        None,
        description="Part of each backend's max_connections that the class gets before others when requests wait; what "
        "it does not use, others may.",
    )
    concurrency: Annotated[Annotated[Whole, Field(ge=1)] | None, Given()] = Field(
        None, description="Requests at servers at most, over all workers; more wait where there is a queue, or get 503."
    )
    admit: Annotated[Literal["always", "never"] | None, Given()] = Field(
        None,
        description="always: no limit holds for the class, those of routes included. never: every request gets 403.",
    )

    @model_validator(mode="after")
    def _no_circle(self) -> "QosClass":
        if self.match.class_:
            raise Fault("no request has a class yet when classes are given", "match", "class", key=True)
        self.check_per(frozenset())
        return self

    @model_validator(mode="after")
    def _one_word(self) -> "QosClass":
        if self.admit is not None:
            idle = ("rate", "concurrency") if self.admit == "always" else ("rate", "concurrency", "share", "priority")
            for name in idle:
                if name in self.model_fields_set:
                    message = f"admit: {self.admit} leaves nothing for {name} to do: remove one of them"
                    raise Fault(message, name, key=True)
        if self.dry_run and self.rate is None and self.concurrency is None:
            raise Fault("dry_run goes with rate or concurrency", "dry_run", key=True)
        return self


def _concurrency(value: object) -> object:
    if value is False or value == "off":
        return 0
    if value == "auto" or value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError("expected auto, off, or how many requests servers get at once")


def _fair_by(value: object) -> object:
    if value is False or value == "off":
        return None
    per = value if isinstance(value, Per) else per_of(value)
    if per.kind not in {"source", "header", "cookie"}:
        raise ValueError("expected source, header:NAME, cookie:NAME or off")
    return per


class Overload(_Model):
    """What happens when more requests come than servers can do."""

    concurrency: Annotated[
        int | None,
        PlainValidator(_concurrency),
        WithJsonSchema({"anyOf": [{"enum": ["auto", "off", False]}, {"type": "integer", "minimum": 1}]}),
    ] = Field(
        None,
        description="Requests at the servers of a backend at once, over all workers; more wait in its queue. auto "
        "(default): as many as they do without getting slower, by measured times of answers. off: any number.",
    )
    target_delay: Annotated[PositiveDuration | None, Given()] = Field(
        None,
        description="Longest acceptable wait in a queue. Once every request of a class has waited longer for 100 ms, "
        "those that have waited twice as long get 503. Default: requests wait for queue.timeout.",
    )
    newest_first: Flag = Field(
        default=False,
        description="While waits are longer than target_delay, a class's newest request goes first.",
    )
    fair_by: Annotated[
        Per | None,
        PlainValidator(_fair_by),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"const": False}], "examples": ["source", "header:NAME"]}),
    ] = Field(
        None,
        description="Requests of a class that wait take turns by this: source, header:NAME or cookie:NAME. Default: "
        "off, the longest wait is first.",
    )

    @model_validator(mode="after")
    def _one_order(self) -> "Overload":
        if self.newest_first and self.target_delay is None:
            raise Fault("newest_first goes with target_delay only", "newest_first", key=True)
        if self.newest_first and self.fair_by is not None:
            raise Fault("requests go by turns or the newest first, not both: remove newest_first or fair_by", "fair_by")
        return self


class Qos(_Model):
    """How requests are told apart, and which go first."""

    classes: tuple[QosClass, ...] = Field(
        (), description=f"Before the routes, the first that matches gives its name. At most {MOST_CLASSES}."
    )

    overload: Annotated[Overload | None, Given()] = Field(
        None, description="What happens when more requests come than servers can do. Default: see queue of backends."
    )

    @model_validator(mode="after")
    def _whole(self) -> "Qos":
        if len(self.classes) > MOST_CLASSES:
            raise Fault(f"there are {len(self.classes)} classes: at most {MOST_CLASSES}", "classes")
        total = 0.0
        for i, item in enumerate(self.classes):
            total += item.share or 0
            if total > 1 + 1e-9:
                raise Fault(f"the shares add up to {total:.0%}: they can be 100% at most", "classes", i, "share")
        return self
