"""Which sites are near a client: by networks, and by the place where a MaxMind file has it."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import dns.edns
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balance.site_shares import SiteState
from gateway.config.dns import Dns
from gateway.config.places import Database, Place, Whereabouts
from gateway.dns.nearest import ASKING, Latencies, Near, Nearest
from gateway.dns.networks import Networks
from gateway.dns.responder import Responder
from gateway.dns.table import Table
from tests.dns.zones import KEY, ask, lines, query, said
from tests.support.places import PLACES, write

SITES: dict[str, Any] = {
    "ns": "ns1.example.com",
    "policy": "nearest",
    "answers": 1,
    "sites": {"mel": "192.0.2.10", "syd": "192.0.2.20", "par": "192.0.2.30"},
    "networks": {"mel": "198.51.100.0/28"},
    "places": {
        "mel": {"continents": ["OC"], "at": [-37.8, 145.0]},
        "syd": {"countries": ["AU"], "at": [-33.9, 151.2]},
        "par": {"at": [48.9, 2.4]},
    },
}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    model = Dns.model_validate(
        {"listen": "127.0.0.1:53", "maxmind_file": "/a.mmdb", "zones": {"www.example.com": SITES}},
        context={"directory": tmp_path},
    )
    found = Table.of(model, {}, 1, database=Database.of(write(tmp_path / "a.mmdb", PLACES)))
    found.move({}, 0.0)
    return found


def first(table: Table, network: str, bits: int) -> tuple[str, int]:
    """The first address for a client subnet, and the scope."""
    response = said(Responder(table.find, KEY), "www.example.com", options=[dns.edns.ECSOption(network, bits)])
    (option,) = [option for option in response.options if isinstance(option, dns.edns.ECSOption)]
    return lines(response)[0].rpartition(" ")[2], option.scopelen


def test_networks_come_first_then_countries_continents_and_distance(table: Table) -> None:
    assert first(table, "198.51.100.1", 32) == ("192.0.2.10", 28)
    assert first(table, "198.51.100.77", 32) == ("192.0.2.20", 26), "the largest block without the network of mel"
    assert first(table, "203.0.113.0", 25) == ("192.0.2.30", 25)
    assert first(table, "203.0.113.128", 25) == ("192.0.2.10", 25), "Singapore is nearer to Melbourne"
    assert first(table, "2001:db8:5::", 48) == ("192.0.2.10", 48), "New Zealand"


def test_what_is_known_of_an_address_decides(table: Table) -> None:
    found, scope = first(table, "203.0.113.0", 24)
    assert (found, scope) == ("192.0.2.30", 25), "the resolver is told to ask with more bits"


def test_the_next_nearest_site_takes_the_clients_of_one_that_is_down(table: Table) -> None:
    table.move({"par": SiteState(up=False)}, 1.0)
    assert first(table, "203.0.113.0", 25)[0] == "192.0.2.10"
    table.move({"par": SiteState(up=False), "mel": SiteState(draining=True)}, 2.0)
    assert first(table, "203.0.113.0", 25)[0] == "192.0.2.20"


class Broken(Database):
    """A file that was damaged where it was not tried."""

    def __init__(self) -> None:
        super().__init__(-1)

    def find(self, address: object) -> tuple[Whereabouts, int]:
        raise ValueError(address)


def test_a_damaged_record_leaves_clients_without_a_preference() -> None:
    found = Nearest(Networks([(ip_network("10.0.0.0/8"), "mel")]), {"syd": Place(countries=("AU",))}, Broken())
    assert found.find(ip_address("192.0.2.1"), 24) == Near((), 32)
    assert found.find(ip_address("10.0.0.1"), 24).sites == ("mel",)
    assert found.failed == 1


@pytest.fixture(scope="module")
def nearest(tmp_path_factory: pytest.TempPathFactory) -> Nearest:
    places = {name: Place.model_validate(place) for name, place in SITES["places"].items()}
    content = write(tmp_path_factory.mktemp("places") / "a.mmdb", PLACES)
    return Nearest(Networks([(ip_network("198.51.100.0/28"), "mel")]), places, Database.of(content))


NUMBERS = st.integers(0, 2**32 - 1) | st.sampled_from(["198.51.100.0", "203.0.113.0"]).flatmap(
    lambda text: st.integers(int(ip_address(text)), int(ip_address(text)) + 255)
)


@given(NUMBERS, st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_all_addresses_within_the_scope_get_the_same(nearest: Nearest, number: int, known: int, noise: int) -> None:
    """RFC 7871 section 7.2.1, for both sources together."""
    whole = nearest.find(ip_address(number), 32)
    rest = 32 - whole.scope
    other = ip_address((number >> rest << rest) | (noise & ((1 << rest) - 1)))
    assert nearest.find(other, 32) == whole
    part = nearest.find(ip_address(number), known)
    assert part == nearest.find(ip_address(number >> (32 - known) << (32 - known) if known else 0), known)


def test_the_resolver_that_asks_gets_the_site_with_the_shortest_time() -> None:
    zone = {**SITES, "networks": {"mel": "192.0.2.9/32"}, "places": {}, "latency": True}
    model = Dns.model_validate({"listen": "127.0.0.1:53", "zones": {"www.example.com": zone}})
    table = Table.of(model, {}, 1)
    table.move({}, 0.0)
    table.latencies.use({"192.0.2.1": {"mel": 30.0, "par": 9.5, "syd": 20.0, "other": 1.0}, "192.0.2.2": {"syd": 1.0}})
    responder = Responder(table.find, KEY)

    def asked(client: str, **options: Any) -> str:
        return lines(ask(responder, query("www.example.com", **options), client))[0].rpartition(" ")[2]

    assert {asked("192.0.2.1") for _ in range(10)} == {"192.0.2.30"}
    assert len({asked("192.0.2.2") for _ in range(10)}) == 3, "one time says nothing"
    subnet = [dns.edns.ECSOption("192.0.2.1", 32)]
    assert len({asked("192.0.2.7", options=subnet) for _ in range(10)}) == 3, "a client subnet is no resolver"
    assert asked("192.0.2.9") == "192.0.2.10", "networks come first"
    assert set(table.latencies.asking) == {"192.0.2.1", "192.0.2.2"}
    table.move({"par": SiteState(up=False)}, 1.0)
    assert asked("192.0.2.1") == "192.0.2.20", "the next nearest"
    table.latencies.forget()
    asked("192.0.2.1")
    table.latencies.forget()
    assert table.latencies.asking == ("192.0.2.1",)
    assert Table.of(model, {}, 2, table).latencies is table.latencies, "over a reload"


def test_so_many_resolvers_are_remembered() -> None:
    found = Latencies()
    for number in range(5000):
        found.find(ip_address(number), ())
    assert len(found.asking) == ASKING
