"""Real Prometheus reads the metrics of a whole gateway, and the alert rules and the dashboard of conf/."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml

from gateway.admin import metrics
from tests.admin import reports
from tests.support.backend_server import ROOT, BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.programs import needs
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

pytestmark = needs("prometheus", "promtool")

RULES = ROOT / "conf" / "prometheus-alerts.yml"
DASHBOARD = json.loads((ROOT / "conf" / "grafana-dashboard.json").read_text())
ALERTS = {
    rule["alert"]: rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
SHOWN = {
    f"{panel['title']} {target['refId']}": target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
NAME = re.compile(r"\bgateway_\w+")


@dataclass
class Observed:
    """A gateway with a server, and a Prometheus that reads it."""

    server: BackendServer
    metrics: str
    prometheus: str

    def ask(self, path: str, **query: str) -> Any:
        answer = httpx.get(f"{self.prometheus}/api/v1/{path}", params=query).json()
        assert answer["status"] == "success", answer
        return answer["data"]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    directory = tmp_path_factory.mktemp("prometheus")
    admin, port = free_port(), free_port()
    rules = RULES.read_text().replace("for: 30s", "for: 0s")
    (directory / "alerts.yml").write_text(rules)
    job = {"job_name": "gateway", "static_configs": [{"targets": [f"127.0.0.1:{admin}"]}]}
    settings = {"global": {"scrape_interval": "500ms", "evaluation_interval": "500ms", "scrape_timeout": "500ms"},
                "rule_files": ["alerts.yml"], "scrape_configs": [job]}  # fmt: skip
    (directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
    with BackendServer(directory, "app1") as server, (directory / "prometheus.log").open("wb") as log:
        description = site([server], check={"http": "/", "interval": "100ms", "fall": 1, "rise": 1})
        description["admin"] = {"sockets": str(directory), "listen": f"127.0.0.1:{admin}"}
        with GatewayProcess(directory, description) as gateway:
            with RawClient(gateway.port) as client:
                assert client.get().status == 200
            prometheus = subprocess.Popen(
                ["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
                 f"--web.listen-address=127.0.0.1:{port}"],
                stdout=log, stderr=log,
            )  # fmt: skip
            try:
                found = Observed(server, f"http://127.0.0.1:{admin}/metrics", f"http://127.0.0.1:{port}")
                eventually(lambda: _answers(found), "prometheus to read the gateway", 40.0)
                yield found
            finally:
                prometheus.terminate()
                prometheus.wait()


def _answers(found: Observed) -> bool:
    try:
        return bool(found.ask("query", query="gateway_backend_servers_available == 1")["result"])
    except httpx.TransportError as error:
        raise OSError from error


def promtool(*arguments: str, text: str = "") -> str:
    """What promtool complains about."""
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def test_the_metrics_keep_the_conventions(observed: Observed) -> None:
    assert promtool("check", "metrics", text=httpx.get(observed.metrics).text) == ""
    everything = metrics.text(reports.control(cluster=True), reports.heartbeat())
    assert promtool("check", "metrics", text=everything) == ""
    assert promtool("check", "rules", str(RULES)) == ""


def test_rules_and_dashboard_name_only_metrics_that_exist() -> None:
    known = {family.name for family in metrics.families(reports.control(cluster=True), reports.heartbeat())}
    used = {name for text in (*ALERTS.values(), *SHOWN.values()) for name in NAME.findall(text)}
    assert {
        name for name in used if re.sub(r"_(bucket|sum|count)$", "", name) not in known and name not in known
    } == set()
    assert len(used) > 20


@pytest.mark.parametrize("expression", [*ALERTS.values(), *SHOWN.values()], ids=[*ALERTS, *SHOWN])
def test_prometheus_evaluates(observed: Observed, expression: str) -> None:
    assert observed.ask("query", query=expression)["resultType"] == "vector"


def test_an_alert_fires_when_the_last_server_dies(observed: Observed) -> None:
    def firing() -> set[str]:
        return {one["labels"]["alertname"] for one in observed.ask("alerts")["alerts"] if one["state"] == "firing"}

    assert firing() == set()
    observed.server.kill()
    eventually(lambda: "GatewayBackendDown" in firing(), "the alert")
    observed.server.start()
    eventually(lambda: "GatewayBackendDown" not in firing(), "the alert to end")
