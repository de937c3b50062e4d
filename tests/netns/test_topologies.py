"""The sample topologies of conf/, started as they are there: only where a gateway keeps its state is this machine's."""

import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.netns.lab import HERE, KEY, PYTHON, Gateway, Lab
from tests.support.programs import needs
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(90)

CONF = HERE.parents[1] / "conf"
INTERNAL = "http://192.0.2.20:8000/orders"


def write(gateway: Gateway, file: str) -> None:
    """Write a sample file for a gateway, with its pages and keys."""
    text = (CONF / file).read_text()
    text = re.sub("^node: gw1$", f"node: {gateway.name}", text, flags=re.MULTILINE)
    (gateway.directory / "site.yaml").write_text(f"{text}\nadmin: {{sockets: {gateway.directory}}}\nstate: state\n")
    shutil.copytree(CONF / "pages", gateway.directory / "pages", dirs_exist_ok=True)
    for name in ("cluster.key", "sites.key"):
        (gateway.directory / name).touch(mode=0o600)
        (gateway.directory / name).write_bytes(KEY)


def boot(lab: Lab, file: str) -> None:
    """Start both gateways by a sample file."""
    for gateway in lab.gateways:
        write(gateway, file)
        gateway.boot()
    for gateway in lab.gateways:
        gateway.wait_ready()


def serve(lab: Lab, name: str, address: str, *url: str, port: int = 8080) -> None:
    """Run a server at an address of its own, on the clients' host."""
    if not lab.client.has(address):
        lab.client.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
    lab.client.start(PYTHON, str(CONF / "docker" / "tier.py"), address, str(port), name, *url)


def get(lab: Lab, url: str, *options: str) -> str:
    """What a client gets: the status and the body."""
    return lab.client.run("curl", "-s", "--max-time", "5", "-w", " %{http_code}", *options, url)


def named(lab: Lab, url: str, names: set[str], *options: str) -> None:
    """Wait until all of these servers have answered."""
    seen: set[str] = set()

    def all_seen() -> bool:
        seen.add(get(lab, url, *options))
        return names <= seen

    eventually(all_seen, f"answers of {names}, not {seen}", 30.0)


@pytest.fixture
def lab(directory: Path):
    with Lab(directory, witness=True) as made:
        made.start_witness()
        yield made


@needs("curl")
def test_minimal(directory: Path) -> None:
    with Lab(directory, gateways=1) as lab:
        (gateway,) = lab.gateways
        for number in (1, 2):
            gateway.start(PYTHON, str(CONF / "docker" / "tier.py"), "127.0.0.1", f"900{number}", f"server{number}")
        write(gateway, "minimal.yaml")
        gateway.boot()
        named(lab, f"http://{gateway.address}:8080/", {"server1 200", "server2 200"})


@needs("curl")
def test_two_gateways_and_three_tiers(lab: Lab) -> None:
    serve(lab, "web1", "192.0.2.11", INTERNAL)
    serve(lab, "web2", "192.0.2.12", INTERNAL)
    serve(lab, "app1", "192.0.2.21")
    serve(lab, "app2", "192.0.2.22")
    gw1, gw2 = lab.gateways
    boot(lab, "three-tier.yaml")
    eventually(lambda: gw1.has("192.0.2.10") and gw2.has("192.0.2.20"), "each address to be where it is preferred")
    answers = {f"web{web} 200 app{app} 200" for web in (1, 2) for app in (1, 2)}
    named(lab, "http://192.0.2.10/", answers)
    assert get(lab, INTERNAL) == " 403", "only the web servers may"
    gw2.signal_all(signal.SIGKILL)
    eventually(lambda: gw1.has("192.0.2.20"), "gw1 to have both addresses")
    named(lab, "http://192.0.2.10/", answers)
    gw1.signal_all(signal.SIGKILL)

    eventually(lambda: not any(gateway.pids() for gateway in lab.gateways), "the gateways to be gone")
    boot(lab, "two-gateways.yaml")
    eventually(lambda: gw1.has("192.0.2.10") or gw2.has("192.0.2.10"), "the address to be owned")
    named(lab, "http://192.0.2.10/healthz", {"web1 200", "web2 200"})


@needs("curl", "dig")
def test_a_farm_of_farms(directory: Path) -> None:
    with Lab(directory) as lab:
        melbourne, sydney = lab.gateways
        for name, address in (("m1", "11"), ("m2", "12"), ("s1", "21"), ("s2", "22")):
            serve(lab, name, f"192.0.2.{address}")
        for gateway, file in ((melbourne, "melbourne"), (sydney, "sydney")):
            write(gateway, f"farm-of-farms/{file}.yaml")
            gateway.boot()

        def addresses() -> set[str]:
            words = ("dig", "+short", "+tries=1", "+time=1", f"@{melbourne.address}", "www.example.com")
            return set(lab.client.run(*words).split())

        def up() -> bool:
            return all(state["up"] for state in melbourne.status()["site_states"].values())

        eventually(up, "melbourne to hear sydney", 30.0)
        eventually(lambda: addresses() == {"192.0.2.1", "192.0.2.2"}, "both sites in the answer")
        named(lab, "http://192.0.2.1/", {"m1 200", "m2 200"})
        where = ("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}")
        eventually(
            lambda: get(lab, "http://192.0.2.1/archive/x", *where).startswith("302 http://192.0.2.2/archive/x?gwsite="),
            "what only sydney has",
        )
        sydney.signal_all(signal.SIGKILL)
        eventually(lambda: addresses() == {"192.0.2.1"}, "sydney to be left out", 30.0)
        assert get(lab, "http://192.0.2.1/archive/x").startswith("m")
