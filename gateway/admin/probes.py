"""Health and readiness of a gateway. Pure."""

from gateway.process.supervisor_status import STUCK
from gateway.reports import BackendReport, HeartbeatReport, SiteReport, StateReport, WorkerReport


def healthy(report: StateReport, heartbeat: HeartbeatReport | None) -> str:
    """Why the gateway is not healthy; "" if all processes work. `heartbeat`: the heartbeat process's last report."""
    if report.tree.state == "taking over":  # the previous gateway still serves
        return ""
    if problem := _workers(report):
        return problem
    return "the heartbeat process does not respond" if report.cluster and heartbeat is None else ""


def ready(report: StateReport, site: SiteReport, heartbeat: HeartbeatReport | None) -> str:
    """Why this gateway must not get requests; "" if it is ready."""
    state = report.tree.state
    if state == "taking over":
        return ""
    if state != "running":
        return f"the gateway is {state}"
    if problem := _workers(report):
        return problem
    if problem := _set_by_operator(site, heartbeat):
        return problem
    if site.backends and not any(_may_serve(backend) for backend in site.backends):
        return "every server of every backend is down"
    return ""


def _set_by_operator(site: SiteReport, heartbeat: HeartbeatReport | None) -> str:
    found = [site.overrides.node, heartbeat.admin_state if heartbeat is not None else None]
    state = next((state for state in found if state not in {None, "ready", "join"}), None)
    return f"the operator set {state}" if state else ""


def _workers(report: StateReport) -> str:
    stuck = sum(not working(worker) for worker in report.workers)
    return f"{stuck} of {len(report.workers)} workers do not respond" if stuck or not report.workers else ""


def working(worker: WorkerReport) -> bool:
    """Whether a worker has updated its timestamp recently."""
    return worker.silent < STUCK


def _may_serve(backend: BackendReport) -> bool:
    return any(server.state != "down" for server in backend.servers)
