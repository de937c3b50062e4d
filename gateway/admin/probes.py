"""Health and readiness of a gateway. Pure."""

from collections.abc import Mapping
from typing import Any

from gateway.process.supervisor_status import STUCK


def healthy(report: Mapping[str, Any], heartbeat: Mapping[str, Any] | None, *, cluster: bool) -> str:
    """Why the gateway is not healthy; "" if all processes work.

    `report` is control's (gateway/control/operations_report.py), `heartbeat` the last report of the heartbeat process.
    """
    if report["tree"]["state"] == "taking over":  # the previous gateway still serves
        return ""
    if amiss := _workers(report):
        return amiss
    return "the heartbeat process does not respond" if cluster and heartbeat is None else ""


def ready(report: Mapping[str, Any], heartbeat: Mapping[str, Any] | None) -> str:
    """Why this gateway must not get requests; "" if it is ready."""
    state = report["tree"]["state"]
    if state == "taking over":
        return ""
    if state != "running":
        return f"the gateway is {state}"
    if amiss := _workers(report):
        return amiss
    if amiss := _set_by_operator(report, heartbeat):
        return amiss
    backends = report["backends"]
    if backends and not any(_may_serve(backend) for backend in backends):
        return "every server of every backend is down"
    return ""


def _set_by_operator(report: Mapping[str, Any], heartbeat: Mapping[str, Any] | None) -> str:
    found = [report["overrides"]["node"], heartbeat["admin_state"] if heartbeat is not None else None]
    state = next((state for state in found if state not in {None, "ready", "join"}), None)
    return f"the operator set {state}" if state else ""


def _workers(report: Mapping[str, Any]) -> str:
    workers = report["workers"]
    stuck = sum(not working(worker) for worker in workers)
    return f"{stuck} of {len(workers)} workers do not respond" if stuck or not workers else ""


def working(worker: Mapping[str, Any]) -> bool:
    """Whether a worker has updated its timestamp recently."""
    return bool(worker["silent"] < STUCK)


def _may_serve(backend: Mapping[str, Any]) -> bool:
    return any(server["state"] != "down" for server in backend["servers"])
