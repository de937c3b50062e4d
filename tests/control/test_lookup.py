"""Questions to a real name server."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.resolver
import pytest

from gateway.config.address import server_address
from gateway.config.discovery import Kind, Member, Question
from gateway.config.model import Resolver
from gateway.control import lookup
from gateway.control.lookup import Answer, LookupFailedError, look_up
from tests.support.backend_server import ROOT
from tests.support.name_server import REFUSES, SILENT, NameServer
from tests.support.waiting import free_udp_port

POOL = "_http._tcp.app.internal"


ALONE = """
import asyncio, sys
from gateway.config.address import server_address
from gateway.config.discovery import Question
from gateway.config.model import Resolver
from gateway.control.lookup import look_up

def find_spec(name, path=None, target=None):
    raise ImportError(f"{name} is out of reach")

resolver = Resolver.model_validate({"nameservers": [sys.argv[1]]})     # a site file is read before
sys.meta_path[:] = [type("Locked", (), {"find_spec": staticmethod(find_spec)})]
question = Question(server_address("dns:_http._tcp.app.internal"), "SRV")
print(*(member.ip for member in asyncio.run(look_up(question, resolver)).members))
"""


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer(ttl=7) as running:
        yield running


@pytest.fixture
def resolver(server: NameServer) -> Resolver:
    return Resolver.model_validate(server.resolver)


def question(kind: Kind = "A", text: str = "dns:app.internal:80") -> Question:
    return Question(server_address(text), kind)


async def test_addresses(server: NameServer, resolver: Resolver) -> None:
    server.records["app.internal", "A"] = ["10.0.0.2", "10.0.0.1"]
    server.records["app.internal", "AAAA"] = ["2001:db8:0::1"]
    expected = tuple(Member(ip, 80, "app.internal") for ip in ("10.0.0.1", "10.0.0.2"))
    assert await look_up(question("A"), resolver) == Answer(expected, 7.0)
    assert (await look_up(question("AAAA"), resolver)).members == (Member("2001:db8::1", 80, "app.internal"),)


async def test_no_such_name_and_no_such_records(server: NameServer, resolver: Resolver) -> None:
    assert (await look_up(question(), resolver)).members == ()
    server.records["app.internal", "A"] = ["10.0.0.1"]
    assert (await look_up(question("AAAA"), resolver)).members == ()


async def test_the_shortest_ttl_of_a_chain_counts(server: NameServer, resolver: Resolver) -> None:
    server.records["app.internal", "A"] = ["10.0.0.1"]
    server.chains["app.internal"] = ("www.internal", 3)
    assert await look_up(question(), resolver) == Answer((Member("10.0.0.1", 80, "app.internal"),), 3.0)


async def test_an_alias_that_comes_alone_is_followed(server: NameServer, resolver: Resolver) -> None:
    """As name servers answer that do not look up what they are not responsible for."""
    server.aliases["app.internal"] = ("www.internal", 5)
    server.aliases["www.internal"] = ("real.internal", 3)
    server.records["real.internal", "A"] = ["10.0.0.1"]
    assert await look_up(question(), resolver) == Answer((Member("10.0.0.1", 80, "app.internal"),), 3.0)
    assert (await look_up(question("AAAA"), resolver)).members == ()


async def test_aliases_that_lead_nowhere_end(server: NameServer, resolver: Resolver) -> None:
    server.aliases["app.internal"] = ("app.internal", 5)
    with pytest.raises(LookupFailedError):
        await look_up(question(), resolver)
    server.aliases = {f"a{i}.internal": (f"a{i + 1}.internal", 5) for i in range(100)} | {
        "app.internal": ("a0.internal", 5)
    }
    with pytest.raises(LookupFailedError, match="more than 8 aliases"):
        await look_up(question(), resolver)
    server.aliases = {"app.internal": ("gone.internal", 5)}
    assert (await look_up(question(), resolver)).members == ()


@pytest.mark.parametrize(
    "mood, why",
    [(REFUSES, "name resolution failed"), (SILENT, "no answer in time")],
)
async def test_failures(server: NameServer, resolver: Resolver, mood: str, why: str) -> None:
    server.records["app.internal", "A"] = ["10.0.0.1"]
    server.mood = mood
    with pytest.raises(LookupFailedError, match=why):
        await look_up(question(), resolver)


@pytest.mark.slow
async def test_the_next_name_server_is_asked_when_one_does_not_answer(server: NameServer) -> None:
    server.records["app.internal", "A"] = ["10.0.0.1"]
    dead = f"127.0.0.1:{free_udp_port()}"
    resolver = Resolver.model_validate({"nameservers": [dead, f"127.0.0.1:{server.port}"], "timeout": "4s"})
    assert len((await look_up(question(), resolver)).members) == 1


async def test_without_name_servers_it_is_the_systems_that_are_asked(
    server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resolv.conf"
    read = dns.resolver.BaseResolver.read_resolv_conf

    def read_ours(self: dns.resolver.BaseResolver, _: object) -> None:
        self.port = server.port  # no resolv.conf can say that
        read(self, str(path))

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", read_ours)
    server.records["app.internal", "A"] = ["10.0.0.1"]
    path.write_text("nameserver 127.0.0.1\nsearch internal\n")
    assert len((await look_up(question(text="dns:app:80"), Resolver())).members) == 1
    path.write_text("nameserver 127.0.0.1\nsearch elsewhere\n")
    assert (await look_up(question(text="dns:app:80"), Resolver())).members == ()


async def test_services(server: NameServer, resolver: Resolver) -> None:
    server.records[POOL, "SRV"] = [
        "10 60 1001 a.internal.",
        "10 20 1002 b.internal.",
        "20 0 1003 a.internal.",
    ]
    server.records["a.internal", "A"] = ["10.0.0.1"]
    server.records["b.internal", "A"] = ["10.0.0.2"]
    server.records["b.internal", "AAAA"] = ["2001:db8::2"]
    answer = await look_up(question("SRV", f"dns:{POOL}"), resolver)
    assert answer.members == (
        Member("10.0.0.1", 1001, "a.internal", weight=60),
        Member("10.0.0.1", 1003, "a.internal", weight=1, backup=True),
        Member("10.0.0.2", 1002, "b.internal", weight=20),
        Member("2001:db8::2", 1002, "b.internal", weight=20),
    )
    assert answer.ttl == 7.0


async def test_equal_weights_say_nothing_and_large_ones_keep_their_proportions(
    server: NameServer, resolver: Resolver
) -> None:
    server.records["a.internal", "A"] = ["10.0.0.1"]
    server.records[POOL, "SRV"] = ["0 33 1 a.internal.", "0 33 2 a.internal."]
    answer = await look_up(question("SRV", f"dns:{POOL}"), resolver)
    assert [(member.port, member.weight) for member in answer.members] == [(1, None), (2, None)]
    server.records[POOL, "SRV"] = ["0 65535 1 a.internal.", "0 32768 2 a.internal.", "0 1 3 a.internal."]
    answer = await look_up(question("SRV", f"dns:{POOL}"), resolver)
    assert [(member.port, member.weight) for member in answer.members] == [(1, 256), (2, 128), (3, 1)]


async def test_a_port_in_the_file_counts_and_a_dot_is_no_server(server: NameServer, resolver: Resolver) -> None:
    server.records[POOL, "SRV"] = ["0 0 1001 a.internal."]
    server.records["a.internal", "A"] = ["10.0.0.1"]
    answer = await look_up(question("SRV", f"dns:{POOL}:8080"), resolver)
    assert [member.port for member in answer.members] == [8080]
    server.records[POOL, "SRV"] = ["0 0 0 ."]
    assert (await look_up(question("SRV", f"dns:{POOL}"), resolver)).members == ()


async def test_more_records_than_the_limit(
    server: NameServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.records["app.internal", "A"] = [f"10.0.0.{i}" for i in range(1, 6)]
    monkeypatch.setattr(lookup, "MAX_RECORDS", 4)
    with pytest.raises(LookupFailedError, match="5 records, more than 4"):
        await look_up(question(), resolver)


@pytest.mark.slow
async def test_everything_needed_is_loaded_before_privileges_are_given_up(server: NameServer) -> None:
    server.records[POOL, "SRV"] = ["0 0 1001 a.internal.", "0 1 1001 c.internal."]
    server.records["a.internal", "A"] = ["10.0.0.1"]
    server.records["b.internal", "AAAA"] = ["2001:db8::1"]
    server.chains["c.internal"] = ("b.internal", 1)
    server.records["c.internal", "AAAA"] = ["2001:db8::1"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ALONE, f"127.0.0.1:{server.port}", stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30.0)
    assert output.decode().split() == ["10.0.0.1", "2001:db8::1"]
