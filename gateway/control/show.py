"""What control says of the servers, for people and for Prometheus. Pure."""

from collections.abc import Iterator
from typing import Any, Final

_FIGURES: Final = (
    ("up", "gauge", lambda server: int(server["state"] != "down" and server["ejection"] != "ejected")),
    ("ready", "gauge", lambda server: int(server["admin"] == "ready")),
    ("weight", "gauge", lambda server: server["effective_weight"]),
    ("in_flight", "gauge", lambda server: server["in_flight"]),
    ("load_ratio", "gauge", lambda server: server["load"]),
    ("sessions", "gauge", lambda server: server["sessions"]),
    ("requests_total", "counter", lambda server: server["requests"]),
    ("failures_total", "counter", lambda server: server["failures"]),
    ("check_seconds", "gauge", lambda server: server["check"] and server["check"]["seconds"]),
)


def text(report: dict[str, Any]) -> str:
    """A table for a terminal."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"{'backend/server':<32}{'state':<24}{'weight':>8}{'load':>7}{'in flight':>11}{'sessions':>10}  check"
    for backend in report["backends"]:
        for server in backend["servers"]:
            load = "" if server["load"] is None else f"{server['load']:.0%}"
            limit = f"/{server['max_connections']}" if server["max_connections"] else ""
            sessions = "" if server["sessions"] is None else f"{server['sessions']}"
            left = " left" if server["sessions"] and server["admin"] == "drain" else ""
            yield (
                f"{backend['name'] + '/' + server['name']:<32}{state(server):<24}{server['effective_weight']:>8.3g}"
                f"{load:>7}{str(server['in_flight']) + limit:>11}{sessions + left:>10}  {_check(server)}"
            ).rstrip()


def state(server: dict[str, Any]) -> str:
    """How a server is, in the words of the vocabulary: what keeps it from its work, or what it is."""
    words = [server["state"]]
    if server["admin"] != "ready":
        words.append(server["admin"])
    if server["ejection"] != "in rotation":
        words.append(server["ejection"])
    if server["slow_start"] < 1:
        words.append(f"slow start {server['slow_start']:.0%}")
    if server["backup"]:
        words.append("backup")
    return ", ".join(words)


def _check(server: dict[str, Any]) -> str:
    found = []
    for kind in ("check", "agent"):
        result = server[kind]
        if result is not None:
            prefix = "" if kind == "check" else "agent "
            detail = f" ({result['detail']})" if result["detail"] and result["result"] != "OK" else ""
            found.append(f"{prefix}{result['result']} {result['seconds'] * 1000:.0f} ms{detail}")
    return "; ".join(found)


def metrics(report: dict[str, Any]) -> str:
    """The text format of Prometheus."""
    lines = []
    for name, kind, figure in _FIGURES:
        lines.append(f"# TYPE gateway_server_{name} {kind}")
        for backend in report["backends"]:
            for server in backend["servers"]:
                value = figure(server)
                if value is not None:
                    labels = f'backend="{backend["name"]}",server="{server["name"]}"'
                    lines.append(f"gateway_server_{name}{{{labels}}} {value}")
    return "".join(f"{line}\n" for line in lines)
