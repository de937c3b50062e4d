"""Rules in Python in a worker that runs: nothing they do wrong ends it."""

import re
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from gateway.cli import LAST_GOOD, main
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

SOURCE = """\
import time

def route(request):
    if request.path == "/breaks":
        raise RuntimeError("as it happens")
    if request.path == "/leaves":
        raise SystemExit(3)
    if request.path == "/nonsense":
        return {"backend": "nowhere"}
    if request.path == "/slow":
        time.sleep(0.05)
    return {"set_header": {"X-Rule": "done"}} if request.path == "/headers" else None
"""


def test_mistakes_end_a_request_and_nothing_else(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (tmp_path / "custom.py").write_text(SOURCE)
    description = site(start_servers("app1"))
    description["routes"] = [{"python": {"function": "custom:route", "budget": "10ms"}}, {"backend": "app"}]
    gateway = start_gateway(description)
    workers = gateway.workers()
    with RawClient(gateway.port) as client:
        assert client.get("/bytes/3").body == b"abc"
        for _ in range(5):
            assert client.get("/breaks").status == 500
            assert b"x-rule: done" in client.get("/headers").body.lower()
        assert client.get("/leaves").status == 500
        assert client.get("/nonsense").status == 500
        assert client.get("/slow").status != 500
        gateway.wait_for_log(r"python rule custom:route took [0-9.]+ ms, its budget is 10 ms; \d+ of \d+ calls so far")
        assert client.get("/bytes/3").body == b"abc"  # by the same connection
    assert gateway.workers() == workers
    entries = re.findall(r"python rule custom:route failed: answered with 500", gateway.log)
    assert 1 <= len(entries) < 7  # at most one a second
    assert "RuntimeError: as it happens" in gateway.log


def test_a_file_that_cannot_be_run_is_refused_with_its_line(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    rules = tmp_path / "custom.py"
    rules.write_text(SOURCE)
    gateway = start_gateway({**site(start_servers("app1")), "routes": [{"python": "custom:route"}, {"backend": "app"}]})
    for broken, why in (
        (
            "import os\nimport no_such_module\ndef route(request): pass\n",
            r":2:1: .*ModuleNotFoundError: No module named",
        ),
        ("def route(request): pass\nroute = 1 / 0\n", r":2:1: .*ZeroDivisionError"),
        ("import sys\nsys.exit(1)\ndef route(request): pass\n", r":2:1: .*SystemExit: 1"),
    ):
        rules.write_text(broken)
        checked = CliRunner().invoke(main, ["check", str(gateway.path)])
        assert checked.exit_code == LAST_GOOD
        assert re.search(why, checked.output), checked.output
        assert "custom.py" in gateway.reload(says=why)
    rules.write_text("def route(request):\n    return {'respond': 418}\n")
    gateway.reload(says="reloaded: ")
    with RawClient(gateway.port) as client:
        assert client.get("/x").status == 418
