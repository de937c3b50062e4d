"""Load agents report, traffic follows: of three equal servers the loaded one gets less, but never nothing."""

import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.support.gateway_process import site
from tests.support.load import Load
from tests.support.switch_server import SwitchServer
from tests.support.waiting import eventually, free_udp_port

NAMES = ("app1", "app2", "app3")
AGENT = (sys.executable, "-c", "from loadagent.cli import main; main()", "run")
WINDOW = 300  # requests over which shares are looked at


@pytest.fixture
def measures():
    """What each server's load is, in percent; the agents ask here."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(SwitchServer(name)) for name in NAMES}


@pytest.fixture
def start_agent(tmp_path, measures):
    with ExitStack() as stack:

        def start(name, port):
            options = {
                "server": name,
                "gateways": f"127.0.0.1:{port}",
                "key-file": tmp_path / "agent.key",
                "interval": "100ms",
                "url-get": f"http://{measures[name].address}/check",
                "url-full": 100,
                "url-every": "100ms",
            }
            arguments = [f"--{option}={value}" for option, value in options.items()]
            with (tmp_path / f"agent-{name}.log").open("ab") as log:
                agent = stack.enter_context(subprocess.Popen([*AGENT, *arguments], stderr=log))
            stack.callback(agent.kill)
            return agent

        yield start


def shares(load):
    """Return the share of each server in the next WINDOW requests."""
    before = load.servers.copy()
    load.wait_for(WINDOW)
    window = load.servers - before
    return {name: window[name] / window.total() for name in NAMES}


@pytest.mark.timeout(150)
def test_traffic_follows_the_reports(start_servers, start_gateway, measures, start_agent, tmp_path):
    (tmp_path / "agent.key").touch(0o600)
    (tmp_path / "agent.key").write_text("a key of this test alone, 0123456789")
    port = free_udp_port()
    description = site(start_servers(*NAMES), workers=2, balance="measured", agent={"stale_after": "1s"})
    description["load_reports"] = {"listen": f"127.0.0.1:{port}", "key_file": str(tmp_path / "agent.key")}
    gateway = start_gateway(description)
    for name, percent in zip(NAMES, ("90", "20", "20"), strict=True):
        measures[name].body = percent
    seen = []

    def become(holds, what):
        def look():
            seen.append(shares(load))
            return holds(seen[-1])

        try:
            eventually(look, what, 40.0)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}\n{gateway.log}") from None

    with Load(gateway.port, "/delay/0.04", clients=12) as load:
        become(lambda now: all(0.28 < share < 0.39 for share in now.values()), "equals to be treated alike")
        agents = {name: start_agent(name, port) for name in NAMES}
        # Less, but enough to notice when it has recovered; and its equals are treated alike.
        become(
            lambda now: (
                0.02 < now["app1"] < 0.5 * min(now["app2"], now["app3"]) and 0.8 < now["app2"] / now["app3"] < 1.25
            ),
            "app1 to get less, the others alike",
        )

        agents["app1"].kill()
        gateway.wait_for_log("server app/app1: no load report for 1 s; its weight returns to neutral")
        become(lambda now: now["app1"] > 0.27, "a silent agent's server to be neutral")
    assert load.failures == []
    assert all(now["app1"] > 0 for now in seen)
    assert "refused" not in gateway.log
