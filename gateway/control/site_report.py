"""What a gateway says of its site to others, as metrics of a report (format: loadagent/report.py). Pure.

A report has room for MAX_METRICS, so each has the base fields, and as many details as there is room for; the others are
in the next ones. Gateways of a version before know the first fields and pass over the others, which they do not know;
what is added later must stay so: a name of its own, and each report whole without it.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from gateway.config.dns import MAX_TTL
from loadagent.report import MAX_METRIC_NAME, MAX_METRICS, MAX_SHARE

Ip: TypeAlias = IPv4Address | IPv6Address
Detail: TypeAlias = tuple[str, float]
"""A metric beyond the base fields."""

FORMAT: Final = 2
"""Of these reports: 1 had the first four fields and no others."""
LOAD: Final = "load"
MEAN_LOAD: Final = "load_mean"
REQUESTS: Final = "requests"
EVACUATES: Final = "evacuates"
TTL: Final = "dns_ttl"
_FORMAT: Final = "format"
_SESSIONS: Final = "sessions_free"
_RESPONSES: Final = "dns_responses"
_OPEN: Final = "dns_open"
_BACKEND: Final = "b:"
_TIME: Final = "t:"
_ASK: Final = "q:"
_BASE: Final = 9
ROOM: Final = MAX_METRICS - _BASE
"""Details in a report."""
MAX_REPORTS: Final = 4
"""Reports with details at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteReport:
    """What one gateway says of its site."""

    load: float | None = None
    """At this moment. 1: full; None: unknown."""
    mean_load: float | None = None
    """The mean since the report before: what belongs to `requests`. From a gateway that does not say it, `load`."""
    requests: float = 0.0
    """Per second, that it answers."""
    evacuates: bool = False
    """It has been told to evacuate its site."""
    ttl: float = 0.0
    """Longest TTL in seconds of the addresses that its name server answers with."""
    sessions_free: int | None = None
    """Clients that it can still give a session; None: as many as come."""
    responses: float | None = None
    """Per second, of its name server; None: none works."""
    open_names: int = 0
    """Names none of whose sites works, as its name server sees them."""
    backends: Mapping[str, float] = field(default_factory=dict)
    """The part of each backend's servers that works; in each report those of some."""
    times: Mapping[Ip, float] = field(default_factory=dict)
    """Milliseconds to resolvers and back, as measured; likewise."""
    asks: tuple[Ip, ...] = ()
    """Resolvers to which it wants to know the time."""


def of_metrics(metrics: Mapping[str, float]) -> SiteReport:
    """Read a report; what is unknown or of another form is passed over.

    A TTL that no name server can have would have `gateway evacuate-site` wait for it.
    """
    sessions = metrics.get(_SESSIONS)
    found = {prefix: dict(_those(metrics, prefix)) for prefix in (_BACKEND, _TIME, _ASK)}
    return SiteReport(
        load=metrics.get(LOAD),
        mean_load=metrics.get(MEAN_LOAD, metrics.get(LOAD)),
        requests=metrics.get(REQUESTS, 0.0),
        evacuates=bool(metrics.get(EVACUATES)),
        ttl=min(metrics.get(TTL, 0.0), MAX_TTL),
        sessions_free=int(sessions) if sessions is not None else None,
        responses=metrics.get(_RESPONSES),
        open_names=int(metrics.get(_OPEN, 0)),
        backends={name: min(1.0, part) for name, part in found[_BACKEND].items()},
        times={ip: ms for text, ms in found[_TIME].items() if (ip := _address(text)) is not None},
        asks=tuple(ip for text in found[_ASK] if (ip := _address(text)) is not None),
    )


def metrics_of(report: SiteReport, details: Iterable[Detail] = ()) -> list[dict[str, float]]:
    """The metrics of the reports, at least one, that say this and as many details as there is room for."""
    base = {REQUESTS: report.requests, _FORMAT: float(FORMAT)}
    for name, value in (
        (LOAD, report.load),
        (MEAN_LOAD, report.mean_load),
        (EVACUATES, 1.0 if report.evacuates else None),
        (TTL, report.ttl or None),
        (_SESSIONS, report.sessions_free),
        (_RESPONSES, report.responses),
        (_OPEN, report.open_names or None),
    ):
        if value is not None:
            base[name] = float(value)
    base = {name: min(value, MAX_SHARE) for name, value in base.items()}
    left = list(details)[: MAX_REPORTS * ROOM]
    return [base | dict(left[at : at + ROOM]) for at in range(0, max(1, len(left)), ROOM)]


def backend(name: str, part: float) -> Detail:
    """The detail that a part of a backend's servers works. A long name is cut."""
    return _BACKEND + re.sub(r"[^A-Za-z0-9._:-]", "-", name)[: MAX_METRIC_NAME - len(_BACKEND)], part


def time(resolver: Ip, ms: float) -> Detail:
    """The detail that a resolver is so far away, in milliseconds there and back."""
    return _TIME + _text(resolver), min(ms, MAX_SHARE)


def ask(resolver: Ip) -> Detail:
    """The detail that the time to a resolver is wanted."""
    return _ASK + _text(resolver), 1.0


def _those(metrics: Mapping[str, float], prefix: str) -> Iterator[Detail]:
    for name, value in metrics.items():
        if name.startswith(prefix):
            yield name[len(prefix) :], value


def _text(address: Ip) -> str:
    """An address as a part of a metric's name, which is too short for IPv6 in hexadecimal."""
    return base64.b32encode(address.packed).decode().rstrip("=")


def _address(text: str) -> Ip | None:
    try:
        packed = base64.b32decode(text + "=" * (-len(text) % 8))
        return ip_address(packed) if len(packed) in {4, 16} else None
    except (binascii.Error, ValueError):
        return None
