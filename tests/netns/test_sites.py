"""Three sites of different capacity, each a gateway with a name server, under clients that ask a resolver."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.lab import HERE, PYTHON, Gateway, Lab
from tests.support.programs import needs
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)

CAPACITY = {"gw1": 10, "gw2": 20, "gw3": 30}
"""Requests at once of each site, which take 100 ms each."""
TTL = 1
STALE = 2
RESOLVERS = {5301: TTL, 5302: TTL, 5303: 0, 5304: 0}
"""Ports, and for how long they keep answers. With a TTL of a second, those that keep none stand for very many resolvers."""
UNBOUND = """
server:
  directory: "{directory}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: 127.0.0.1
  port: {port}
  do-not-query-localhost: no
  module-config: "iterator"
  cache-max-ttl: {keeps}
  local-zone: "example.com." nodefault
stub-zone:
  name: "www.example.com."
{servers}
remote-control:
  control-enable: no
"""


def write(lab: Lab, gateway: Gateway) -> None:
    gateway.write(
        None,
        backends={"app": {"servers": [{"address": "127.0.0.1:9000", "max_connections": CAPACITY[gateway.name]}]}},
        routes=[{"site": "spill"}, {"backend": "app"}],
        sites={**gateway.as_site(), "stale_after": f"{STALE}s"},
        dns={
            "listen": f"{gateway.address}:53",
            "response_rate": 0,
            "zones": {
                "www.example.com": {
                    "ns": "ns.example.com",
                    "ttl": f"{TTL}s",
                    "answers": 1,
                    "shift": "50%",
                    "sites": {other.name: other.address for other in lab.gateways},
                }
            },
        },
    )


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("farm")
    directory.chmod(0o755)
    with Lab(directory, gateways=3) as lab:
        for gateway in lab.gateways:
            write(lab, gateway)
            gateway.start(PYTHON, str(HERE / "slow_server.py"), "9000", gateway.name)
            gateway.boot()
        servers = "\n".join(f"  stub-addr: {gateway.address}" for gateway in lab.gateways)
        for port, keeps in RESOLVERS.items():
            config = directory / f"unbound-{port}.conf"
            config.write_text(UNBOUND.format(directory=directory, port=port, keeps=keeps, servers=servers))
            lab.client.start("unbound", "-d", "-c", str(config))
        for gateway in lab.gateways:
            eventually(lambda: "dns 0 uses load 1" in gateway.log.read_text(), "the name server")  # noqa: B023
            eventually(lambda: all(state["load"] is not None for state in states(gateway).values()), "all sites")  # noqa: B023
        eventually(lambda: all(one[2] in CAPACITY for one in clients(lab, 0.1, 20.0)), "the resolvers")
        yield lab


def states(gateway: Gateway) -> dict[str, dict[str, float | None]]:
    """What it knows of the sites."""
    return dict(gateway.status()["site_states"])


def resolvers(keeps: int) -> list[str]:
    return [str(port) for port, kept in RESOLVERS.items() if kept == keeps]


def clients(lab: Lab, seconds: float, rate: float, host: str = "www.example.com") -> list[list[Any]]:
    """Let clients come; see farm_clients.py for what is known of each."""
    ports = resolvers(0) if host.startswith("www") else []
    said = lab.client.run(PYTHON, str(HERE / "farm_clients.py"), str(seconds), str(rate), host, *ports)
    return [json.loads(line) for line in said.splitlines()]


@needs("unbound")
def test_shares_follow_capacity_and_a_dead_site_gets_no_new_client(farm: Lab) -> None:
    clients(farm, 10.0, 80.0)  # until the capacities are measured and the shares have moved
    found = clients(farm, 6.0, 80.0)
    sites = Counter(site for _, _, site, _ in found)
    assert sum(sites[name] for name in CAPACITY) > 0.99 * len(found), sites
    whole = sum(CAPACITY.values())
    for name, capacity in CAPACITY.items():
        assert abs(sites[name] / len(found) - capacity / whole) < 0.1, sites

    # Datagrams between gw1 and gw2 are lost from now on: they hear each other over TCP.
    drop = "add table inet f; add chain inet f in { type filter hook input priority 0; }; add rule inet f in udp dport 7946"
    farm.gateways[0].run("nft", f"{drop} ip saddr {farm.gateways[1].address} drop")
    eventually(lambda: "hearing it over TCP" in farm.gateways[0].log.read_text(), "gw1 to hear gw2 over TCP")
    time.sleep(STALE)
    assert states(farm.gateways[0])["gw2"]["up"] is True

    dead = farm.gateways[2]
    process = farm.client.start(PYTHON, str(HERE / "farm_clients.py"), "6", "80", "www.example.com", *resolvers(TTL))
    time.sleep(1.0)
    killed = time.time()
    dead.signal_all(signal.SIGKILL)
    assert process.stdout is not None
    came = [json.loads(line) for line in process.stdout.read().splitlines()]
    last = max(began for began, address, _, _ in came if address == dead.address)
    assert last - killed < TTL + STALE + 0.5
    assert [one for one in came if one[0] > killed + TTL + STALE + 0.5]


def test_an_overloaded_site_spills_and_recovers(farm: Lab) -> None:
    """1.5 times what gw1 can carry, to its address: the others take the rest, before it is full."""
    gw1 = farm.gateways[0]
    found = clients(farm, 18.0, 1.5 * CAPACITY["gw1"] * 10, gw1.address)
    begin = found[0][0]
    seconds = [[one for one in found if int(one[0] - begin) == second] for second in range(18)]
    away = [sum(sent for *_, sent in each) / max(1, len(each)) for each in seconds]
    late = away[11:]
    assert 0.25 < sum(late) / len(late) < 0.8, away
    assert max(late) - min(late) < 0.4, away
    refused = [sum(site not in CAPACITY for _, _, site, _ in each) / max(1, len(each)) for each in seconds]
    # Without spill a third of them is refused for good; a busy machine makes the servers themselves slower.
    assert sum(refused[11:]) / len(refused[11:]) < 0.15, f"it is not full any more: {refused}"
    eventually(lambda: not any(one[3] for one in clients(farm, 0.5, 20.0, gw1.address)), "gw1 to keep its clients")
