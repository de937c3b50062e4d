"""Three sites, each a gateway with a name server, between which the network is cut, and which measure how far a
resolver is.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.lab import HERE, PYTHON, Gateway, Lab
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)

STALE = 2
KEEP = 10
NAMES = {"all": {}, "near": {"policy": "nearest", "latency": True, "answers": 1}}


def write(lab: Lab, gateway: Gateway) -> None:
    addresses = {other.name: other.address for other in lab.gateways}
    gateway.write(
        None,
        sites={**gateway.as_site(), "stale_after": f"{STALE}s", "probe": {"rate": "5/s", "keep": f"{KEEP}s"}},
        dns={
            "listen": f"{gateway.address}:53",
            "response_rate": 0,
            "zones": {
                "example.com": {
                    "ns": "ns.example.net",
                    "names": {name: {"sites": addresses, "ttl": "1s", **more} for name, more in NAMES.items()},
                }
            },
        },
    )


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("sites")
    directory.chmod(0o755)
    with Lab(directory, gateways=3) as lab:
        for gateway in lab.gateways:
            write(lab, gateway)
            gateway.boot()
        for gateway in lab.gateways:
            eventually(lambda: "dns 0 uses load 1" in gateway.log.read_text(), "the name server")  # noqa: B023
            eventually(lambda: up(gateway) == {"gw1", "gw2", "gw3"}, "all sites")  # noqa: B023
        yield lab


def up(gateway: Gateway) -> set[str]:
    """The sites that it hears."""
    return {name for name, state in gateway.status()["site_states"].items() if state["up"] and state["trust"] == 1.0}


def ask(lab: Lab, gateway: Gateway, name: str) -> list[str]:
    """The gateways whose addresses its name server gives the client, the best first."""
    words = "dig", "+short", "+time=2", "+tries=1", f"@{gateway.address}", f"{name}.example.com", "A"
    names = {other.address: other.name for other in lab.gateways}
    return [names[line] for line in lab.client.run(*words).split()]


def test_two_sites_that_see_a_third_differently_converge(farm: Lab) -> None:
    """gw1 hears nothing of gw3 by either way; gw2, between them, hears both. Each answers by what it hears."""
    gw1, gw2, gw3 = farm.gateways
    rules = "add table inet f; add chain inet f in { type filter hook input priority 0; }; "
    rules += f"add rule inet f in ip saddr {gw3.address} th dport 7946 drop; "
    rules += f"add rule inet f in ip saddr {gw3.address} tcp sport 7946 drop"
    gw1.run("nft", rules)
    eventually(lambda: set(ask(farm, gw1, "all")) == {"gw1", "gw2"}, "gw1 to do without gw3")
    assert set(ask(farm, gw2, "all")) == {"gw1", "gw2", "gw3"}
    assert "gw3" in up(gw2)
    assert "gw3" not in up(gw1)
    gw1.run("nft", "delete table inet f")
    healed = time.monotonic()
    eventually(
        lambda: all(set(ask(farm, one, "all")) == {"gw1", "gw2", "gw3"} for one in farm.gateways), "all to agree"
    )
    assert time.monotonic() - healed < STALE + 1.0
    eventually(lambda: all(up(one) == {"gw1", "gw2", "gw3"} for one in farm.gateways), "all to hear all")


def test_a_site_that_all_lose_is_lost_by_all_and_found_by_all(farm: Lab) -> None:
    """The network between gw3 and the others is cut: both parts answer by what is left to them, and agree again."""
    gw1, gw2, gw3 = farm.gateways
    rules = "add table inet f; add chain inet f in { type filter hook input priority 0; }; "
    rules += f"add rule inet f in ip saddr {{ {gw1.address}, {gw2.address} }} drop; "
    rules += "add chain inet f out { type filter hook output priority 0; }; "
    rules += f"add rule inet f out ip daddr {{ {gw1.address}, {gw2.address} }} drop"
    gw3.run("nft", rules)
    for gateway, left in ((gw1, {"gw1", "gw2"}), (gw2, {"gw1", "gw2"}), (gw3, {"gw3"})):
        eventually(lambda: set(ask(farm, gateway, "all")) == left, f"{gateway.name} to have {left}")  # noqa: B023
    gw3.run("nft", "delete table inet f")
    eventually(
        lambda: all(set(ask(farm, one, "all")) == {"gw1", "gw2", "gw3"} for one in farm.gateways), "all to agree"
    )


def test_the_nearest_site_is_that_with_the_shortest_time_to_the_resolver(farm: Lab) -> None:
    gw1 = farm.gateways[0]
    delays = farm.directory / "delays"

    def say(**ms: int) -> None:
        fresh = Path(f"{delays}.new")
        fresh.write_text(json.dumps({one.address: ms[one.name] for one in farm.gateways}))
        fresh.rename(delays)

    say(gw1=150, gw2=10, gw3=80)
    said, began = farm.directory / "resolver", time.monotonic()
    with said.open("wb") as log:
        farm.client.start(PYTHON, str(HERE / "delaying_resolver.py"), farm.client.address, str(delays), log=log)
    for gateway in farm.gateways:
        eventually(lambda: {ask(farm, gateway, "near")[0] for _ in range(5)} == {"gw2"}, "the nearest")  # noqa: B023
    words = PYTHON, "-m", "gateway", "explain", str(gw1.directory / "site.yaml"), "dns", "near.example.com"
    why = gw1.run(*words, "--client", farm.client.address, "--live")
    assert "the client prefers gw2: " in why
    assert " ms from its resolver" in why
    probes = said.read_text().split()
    rounds = 1 + int((time.monotonic() - began) / (KEEP / 2))
    assert all(1 <= probes.count(one.address) <= 1 + 2 * rounds for one in farm.gateways), (
        f"one probe in half of {KEEP} seconds, and a second one where the first was not answered: {probes}"
    )
    say(gw1=150, gw2=120, gw3=20)
    eventually(lambda: {ask(farm, gw1, "near")[0] for _ in range(5)} == {"gw3"}, "what was measured anew", 2.5 * KEEP)
