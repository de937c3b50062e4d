"""What stands in the place of dns: entries."""

import pytest

from gateway.config import Snapshot
from gateway.config.address import Address
from gateway.config.discovery import Found, Kind, Member, Question, questions
from tests.config.conftest import BASE, Load, Refuse

APP = Address("dns", "app.internal", 8080)
POOL = Address("dns", "_http._tcp.app.internal")


def site(*servers: str) -> str:
    """A site whose backend app has these servers, and a last one that is no name's."""
    return BASE.replace('"127.0.0.1:1"', ", ".join([*servers, '"127.0.0.1:1"']))


def found(address: Address, kind: Kind, *members: Member) -> Found:
    return {Question(address, kind): members}


def member(ip: str, port: int = 8080, host: str = "app.internal", **more: object) -> Member:
    return Member(ip, port, host, **more)  # type: ignore[arg-type]


def servers(snapshot: Snapshot) -> list[str]:
    return [server.name for server in snapshot.site.backends["app"].servers]


def test_the_questions_for_entries(load_text: Load) -> None:
    loaded = load_text(site('"dns:app.internal:8080"', "{name: pool, address: 'dns:_http._tcp.app.internal'}"))
    wanted = {Question(APP, "A"), Question(APP, "AAAA"), Question(POOL, "SRV")}
    assert questions(loaded.site) == wanted
    assert Snapshot.first(loaded).questions == wanted


def test_before_any_answer_there_are_no_servers(load_text: Load) -> None:
    snapshot = Snapshot.first(load_text(site('"dns:app.internal:8080"')))
    assert servers(snapshot) == ["127.0.0.1:1"]
    assert snapshot.slots.keys() == snapshot.resolved.keys() == {("app", "127.0.0.1:1")}


def test_every_address_is_a_server_with_the_keys_of_its_entry(load_text: Load) -> None:
    entry = "{address: 'dns:app.internal:8080', weight: 7, max_connections: 5, backup: true}"
    answers = {
        **found(APP, "A", member("10.0.0.2"), member("10.0.0.1")),
        **found(APP, "AAAA", member("2001:db8::1")),
    }
    snapshot = Snapshot.first(load_text(site(entry)), answers)
    assert servers(snapshot) == [
        "127.0.0.1:1",
        "app.internal-10.0.0.1",
        "app.internal-10.0.0.2",
        "app.internal-2001:db8::1",
    ]
    server = snapshot.site.backends["app"].servers[3]
    # Its Host in checks is the name, and it is found where the record says.
    assert server.address == Address("tcp", "app.internal", 8080)
    assert snapshot.resolved["app", server.name] == ("2001:db8::1", 8080)
    assert (server.weight, server.max_connections, server.backup) == (7, 5, True)


def test_services_have_ports_weights_and_priorities(load_text: Load) -> None:
    answers = found(
        POOL,
        "SRV",
        member("10.0.0.1", 1001, "a.internal", weight=9),
        member("10.0.0.1", 1002, "a.internal", weight=None, backup=True),
        member("2001:db8::1", 1003, "b.internal"),
    )
    text = site("{name: pool, address: 'dns:_http._tcp.app.internal', weight: 3}")
    snapshot = Snapshot.first(load_text(text), answers)
    assert servers(snapshot)[1:] == ["pool-10.0.0.1:1001", "pool-10.0.0.1:1002", "pool-2001:db8::1:1003"]
    one, two, three = snapshot.site.backends["app"].servers[1:]
    assert [(s.weight, s.backup) for s in (one, two, three)] == [(9, False), (3, True), (3, False)]
    assert snapshot.resolved["app", two.name] == ("10.0.0.1", 1002)


def test_the_same_file_with_other_servers(load_text: Load) -> None:
    loaded = load_text(site('"dns:app.internal:8080"'))
    first = Snapshot.first(loaded, found(APP, "A", member("10.0.0.1"), member("10.0.0.2")))
    second = first.follow(loaded, found(APP, "A", member("10.0.0.2"), member("10.0.0.3")))
    assert second.version == first.version
    assert second.questions == first.questions
    assert servers(second) == ["127.0.0.1:1", "app.internal-10.0.0.2", "app.internal-10.0.0.3"]
    stays = "app", "app.internal-10.0.0.2"
    assert second.slots[stays] == first.slots[stays]
    assert second.slots["app", "app.internal-10.0.0.3"] not in first.slots.values()
    assert second.next(loaded).version == first.version + 1


def test_long_names_are_cut_and_stay_different(load_text: Load) -> None:
    hosts = [f"{'x' * 56}{i}.internal"[-63:] for i in range(2)]
    addresses = [Address("dns", host, 80) for host in hosts]
    answers = {Question(address, "A"): (member("10.0.0.1", 80, address.host),) for address in addresses}
    # Names as long as allowed, that differ in their last character only.
    entries = [f"{{name: {'n' * 63}{i}, address: 'dns:{host}:80'}}" for i, host in enumerate(hosts)]
    names = servers(Snapshot.first(load_text(site(*entries)), answers))[1:]
    assert len(set(names)) == 2
    assert all(len(name) == 64 and name.endswith("-10.0.0.1") for name in names)


def test_a_name_in_the_site_file_keeps_its_server(load_text: Load) -> None:
    text = site('"dns:app.internal:8080"', "{name: app.internal-10.0.0.1, address: '10.9.9.9:1'}")
    snapshot = Snapshot.first(load_text(text), found(APP, "A", member("10.0.0.1"), member("10.0.0.2")))
    assert servers(snapshot) == ["app.internal-10.0.0.1", "127.0.0.1:1", "app.internal-10.0.0.2"]
    assert snapshot.resolved["app", "app.internal-10.0.0.1"] == ("10.9.9.9", 1)


def test_one_name_twice_needs_names(refuse: Refuse, load_text: Load) -> None:
    refuse(site('"dns:app.internal:80"', '»"dns:app.internal:81"'), "the server name app.internal is used twice")
    load_text(site('"dns:app.internal:80"', "{name: other, address: 'dns:app.internal:81'}"))


@pytest.mark.parametrize(
    "resolver, message",
    [
        ("{nameservers: »[]}", "expected at least one"),
        ("{nameservers: [»ns.example.com]}", "ns.example.com is not an IP address"),
        ("{timeout: »0s}", "must be at least 1ms"),
    ],
)
def test_mistakes_in_the_resolver(refuse: Refuse, resolver: str, message: str) -> None:
    refuse(f"{BASE}resolver: {resolver}\n", message)
