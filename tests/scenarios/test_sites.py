"""Two sites that know each other's load and send each other visitors: two whole gateways."""

import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.control.sites import CONTEXT
from loadagent.report import Report, encode
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import run
from tests.support.raw import RawClient, Response
from tests.support.waiting import eventually, free_udp_port

Servers = Callable[..., list[BackendServer]]
Start = Callable[[Site, Site], list[GatewayProcess]]

KEY = "0123456789abcdef"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a gateway of each site."""
    with ExitStack() as stack:

        def started(mel: Site, syd: Site) -> list[GatewayProcess]:
            gateways = []
            for name, description in (("mel", mel), ("syd", syd)):
                (tmp_path / name).mkdir()
                gateways.append(GatewayProcess(tmp_path / name, description))
            with ThreadPoolExecutor() as both:
                for gateway in both.map(stack.enter_context, gateways):
                    gateway.wait_for_log("control uses load 1")
            return gateways

        yield started


class Farm:
    """The site files of mel and syd: `mel` sends who comes while it is more than half full to the best site."""

    def __init__(self, directory: Path, servers: list[BackendServer]) -> None:
        self.key = directory / "sites.key"
        self.key.touch(mode=0o600)
        self.key.write_text(KEY)
        self.ports = {"mel": free_udp_port(), "syd": free_udp_port()}
        self.mel, self.syd = (site([server]) for server in servers)
        for name, description in (("mel", self.mel), ("syd", self.syd)):
            description["backends"]["app"]["servers"][0]["max_connections"] = 2
            description["routes"] = [{"match": {"when": "load('app') >= 0.5"}, "site": "auto"}, {"backend": "app"}]
            description["node"] = f"gateway of {name}"
            description["workers"] = 1
        for name, description in (("mel", self.mel), ("syd", self.syd)):
            description["sites"] = self.section(name)

    def section(self, own: str, **more: Any) -> dict[str, Any]:
        urls = {"mel": self.mel, "syd": self.syd}
        return {
            "self": own,
            "listen": f"127.0.0.1:{self.ports[own]}",
            "peers": {
                name: {"url": f"http://{there['frontends'][0]['listen']}", "report": f"127.0.0.1:{self.ports[name]}"}
                for name, there in urls.items()
            },
            "key_file": str(self.key),
            "stale_after": "2s",
            **more,
        }


class Hanging:
    """A request that its server does not answer, in flight for as long as the block that it is used in."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._client = RawClient(gateway.port)

    def __enter__(self) -> None:
        self._client.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")

    def __exit__(self, *_: object) -> None:
        self._client.reset()  # an end in the first second would be that of a client that waits for its answer


def ask(gateway: GatewayProcess, path: str, *fields: str) -> Response:
    with RawClient(gateway.port) as client:
        return client.get(path, *fields)


def show(gateway: GatewayProcess) -> str:
    """What `gateway status` prints."""
    return run(sys.executable, "-m", "gateway", "status", str(gateway.path))


def target(gateway: GatewayProcess, path: str = "/headers?a=b") -> tuple[int, str] | None:
    """Port and the rest of where a request is sent; None: it is answered here."""
    location = ask(gateway, path).header("Location")
    if location is None:
        return None
    found = urlsplit(location)
    assert found.port is not None
    return found.port, f"{found.path}?{found.query}"


def test_visitors_go_where_there_is_room_and_stay_there(start: Start, start_servers: Servers, tmp_path: Path) -> None:
    farm = Farm(tmp_path, start_servers("one", "two"))
    mel, syd = start(farm.mel, farm.syd)
    assert target(mel) is None
    eventually(lambda: mel.status()["site_states"]["syd"]["backends"] == {"app": 1.0}, "the health of its backends")
    assert re.search(r"^mel \(this one\) +up .*\nsyd +up ", show(mel), re.MULTILINE)
    with Hanging(mel):
        eventually(lambda: target(mel) is not None, "mel to send visitors away", 30.0)
        port, rest = target(mel) or (0, "")
        assert port == syd.port
        assert rest.startswith("/headers?a=b&gwsite=mel.")
        assert ask(mel, "/headers", "Connection: Upgrade", "Upgrade: websocket").status != 302

        arrived = ask(syd, rest)
        assert arrived.body.startswith(b"GET /headers?a=b HTTP/1.1\r\n")  # no server sees the mark
        cookie = arrived.header("Set-Cookie") or ""
        assert cookie.startswith("gwsite=mel.")
        with Hanging(syd):
            # Both are half full: neither has less than the other.
            eventually(lambda: target(mel) is None, "mel to know that syd is no better", 30.0)
            with Hanging(syd):
                eventually(lambda: target(syd) is not None, "syd to send visitors to mel", 30.0)
                kept = ask(syd, "/headers", f"Cookie: {cookie.partition(';')[0]}")
                assert kept.status == 503  # full: but whom mel has sent is not sent back
                assert kept.header("Location") is None


def test_clients_of_a_full_site_are_redirected_to_one_with_room(
    start: Start, start_servers: Servers, tmp_path: Path
) -> None:
    farm = Farm(tmp_path, start_servers("one", "two"))
    farm.mel["routes"] = [{"backend": "app"}]
    farm.mel["qos"] = {"sessions": {"max": 1, "full": {"site": "auto", "status": 429}}}
    mel, syd = start(farm.mel, farm.syd)
    assert ask(mel, "/who").status == 200  # the one session
    eventually(lambda: target(mel) is not None, "mel to know that syd has room", 30.0)
    port, rest = target(mel) or (0, "")
    assert port == syd.port
    assert rest.startswith("/headers?a=b&gwsite=mel.")
    marked = mel_mark(syd, rest)
    assert ask(mel, "/who", "Cookie: " + marked.replace("mel.", "syd.")).status == 302  # not signed
    outcomes = mel.status()["frontends"][0]["outcomes"]
    assert outcomes["sessions_full"] >= 2
    with Hanging(syd), Hanging(syd):
        eventually(lambda: ask(mel, "/who").status == 429, "mel to know that syd is full", 30.0)


def mel_mark(syd: GatewayProcess, rest: str) -> str:
    """The cookie with which syd remembers that mel has sent a visitor."""
    return (ask(syd, rest).header("Set-Cookie") or "").partition(";")[0]


def test_a_site_that_ends_or_falls_silent_gets_no_clients(start: Start, start_servers: Servers, tmp_path: Path) -> None:
    farm = Farm(tmp_path, start_servers("one", "two"))
    mel, syd = start(farm.mel, farm.syd)
    with Hanging(mel):
        eventually(lambda: target(mel) is not None, "syd to be known", 30.0)
        assert syd.terminate() == 0
        eventually(lambda: target(mel) is None, "syd to be forgotten", 30.0)
        at = time.time_ns()

        def say(key: str, sequence: int, name: str = "syd") -> None:
            report = Report(name, at, sequence, time.time_ns(), backend="gw", metrics={"load": 0.1})
            with socket.socket(type=socket.SOCK_DGRAM) as sender:
                sender.sendto(encode(report, key.encode(), CONTEXT), ("127.0.0.1", farm.ports["mel"]))

        for key, name, why in (
            ("another key, as long", "syd", "bad signature"),
            (KEY, "oslo", "there is no other site oslo"),
        ):
            say(key, 1, name)
            mel.wait_for_log(f"site report from 127.0.0.1 refused: .*{why}")
        assert target(mel) is None
        say(KEY, 1)
        eventually(lambda: target(mel) is not None, "the report to be believed", 30.0)
        say(KEY, 1)
        mel.wait_for_log("refused: syd: replayed or overtaken")
        eventually(lambda: target(mel) is None, "its silence to count", 30.0)


def test_sites_that_name_each_other_redirect_no_client_in_circles(
    start: Start, start_servers: Servers, tmp_path: Path
) -> None:
    farm = Farm(tmp_path, start_servers("one", "two"))
    routes = {"mel": "syd", "syd": "mel"}
    for description, other in ((farm.mel, routes["mel"]), (farm.syd, routes["syd"])):
        description["routes"] = [{"match": {"path": "/headers"}, "site": other}, {"backend": "app"}]
    mel, syd = start(farm.mel, farm.syd)
    with RawClient(mel.port) as client:
        sent = client.ask(b"POST /headers HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    assert sent.status == 307
    rest = (sent.header("Location") or "").partition(f":{syd.port}")[2]
    assert ask(syd, rest).body.startswith(b"GET /headers HTTP/1.1\r\n")
    assert target(syd) is not None  # who comes by himself is sent on


def test_sites_come_and_go_with_the_site_file_and_outlive_an_upgrade(
    start: Start, start_servers: Servers, tmp_path: Path
) -> None:
    farm = Farm(tmp_path, start_servers("one", "two"))
    without = {key: value for key, value in farm.mel.items() if key not in ("sites", "routes")}
    mel, _ = start({**without, "routes": [{"backend": "app"}]}, farm.syd)
    taken = socket.socket(type=socket.SOCK_DGRAM)
    with taken:
        taken.bind(("127.0.0.1", farm.ports["mel"]))
        assert "reload refused" in mel.reload(farm.mel)
        mel.wait_for_log(f"cannot listen on 127.0.0.1:{farm.ports['mel']}")
    assert "reloaded" in mel.reload(farm.mel)
    with Hanging(mel):
        eventually(lambda: target(mel) is not None, "syd to be known", 30.0)
        farm.ports["mel"] = free_udp_port()
        assert "reloaded" in mel.reload({**farm.mel, "sites": farm.section("mel", stale_after="500ms")})
        eventually(lambda: target(mel) is None, "syd not to know where mel listens now", 30.0)
    mel.reload({**without, "routes": [{"backend": "app"}]})
    mel.reload(farm.mel)
    mel.upgrade()
    assert mel.wait() == 0  # so that the next client comes to the new one
    with Hanging(mel):
        eventually(lambda: target(mel) is not None, "the new gateway to hear of syd", 30.0)
