"""Maps in a whole gateway: their files are taken up when they change, in every worker."""

import re
from collections.abc import Callable
from pathlib import Path

from tests.scenarios.test_forwarding import fields
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def test_a_map_follows_its_file_without_a_reload(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    plans, blocked = tmp_path / "plans.csv", tmp_path / "blocked"
    plans.write_text("host,plan\n*.example.com,basic\n")
    blocked.write_text("^/wp-(?:admin|login) tool\n")
    description = site(start_servers("app1"), 2)
    description["maps"] = {
        "plans": {"file": str(plans), "keys": "host", "value": "plan", "default": "none"},
        "blocked": {"file": str(blocked), "keys": "regex"},
    }
    description["routes"] = [
        {"match": {"when": 'map("blocked", path) == "tool"'}, "respond": {"status": 403}},
        {"set_header": {"X-Plan": "{map:plans:host}"}, "backend": "app"},
    ]
    gateway = start_gateway(description)

    def plan(host: str) -> str:
        """The plan of a host, once both workers agree, each asked by some of the connections."""
        found = set()
        for _ in range(8):
            with RawClient(gateway.port) as client:
                found.add(dict(fields(client.get("/headers", host=host).body))["x-plan"])
        return found.pop() if len(found) == 1 else ""

    assert plan("a.example.com") == "basic"
    assert plan("example.org") == "none"
    with RawClient(gateway.port) as client:
        assert client.get("/wp-login.php").status == 403
        plans.write_text("host,plan\n*.example.com,basic\na.example.com,gold\n")
        gateway.wait_for_log("map plans renewed: 2 entries")
        eventually(lambda: plan("a.example.com") == "gold", "both workers to use the new file")
        assert client.get("/wp-login.php").status == 403
    plans.write_text("host,plan\nexample.org\n")
    gateway.wait_for_log(re.escape(f"map plans keeps its previous content: {plans}:2: there is no column 2"))
    eventually(
        lambda: (
            gateway.status()["tree"]["maps"]
            == {
                "refused": {"plans": f"{plans}:2: there is no column 2"},
                "renewals": {"accepted": 1, "refused": 1},
            }
        ),
        "status to say what is wrong",
    )
    gateway.kill_worker(0)  # the next one starts with what is in use, too
    gateway.wait_for_log("worker 0 uses load")
    assert plan("a.example.com") == "gold"
    since = len(gateway.log)
    assert "refused" in gateway.reload()
    assert "plans.csv:2: there is no column 2" in gateway.log[since:]
    plans.write_text("host,plan\nexample.org,silver\n")
    eventually(lambda: plan("example.org") == "silver", "the corrected file")
    eventually(lambda: not gateway.status()["tree"]["maps"]["refused"], "status to say that all is well")
