"""The `qos:` section of the site file: classes of requests, their limits, overload control, and sessions."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from gateway.config import units
from gateway.config.expectation import Moment
from gateway.config.fields import (
    ClassName,
    CookieName,
    Duration,
    File,
    Flag,
    Given,
    PositiveDuration,
    Share,
    Text,
    Whole,
    at_least,
)
from gateway.config.fields import Model as _Model
from gateway.config.match import Match
from gateway.config.problem import Fault
from gateway.config.rate_limit import Bandwidth, Per, RateLimited, per_of
from qos.sessions import MOST_PLACES, MOST_SESSIONS

PRIORITIES: Final = 16
PRIORITY: Final = 7
"""Priority of a class without a setting, and of requests without a class."""
MOST_CLASSES: Final = 63


class QosClass(RateLimited):
    """A class of requests."""

    name: ClassName = Field(description="Name, for routes to match, for metrics and for the log.")
    match: Match = Field(default_factory=Match, description="Which requests, as in routes; default: all.")
    priority: Annotated[Whole, Field(ge=0, le=PRIORITIES - 1)] = Field(
        PRIORITY, description="Order in which waiting requests are served: 0 first, 15 last."
    )
    share: Annotated[Share | None, Given()] = Field(
        None,
        description="Part of each backend's max_connections that the class gets first when requests wait; others "
        "may use what is idle.",
    )
    concurrency: Annotated[Annotated[Whole, Field(ge=1)] | None, Given()] = Field(
        None, description="Limit on requests at servers, over all workers; others wait in the queue, or get 503."
    )
    total_bandwidth: Annotated[Bandwidth | None, Given()] = Field(
        None, description="Bytes per second of all its response bodies together, over all workers. Default: no limit."
    )
    admit: Annotated[Literal["always", "never"] | None, Given()] = Field(
        None,
        description="always: exempt from all limits, including those of routes. never: every request gets 403.",
    )

    @model_validator(mode="after")
    def _no_circle(self) -> "QosClass":
        for loc, name, at in self.match.places_of("class", "user"):
            message = f"requests have no {name} yet when classes are assigned"
            raise Fault(message, "match", *loc, key=loc[-1] == "class", offset=at)
        self.check_per(frozenset())
        return self

    @model_validator(mode="after")
    def _one_word(self) -> "QosClass":
        if self.admit is not None:
            idle = ("rate", "concurrency") if self.admit == "always" else ("rate", "concurrency", "share", "priority")
            for name in idle:
                if name in self.model_fields_set:
                    message = f"admit: {self.admit} makes {name} useless: remove one of them"
                    raise Fault(message, name, key=True)
        if self.dry_run and self.rate is None and self.concurrency is None:
            raise Fault("dry_run needs rate or concurrency", "dry_run", key=True)
        return self


def _concurrency(value: object) -> object:
    if value is False or value == "off":
        return 0
    if value == "auto" or value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError("expected auto, off, or a number of requests")


def _memory(value: object) -> object:
    if value is False or value == "off":
        return None
    try:
        share = units.share(value)
    except ValueError:
        raise ValueError("expected a part such as 95%, or off") from None
    if not 0 < share < 1:
        raise ValueError("must be more than 0% and less than 100%")
    return share


def _fair_by(value: object) -> object:
    if value is False or value == "off":
        return None
    per = value if isinstance(value, Per) else per_of(value)
    if per.kind not in {"source", "header", "cookie"}:
        raise ValueError("expected source, header:NAME, cookie:NAME or off")
    return per


class Overload(_Model):
    """Overload control: when more requests arrive than the servers can process."""

    concurrency: Annotated[
        int | None,
        PlainValidator(_concurrency),
        WithJsonSchema({"anyOf": [{"enum": ["auto", "off", False]}, {"type": "integer", "minimum": 1}]}),
    ] = Field(
        None,
        description="Limit on requests at the servers of a backend, over all workers; others wait in its queue. auto "
        "(default): as many as do not increase the measured response time. off: no limit.",
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

    memory: Annotated[
        float | None,
        PlainValidator(_memory),
        WithJsonSchema({"anyOf": [{"type": "string", "examples": ["95%"]}, {"const": False}]}),
    ] = Field(
        "95%",
        validate_default=True,
        description="Part of the memory of the machine, or of a control group that the gateway is in, which may be in "
        "use; beyond it, new connections are closed at once. off: they never are. Default: 95%.",
    )

    @model_validator(mode="after")
    def _one_order(self) -> "Overload":
        if self.newest_first and self.target_delay is None:
            raise Fault("newest_first needs target_delay", "newest_first", key=True)
        if self.newest_first and self.fair_by is not None:
            raise Fault("newest_first and fair_by cannot be combined: remove one of them", "fair_by")
        return self


def _most(value: object) -> object:
    if value == "auto":
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("expected a number of sessions, or auto")  # noqa: TRY004 - pydantic takes ValueError
    if not 1 <= value <= MOST_SESSIONS:
        raise ValueError(f"expected 1 to {MOST_SESSIONS} sessions, or auto")
    return value


def _at_most(seconds: float, shown: str) -> AfterValidator:
    """A validator for durations."""

    def validate(value: float) -> float:
        if value > seconds:
            raise ValueError(f"must be at most {shown}")
        return value

    return AfterValidator(validate)


_MOST_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_SESSIONS}, {"const": "auto"}]
}
_Most: TypeAlias = Annotated[int, BeforeValidator(_most), WithJsonSchema(_MOST_SCHEMA)]
"""A number of sessions; 0: auto."""


class SessionKey(_Model):
    """The location of clients' tickets: one of cookie, url."""

    cookie: Annotated[CookieName | None, Given()] = Field(None, description="Name of a cookie. Default: GWSESSION.")
    url: Annotated[CookieName | None, Given()] = Field(
        None,
        description="Name of a query parameter. The client is redirected to a URL with it, and the links "
        "of the site must carry it.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "SessionKey":
        if (self.cookie is None) == (self.url is None):
            raise Fault("key needs one of cookie, url")
        return self


class WaitingRoom(_Model):
    """The queue of clients that wait for a session."""

    places: Annotated[Whole, Field(ge=1, le=MOST_PLACES)] = Field(5000, description="Limit on waiting clients.")
    refresh: Annotated[Duration, at_least(1), _at_most(300, "5m")] = Field(
        "5s",
        validate_default=True,
        description="Time after which a waiting page asks again. A client that has not asked for twice that and 2 s "
        "is not waited for; after four times as long, and 90 s at least, it has left the queue.",
    )
    page: Annotated[File | None, Given()] = Field(
        None, description="HTML with {place} {waiting} {estimate} {class} {refresh} {opens}; default: a built-in page."
    )


class Full(_Model):
    """The response when neither a session nor a place is free."""

    status: Annotated[Whole, Field(ge=400, le=599)] = Field(503, description="Its status.")
    page: Annotated[File | None, Given()] = Field(None, description="Page of the response; default: the built-in page.")
    site: Annotated[Text | None, Given()] = Field(
        None,
        description="Send the client to another site instead, while that has room: its name, or auto for the one with "
        "the least load. Needs sites.",
    )


class Sessions(_Model):
    """A limit on sessions: admitted clients stay admitted by a signed ticket."""

    max: _Most = Field(
        description="Sessions at once, over all workers. auto: as many as the servers have room for, which needs "
        "max_connections at servers, or overload: {concurrency: auto}."
    )
    idle: Annotated[Duration, at_least(1), _at_most(86400, "1d")] = Field(
        "10m", validate_default=True, description="Time after the last request at which a session ends."
    )
    key: SessionKey = Field(
        default_factory=lambda: SessionKey(cookie="GWSESSION"), description="Location of clients' tickets."
    )
    waiting_room: Annotated[WaitingRoom | None, Given()] = Field(
        None, description="Queue for clients without a session; default: they get the response of full at once."
    )
    full: Full = Field(default_factory=Full, description="Response when the queue is full, too.")
    opens: Annotated[Moment | None, Given()] = Field(
        None,
        description="Before this time no session begins; who comes before gets a random place of the queue then. "
        "Needs waiting_room.",
    )

    @model_validator(mode="after")
    def _opening_needs_a_queue(self) -> "Sessions":
        if self.opens is not None and self.waiting_room is None:
            raise Fault("opens needs waiting_room, where early clients wait", "opens", key=True)
        return self


class Qos(_Model):
    """Classes of requests, admission of sessions, and overload control."""

    classes: tuple[QosClass, ...] = Field(
        (), description=f"Before the routes, the first that matches gives its name. At most {MOST_CLASSES}."
    )
    sessions: Annotated[Sessions | None, Given()] = Field(
        None, description="Admit a limited number of sessions; other clients wait or are refused. Default: no limit."
    )
    overload: Annotated[Overload | None, Given()] = Field(
        None, description="Overload control: limits and queue delay for backends. Default: see queue of backends."
    )

    @model_validator(mode="after")
    def _whole(self) -> "Qos":
        if len(self.classes) > MOST_CLASSES:
            raise Fault(f"{len(self.classes)} classes exceed the limit of {MOST_CLASSES}", "classes")
        total = 0.0
        for i, item in enumerate(self.classes):
            total += item.share or 0
            if total > 1 + 1e-9:
                raise Fault(f"the shares add up to {total:.0%}, more than 100%", "classes", i, "share")
        return self
