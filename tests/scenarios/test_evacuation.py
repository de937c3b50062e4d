"""A site that is taken out of service in order: a gateway of it, its name server, and another site that reports."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.waiting import eventually, free_port, free_udp_port
from tests.support.web_farm import KEY, Site, ask, both_port

ADDRESSES = {"mel": "192.0.2.10", "syd": "198.51.100.10"}


class Farm:
    """The gateway of mel with a name server, and syd, which is heard."""

    def __init__(self, gateway: GatewayProcess, port: int, syd: Site) -> None:
        self.gateway = gateway
        self.port = port
        self.syd = syd

    def answers(self) -> set[str]:
        return {str(record) for record in ask(self.port).answer[0]}

    def command(self, *words: str, fails: bool = False) -> dict[str, Any]:
        done = CliRunner().invoke(main, [*words, "-g", str(self.gateway.path), "--json"])
        assert (done.exit_code != 0) is fails, done.output
        return dict(json.loads(done.stdout))

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.gateway.port}", headers={"Host": "www.example.com"})


def described(tmp_path: Path, servers: list[BackendServer], port: int, reports: int) -> dict[str, Any]:
    key = tmp_path / "sites.key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    return {
        **site(servers),
        "qos": {"sessions": {"max": 100, "idle": "2s", "full": {"site": "auto"}}},
        "sites": {
            "self": "mel",
            "listen": f"127.0.0.1:{reports}",
            "peers": {"syd": {"url": "http://syd.example.com", "report": f"127.0.0.1:{free_udp_port()}"}},
            "key_file": str(key),
        },
        "dns": {
            "listen": f"127.0.0.1:{port}",
            "response_rate": 0,
            "zones": {"www.example.com": {"ns": "ns1.example.com", "ttl": "1s", "sites": ADDRESSES}},
        },
    }


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    tmp_path, port, reports = tmp_path_factory.mktemp("farm"), both_port(), free_udp_port()
    with ExitStack() as stack:
        server = stack.enter_context(BackendServer(tmp_path, "one"))
        gateway = stack.enter_context(GatewayProcess(tmp_path, described(tmp_path, [server], port, reports)))
        gateway.wait_for_log("dns 0 uses load 1")
        syd = Site(reports, "syd")
        stack.callback(syd.stop)
        found = Farm(gateway, port, syd)
        eventually(lambda: found.answers() == set(ADDRESSES.values()), "both sites")
        eventually(lambda: gateway.status()["sites"]["syd"] == 0.5, "the load of syd")
        yield found


def test_drain_of_the_only_gateway_takes_its_site_out_of_dns(farm: Farm) -> None:
    farm.command("drain", "--node")
    eventually(lambda: farm.answers() == {ADDRESSES["syd"]}, "mel to be left out", 1.0)
    farm.command("ready", "--node")
    eventually(lambda: ADDRESSES["mel"] in farm.answers(), "mel to be back", 1.0)


def test_only_the_own_site_can_be_evacuated(farm: Farm) -> None:
    said = farm.command("evacuate-site", "syd", fails=True)
    assert said["error"] == ("nothing changed: this gateway is of the site mel: give the command at a gateway of syd")


def test_a_site_is_evacuated_and_readmitted_over_http(farm: Farm) -> None:
    before = farm.gateway.site
    api = f"127.0.0.1:{free_port()}"
    admin = {"sockets": str(farm.gateway.path.parent), "listen": api, "without_token": "operate"}
    farm.gateway.reload({**before, "admin": admin})
    eventually(lambda: httpx.get(f"http://{api}/readyz").status_code == 200, "the listener", 20.0)

    def post(what: str, name: str) -> httpx.Response:
        return httpx.post(f"http://{api}/api/v1/{what}", json={"site": name}, timeout=20)

    refused = post("evacuate-site", "syd")
    assert (refused.status_code, "this gateway is of the site mel" in refused.json()["error"]) == (409, True)
    done = post("evacuate-site", "mel")
    assert done.status_code == 200, done.text
    eventually(lambda: farm.answers() == {ADDRESSES["syd"]}, "mel to be left out")
    found = httpx.get(f"http://{api}/api/v1/status").json()["gateway"]["evacuation"]
    assert (found["site"], found["by"]) == ("mel", "command")
    assert post("readmit-site", "mel").status_code == 200
    eventually(lambda: ADDRESSES["mel"] in farm.answers(), "mel to be back")
    (last, first, _) = httpx.get(f"http://{api}/api/v1/audit").json()
    assert (first["what"], first["target"], last["what"], last["result"]) == (
        "evacuate-site",
        "mel",
        "readmit-site",
        "done",
    )
    farm.gateway.reload(before)


def test_a_maintenance_window_evacuates_the_site_and_can_be_undone(farm: Farm) -> None:
    before = farm.gateway.site
    began = datetime.now(UTC) - timedelta(minutes=5)
    window = {"from": began.isoformat(), "for": "1h"}
    farm.gateway.reload({**before, "sites": {**before["sites"], "maintenance": [window]}})
    eventually(lambda: farm.answers() == {ADDRESSES["syd"]}, "mel to be left out")
    found = farm.gateway.status()["evacuation"]
    assert (found["by"], found["until"]) == ("window", (began + timedelta(hours=1)).timestamp())
    assert farm.command("evacuate-site", "mel", "--undo")["evacuation"] is None
    eventually(lambda: ADDRESSES["mel"] in farm.answers(), "mel to be back")
    farm.gateway.reload(before)


def test_an_evacuated_site_keeps_its_sessions_and_gets_no_new_client(farm: Farm) -> None:
    with farm.client() as old, farm.client() as new:
        assert old.get("/").status_code == 200
        began = time.monotonic()
        found = farm.command("evacuate-site", "mel", "--no-wait")
        assert found["evacuation"]["phase"] == "resolvers"
        eventually(lambda: farm.answers() == {ADDRESSES["syd"]}, "mel to be left out", 1.0)
        sent = new.get("/a?b=c")
        assert sent.status_code == 302
        assert sent.headers["location"].startswith("http://syd.example.com/a?b=c&gwsite=mel.")
        assert old.get("/").status_code == 200, "who is in stays in"
        status = farm.gateway.status()
        assert status["evacuation"]["left"] >= 1
        mel = status["site_states"]["mel"]
        assert (mel["up"], mel["draining"], mel["evacuated"]) == (True, True, True)

        def phase() -> str:
            assert old.get("/").status_code == 200
            return str(farm.gateway.status()["evacuation"]["phase"])

        eventually(lambda: phase() == "sessions", "resolvers to forget mel")
        assert time.monotonic() - began > 3.0, "the TTL and two seconds"
        text = CliRunner().invoke(main, ["status", str(farm.gateway.path)]).output
        assert "site mel: EVACUATED by command: waiting for 1 sessions and requests" in text
    farm.gateway.upgrade()
    eventually(lambda: farm.gateway.status()["evacuation"] is not None, "the next gateway to know of it")
    done = farm.command("evacuate-site", "mel", "--timeout", "20")
    assert done["evacuation"]["phase"] == "done", "the session has ended"
    assert farm.answers() == {ADDRESSES["syd"]}
    assert farm.command("evacuate-site", "mel", "--undo") == {"site": "mel", "evacuation": None}
    eventually(lambda: farm.gateway.status()["site_states"]["mel"]["evacuated"] is False, "mel to be back")
    eventually(lambda: ADDRESSES["mel"] in farm.answers(), "mel to be in answers", 5.0)
    with farm.client() as client:
        assert client.get("/").status_code == 200
