"""The name server as a process of the tree, asked by programs that others have written: dig, kdig, unbound."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import psutil
import pytest
import yaml

from loadagent.report import State
from tests.support import hardened
from tests.support.backend_server import BackendServer
from tests.support.ending import end_process
from tests.support.gateway_process import GatewayProcess, site
from tests.support.places import PLACES
from tests.support.places import write as write_places
from tests.support.programs import needs, run, start
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_udp_port
from tests.support.web_farm import Site, ask, both_port, first, sites_of_mel

Servers = Callable[..., list[BackendServer]]

ADDRESSES = {"mel": "192.0.2.10", "syd": "198.51.100.10", "dub": "203.0.113.10"}


def described(servers: list[BackendServer], port: int, **zone: Any) -> dict[str, Any]:
    """Return a site whose name server listens at a port of both families."""
    return {
        **site(servers),
        "dns": {
            "listen": [f"127.0.0.1:{port}", f"[::1]:{port}"],
            "nsid": "gw1",
            "response_rate": 0,
            "zones": {
                "www.example.com": {
                    "ns": ["ns1.example.com"],
                    "sites": dict(ADDRESSES),
                    "networks": {"syd": "198.51.0.0/16"},
                    "https": True,
                    **zone,
                },
                "example.org": {
                    "ns": "ns1.example.com",
                    "records": ["alias CNAME www.example.com.", *(f'big TXT "{i:0200}"' for i in range(30))],
                },
            },
        },
    }


@pytest.fixture
def port() -> int:
    return both_port()


@pytest.fixture
def gateway(start_servers: Servers, tmp_path: Path, port: int) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, described(start_servers("one"), port)) as process:
        process.wait_for_log("dns 0 uses load 1")
        yield process


@pytest.fixture
def lent(start_servers: Servers, lend_gateway: Callable[..., GatewayProcess], port: int) -> GatewayProcess:
    gateway = lend_gateway(described(start_servers("one"), port))
    gateway.wait_for_log("dns 0 uses load ")
    return gateway


@needs("dig")
@pytest.mark.usefixtures("lent")
def test_dig(port: int) -> None:
    def dig(*words: str) -> str:
        return run("dig", "-p", str(port), "+norec", "+time=2", "+tries=1", *words)

    for server in ("@127.0.0.1", "@::1"):
        for transport in ("+notcp", "+tcp"):
            said = dig(server, transport, "+nsid", "wWw.example.com", "A")
            assert "status: NOERROR" in said
            assert re.search(r"flags: qr aa;.* ANSWER: 3", said)
            assert "(good)" in said  # the cookie
            assert 'NSID: 67 77 31 ("gw1")' in said
            assert "wWw.example.com.\t10\tIN\tA\t" in said
            assert "WARNING" not in said
            assert "FORMERR" not in said
    assert "CLIENT-SUBNET: 198.51.100.0/24/16" in dig("@127.0.0.1", "+subnet=198.51.100.0/24", "www.example.com")
    assert dig("@127.0.0.1", "+short", "+subnet=198.51.100.0/24", "www.example.com").startswith("198.51.100.10\n")
    assert "status: NXDOMAIN" in dig("@127.0.0.1", "nx.www.example.com")
    assert "SOA\tns1.example.com. hostmaster.www.example.com." in dig("@127.0.0.1", "nx.www.example.com")
    assert "status: REFUSED" in dig("@127.0.0.1", "version.bind", "CH", "TXT")
    assert "Transfer failed" in dig("@127.0.0.1", "www.example.com", "AXFR")
    big = dig("@127.0.0.1", "big.example.org", "TXT")
    assert "Truncated, retrying in TCP mode" in big
    assert "ANSWER: 30" in big
    assert "status: BADVERS" in dig("@127.0.0.1", "+edns=1", "+noednsneg", "www.example.com")
    assert '1 . alpn="h2,http/1.1" ipv4hint=' in dig("@127.0.0.1", "www.example.com", "HTTPS")


@needs("kdig")
@pytest.mark.usefixtures("lent")
def test_kdig(port: int) -> None:
    def kdig(*words: str) -> str:
        return run("kdig", f"@127.0.0.1#{port}", "+norec", "+time=2", "+retry=0", *words)

    said = kdig("+keepopen", "+tcp", "www.example.com", "A", "www.example.com", "SOA", "alias.example.org", "A")
    assert said.count("status: NOERROR") == 3
    assert "CNAME\twww.example.com." in said
    assert "subnet: 198.51.100.0/24/16" in kdig("+subnet=198.51.100.0/24", "www.example.com").lower()
    assert "status: NXDOMAIN" in kdig("+badcookie", "+cookie", "nx.www.example.com")
    assert "Warning" not in kdig("+cookie", "+nsid", "+dnssec", "www.example.com")


UNBOUND = """
server:
  directory: "{directory}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  verbosity: 1
  interface: 127.0.0.1
  port: {own}
  do-not-query-localhost: no
  module-config: "{modules}"
  local-zone: "example.com." nodefault
  {more}
stub-zone:
  name: "www.example.com."
  stub-addr: 127.0.0.1@{port}
stub-zone:
  name: "example.org."
  stub-addr: 127.0.0.1@{port}
"""


@needs("unbound")
@pytest.mark.usefixtures("lent")
@pytest.mark.parametrize("subnets", [False, True], ids=["plain", "client subnet"])
def test_through_a_resolver(port: int, tmp_path: Path, subnets: bool) -> None:  # noqa: FBT001
    """unbound checks the case of names (0x20) and asks over TCP what is truncated."""
    own = both_port()
    config = tmp_path / "unbound.conf"
    subnet = ("send-client-subnet: 127.0.0.1", "client-subnet-always-forward: yes") if subnets else ()
    config.write_text(
        UNBOUND.format(
            directory=tmp_path,
            own=own,
            port=port,
            modules="subnetcache iterator" if subnets else "iterator",
            more="\n  ".join(("use-caps-for-id: yes", "qname-minimisation: yes", "rrset-roundrobin: no", *subnet)),
        )
    )

    def answers() -> bool:
        try:
            return ask(own, "example.org", "SOA").rcode() == dns.rcode.NOERROR
        except dns.exception.Timeout:
            return False

    process = start(["unbound", "-d", "-c", str(config)], tmp_path / "unbound.log", answers)
    try:
        found = ask(own)
        assert sorted(str(rdata) for rdata in found.answer[0]) == sorted(ADDRESSES.values())
        assert found.answer[0].ttl <= 10
        assert ask(own, "nx.www.example.com").rcode() == dns.rcode.NXDOMAIN
        assert [str(rrset.name) for rrset in ask(own, "alias.example.org").answer] == [
            "alias.example.org.",
            "www.example.com.",
        ]
        query = dns.message.make_query("big.example.org", "TXT", use_edns=0)
        assert len(dns.query.tcp(query, "127.0.0.1", timeout=5.0, port=own).answer[0]) == 30
        if subnets:
            option = dns.edns.ECSOption("198.51.100.0", 24)
            near = ask(own, options=[option])
            assert str(near.answer[0][0]) == "198.51.100.10"
            (back,) = [option for option in near.options if option.otype == dns.edns.OptionType.ECS]
            assert back.scopelen == 16
    finally:
        end_process(process, 5.0)


def dns_process(gateway: GatewayProcess, number: int = 0) -> psutil.Process:
    pid = int(re.findall(rf"\bdns {number} started, pid (\d+)", gateway.log)[-1])
    return psutil.Process(pid)


class Asking:
    """Clients that ask all the time, over both transports; what is not answered is counted."""

    def __init__(self, port: int, *, udp: bool = True) -> None:
        self.port = port
        self.lost: list[str] = []
        self.answered = 0
        self._stop = threading.Event()
        transports = (False, True) if udp else (True,)
        self._threads = [threading.Thread(target=self._ask, args=(tcp,)) for tcp in transports]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20.0)

    def _ask(self, tcp: bool) -> None:  # noqa: FBT001
        while not self._stop.is_set():
            query = dns.message.make_query("www.example.com", "A")
            try:
                send = dns.query.tcp if tcp else dns.query.udp
                found = send(query, "127.0.0.1", timeout=3.0, port=self.port)
                assert found.rcode() == dns.rcode.NOERROR
                self.answered += 1
            except Exception as error:  # noqa: BLE001
                self.lost.append(repr(error))


def has_ttl(port: int, ttl: int) -> bool:
    return ask(port).answer[0].ttl == ttl


def logs(gateway: GatewayProcess, pattern: str, since: int) -> bool:
    return re.search(pattern, gateway.log[since:]) is not None


def test_no_query_is_lost_at_a_reload_and_an_upgrade(gateway: GatewayProcess, port: int) -> None:
    with Asking(port) as asking:
        description = {**gateway.site}
        for number in range(2, 6):
            zone = {**description["dns"]["zones"]["www.example.com"], "ttl": f"{number}s"}
            description = {
                **description,
                "dns": {**description["dns"], "zones": {**description["dns"]["zones"], "www.example.com": zone}},
            }
            gateway.reload(description, says=f"dns 0 uses load {number}")
            eventually(partial(has_ttl, port, number), "the new TTL")
        since = len(gateway.log)
        gateway.upgrade()
        for said in (r"dns 0 uses load 1 ", r"dns 0 \(pid \d+\) ended with status 0"):
            eventually(partial(logs, gateway, said, since), said)
        before = asking.answered
        eventually(lambda: asking.answered > before + 100, "more answers")
        assert gateway.wait() == 0
    assert asking.lost == []


def test_the_next_process_answers_what_came_when_one_had_died(gateway: GatewayProcess, port: int) -> None:
    since = len(gateway.log)
    gateway.kill(dns_process(gateway).pid)
    assert ask(port).rcode() == dns.rcode.NOERROR, "its socket has kept the query for the next one"
    gateway.wait_for_log("dns 0 uses load 1", since)


def test_several_processes_share_queries_limits_and_counters(start_servers: Servers, tmp_path: Path, port: int) -> None:
    description = described(start_servers("one"), port)
    description["dns"] |= {"processes": 3, "response_rate": 10}
    with GatewayProcess(tmp_path, description) as gateway:
        for number in range(3):
            gateway.wait_for_log(f"dns {number} uses load 1")
        answers = sum(answered_over_udp(port) for _ in range(90))
        assert 10 <= answers <= 70, "10 at once, half of the others truncated: the processes count together"

        def said() -> dict[str, Any]:
            return dict(gateway.status()["dns"])

        eventually(lambda: said()["udp"] == 90, "the sum of the counters")
        assert said()["processes"] == 3
        assert said()["dropped"]["rate"] + answers == 90
        with Asking(port, udp=False) as asking:
            for number in range(3):
                since, before = len(gateway.log), asking.answered
                gateway.kill(dns_process(gateway, number).pid)
                gateway.wait_for_log(f"dns {number} uses load 1", since)
                eventually(lambda: asking.answered > before + 20, "more answers")  # noqa: B023
        assert len(asking.lost) <= 3, "only what the process that died had accepted"
        assert said()["udp"] == 90, "the next ones go on counting"
        unlimited = {**description, "dns": {**description["dns"], "response_rate": 0}}
        gateway.reload(unlimited)
        for number in range(3):
            gateway.wait_for_log(f"dns {number} uses load 2")
        with Asking(port) as asking:
            gateway.reload({**unlimited, "dns": {**unlimited["dns"], "processes": 1}}, says="dns 0 uses load 3")
            for number in (1, 2):
                gateway.wait_for_log(rf"dns {number} \(pid \d+\) ended with status 0")
            eventually(lambda: asking.answered > 50, "more answers")
        assert asking.lost == []
        eventually(lambda: said()["processes"] == 1, "control to read that two have ended")
        assert said()["udp"] >= 90


def answered_over_udp(port: int) -> bool:
    """Whether a query from another port each time, hence of any process, gets a response."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(0.05)
        sock.send(dns.message.make_query("www.example.com", "A").to_wire())
        try:
            return bool(sock.recv(4096))
        except TimeoutError:
            return False


def test_listening_elsewhere_and_no_more(gateway: GatewayProcess, port: int) -> None:
    other = both_port()
    moved = {**gateway.site, "dns": {**gateway.site["dns"], "listen": f"127.0.0.1:{other}"}}
    gateway.reload(moved, says="dns 0 uses load 2")
    assert ask(other).rcode() == dns.rcode.NOERROR
    query = dns.message.make_query("www.example.com", "A")
    eventually(lambda: refuses(port), "the old port to be closed")
    assert dns.query.tcp(query, "127.0.0.1", timeout=5.0, port=other).rcode() == dns.rcode.NOERROR
    since = len(gateway.log)
    gateway.reload({key: value for key, value in moved.items() if key != "dns"})
    gateway.wait_for_log(r"dns 0 \(pid \d+\) ended with status 0", since)
    eventually(lambda: refuses(other), "the port to be closed")
    gateway.reload(moved, says="dns 0 uses load 4")
    assert ask(other).rcode() == dns.rcode.NOERROR


@needs("dig")
def test_a_response_comes_from_the_address_that_was_asked(start_servers: Servers, tmp_path: Path, port: int) -> None:
    """dig refuses one from another address, as every resolver does."""
    description = described(start_servers("one"), port)
    description["dns"]["listen"] = f"0.0.0.0:{port}"
    with GatewayProcess(tmp_path, description) as gateway:
        gateway.wait_for_log("dns 0 uses load 1")
        for address in ("127.0.0.1", "127.0.0.2", "127.9.9.9"):
            said = run("dig", "-p", str(port), "+time=2", "+tries=1", "+notcp", f"@{address}", "www.example.com")
            assert "status: NOERROR" in said


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_process_has_no_rights_and_a_filter(gateway: GatewayProcess) -> None:
    process = dns_process(gateway)
    assert process.uids().effective != 0
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)


@pytest.fixture
def farm(start_servers: Servers, tmp_path: Path, port: int) -> Iterator[tuple[GatewayProcess, dict[str, Site]]]:
    """A gateway of mel, and what it hears from syd and dub."""
    reports = free_udp_port()
    servers = start_servers("one")
    description = described(servers, port, ttl="1s", shift="50%")
    description["backends"]["app"]["servers"][0]["max_connections"] = 4
    description["sites"] = {**sites_of_mel(tmp_path, reports), "stale_after": "1s"}
    with ExitStack() as stack, GatewayProcess(tmp_path, description) as gateway:
        gateway.wait_for_log("dns 0 uses load 1")
        sites = {name: Site(reports, name) for name in ("syd", "dub")}
        for one in sites.values():
            stack.callback(one.stop)
        yield gateway, sites


def shares(port: int, count: int = 240) -> dict[str, float]:
    """The part of answers that begin with each site, read from their bytes: dnspython takes longer than the gateway."""
    query, found = dns.message.make_query("www.example.com", "A").to_wire(), Counter[str]()
    head = 12  # bytes of a record before its data: a pointer to the name, type, class, TTL, length
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(5.0)
        sock.connect(("127.0.0.1", port))
        for _ in range(count):
            sock.send(query)
            begin = len(query) + head
            found[socket.inet_ntoa(sock.recv(512)[begin : begin + 4])] += 1
    return {name: found[address] / count for name, address in ADDRESSES.items()}


def test_clients_go_where_there_is_room_and_not_where_nothing_works(
    farm: tuple[GatewayProcess, dict[str, Site]], port: int
) -> None:
    gateway, sites = farm

    def settled(check: Callable[[dict[str, float]], bool]) -> Callable[[], bool]:
        return lambda: check(shares(port))

    sites["syd"].load, sites["dub"].load = 0.9, 0.1
    # mel is idle (0), so rooms are 1, 0.1, 0.9.
    eventually(settled(lambda s: s["syd"] < 0.08 and abs(s["dub"] - 0.45) < 0.06), "clients to avoid syd", 30.0)
    with RawClient(gateway.port) as one, RawClient(gateway.port) as two:
        for client in (one, two):
            client.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        # mel is half full: 0.5, 0.1, 0.9.
        eventually(settled(lambda s: abs(s["mel"] - 1 / 3) < 0.06 and s["dub"] > 0.54), "fewer for mel", 30.0)
        said = explain(gateway, "www.example.com", "--live")
        assert re.search(r"mel +works, load 50%, .*share [\d.]+%", said), said
        assert re.search(r"dub +works, load 10%", said)
    sites["dub"].stop()
    began = time.monotonic()
    eventually(settled(lambda s: s["dub"] == 0), "no client for dub", 10.0)
    assert time.monotonic() - began < 1.0 + 2.0 + 1.0, "after stale_after and a little"
    sites["syd"].state = State.DRAIN
    sites["syd"].say()
    eventually(settled(lambda s: s["mel"] == 1.0), "no client for syd", 2.0)
    assert gateway.status()["site_states"]["syd"]["draining"] is True
    since = len(gateway.log)
    gateway.reload(
        {**gateway.site, "backends": {"app": {"servers": ["127.0.0.1:1"], "check": {"tcp": True, "interval": "200ms"}}}}
    )
    gateway.wait_for_log(
        r"www\.example\.com: no site works \(mel, syd, dub\); answering with the addresses of all", since, 20.0
    )
    assert len(ask(port).answer[0]) == 3
    sites["syd"].state = State.READY
    gateway.wait_for_log(r"www\.example\.com: a site works again", since, 20.0)
    eventually(settled(lambda s: s["syd"] == 1.0), "all clients to go to syd", 20.0)


def explain(gateway: GatewayProcess, *words: str) -> str:
    return run(sys.executable, "-m", "gateway", "explain", str(gateway.path), "dns", *words)


def test_a_change_of_state_is_in_the_answers_soon(farm: tuple[GatewayProcess, dict[str, Site]], port: int) -> None:
    """Within 50 ms, the machine permitting: the fastest of five."""
    _, sites = farm
    eventually(
        lambda: first(port, options=[dns.edns.ECSOption("198.51.100.0", 24)]) == ADDRESSES["syd"],
        "syd to be heard",
        10.0,
    )
    took = []
    for _ in range(5):
        for state, wanted in ((State.DRAIN, False), (State.READY, True)):
            sites["syd"].state = state
            began = time.monotonic()
            sites["syd"].say()
            near = [dns.edns.ECSOption("198.51.100.0", 24)]
            while (
                "syd" in {name for name, ip in ADDRESSES.items() if ip in str(ask(port, options=near).answer)}
            ) != wanted:
                assert time.monotonic() - began < 5.0
            took.append(time.monotonic() - began)
    assert min(took) < 0.05


@pytest.mark.parametrize("live", [False, True])
def test_explain(lent: GatewayProcess, live: bool) -> None:  # noqa: FBT001
    options = ["--live"] if live else []
    eventually(lent.status, "control to answer")
    said = explain(lent, "www.example.com", "--client", "198.51.100.7", *options)
    assert "the client prefers syd: its network (scope /16)" in said
    assert "www.example.com. 10 IN A 198.51.100.10" in said
    assert ("states of sites as the running gateway" in said) == live
    assert "REFUSED" in explain(lent, "elsewhere.example", *options)
    assert "CNAME: www.example.com" in explain(lent, "alias.example.org", *options)


def test_status_and_metrics(gateway: GatewayProcess, port: int) -> None:
    for _ in range(3):
        ask(port)
    ask(port, "elsewhere.example")
    query = dns.message.make_query("www.example.com", "A")
    dns.query.tcp(query, "127.0.0.1", timeout=5.0, port=port)

    def found() -> bool:
        said = gateway.status()["dns"]
        return (said["udp"], said["tcp"], said["codes"]) == (4, 1, {"NOERROR": 4, "REFUSED": 1})

    eventually(found, "the counters")
    assert gateway.status()["dns"]["names"][0]["shares"] == {"mel": 0.3333, "syd": 0.3333, "dub": 0.3333}
    metrics = run(sys.executable, "-m", "gateway", "status", str(gateway.path), "--metrics")
    assert 'gateway_dns_responses_total{code="REFUSED"} 1' in metrics
    assert 'gateway_dns_share_ratio{name="www.example.com",site="mel"} 0.3333' in metrics
    assert "www.example.com (load): mel 33%, syd 33%, dub 33%" in run(
        sys.executable, "-m", "gateway", "status", str(gateway.path)
    )


def test_the_zone_of_a_running_gateway_as_text(farm: tuple[GatewayProcess, dict[str, Site]], port: int) -> None:
    gateway, sites = farm
    sites["dub"].stop()
    eventually(lambda: ADDRESSES["dub"] not in {str(record) for record in ask(port).answer[0]}, "dub to be left out")
    said = run(sys.executable, "-m", "gateway", "zone-file", str(gateway.path), "www.example.com", "--live")
    assert f"www.example.com. 1 IN A {ADDRESSES['mel']}\n" in said
    assert ADDRESSES["dub"] not in said


@needs("unbound", "delv")
def test_signed_zones_are_validated_by_others(start_servers: Servers, tmp_path: Path, port: int) -> None:
    zones, anchors = ("www.example.com", "example.org"), []
    for zone in zones:
        words = [sys.executable, "-m", "gateway", "key", "dnssec", str(tmp_path / f"{zone}.key"), zone]
        anchors.append(run(*words).splitlines())
        assert run(*words).splitlines() == anchors[-1], "the key is there, and stays"
    description = described(start_servers("one"), port)
    for zone in zones:
        description["dns"]["zones"][zone]["dnssec"] = {"key_file": str(tmp_path / f"{zone}.key")}
    (tmp_path / "anchors").write_text("".join(f"{ds}\n" for ds, _ in anchors))
    keys = "".join(f'{words[0]} static-key {words[3]} {words[4]} {words[5]} "{words[6]}";\n'
                   for words in (dnskey.split() for _, dnskey in anchors))  # fmt: skip
    (tmp_path / "delv.keys").write_text(f"trust-anchors {{\n{keys}}};\n")
    with GatewayProcess(tmp_path, description) as process:
        process.wait_for_log("dns 0 uses load 1")

        def delv(*words: str, zone: str = "www.example.com") -> str:
            options = "-a", str(tmp_path / "delv.keys"), f"+root={zone}", "@127.0.0.1", "-p", str(port)
            return run("delv", *options, *words)

        for kind, wanted in (
            ("A", "198.51.100.10"),
            ("HTTPS", "ipv4hint"),
            ("SOA", "hostmaster"),
            ("DNSKEY", "257 3 13"),
        ):
            said = delv("www.example.com", kind)
            assert "; fully validated" in said
            assert wanted in said
        assert "; negative response, fully validated" in delv("www.example.com", "MX")
        assert "; negative response, fully validated" in delv("nx.www.example.com", "A")
        assert "; fully validated" in delv("big.example.org", "TXT", zone="example.org")
        own, config = both_port(), tmp_path / "unbound.conf"
        config.write_text(
            UNBOUND.format(
                directory=tmp_path,
                own=own,
                port=port,
                modules="validator iterator",
                more=f'trust-anchor-file: "{tmp_path / "anchors"}"\n  aggressive-nsec: yes\n  val-log-level: 2',
            )
        )

        def answers() -> bool:
            try:
                return ask(own, "example.org", "SOA").rcode() == dns.rcode.NOERROR
            except dns.exception.Timeout:
                return False

        unbound = start(["unbound", "-d", "-c", str(config)], tmp_path / "unbound.log", answers)
        try:
            for name, kind in (
                ("www.example.com", "A"), ("www.example.com", "MX"), ("alias.example.org", "A"), ("big.example.org", "TXT"),
                ("nx.www.example.com", "A"), ("a.b.www.example.com", "TXT"), ("www.example.com", "HTTPS"),
            ):  # fmt: skip
                found = dns.query.tcp(
                    dns.message.make_query(name, kind, want_dnssec=True), "127.0.0.1", timeout=5.0, port=own
                )
                assert found.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}, (name, kind)
                assert found.flags & dns.flags.AD, f"{name} {kind} is not validated"
        finally:
            end_process(unbound, 5.0)
        # With another key the answers are bogus: the validation above is one.
        run(sys.executable, "-m", "gateway", "key", "dnssec", str(tmp_path / "other.key"), "www.example.com")
        (tmp_path / "www.example.com.key").write_bytes((tmp_path / "other.key").read_bytes())
        process.reload()
        process.wait_for_log("dns 0 uses load 2")
        assert "; fully validated" not in delv("www.example.com", "A")


def near(port: int, network: str) -> str:
    """The address that clients of a network get first."""
    return first(port, options=[dns.edns.ECSOption(network, 24)])


def always_near(port: int, network: str) -> set[str]:
    """The addresses that clients of a network get first, in more answers than there are sites: without a preference all."""
    return {near(port, network) for _ in range(3 * len(ADDRESSES))}


def test_clients_go_to_the_site_that_is_near_by_a_maxmind_file(
    start_servers: Servers, tmp_path: Path, port: int
) -> None:
    where = tmp_path / "where.mmdb"
    description = described(start_servers("one"), port)
    zone = description["dns"]["zones"]["www.example.com"]
    zone |= {"networks": {}, "policy": "nearest"}
    zone["places"] = {"syd": {"countries": ["AU"]}, "mel": {"continents": "OC"}, "dub": {"at": [53.3, -6.3]}}
    description["dns"]["maxmind_file"] = str(where)
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(description))
    check = [sys.executable, "-m", "gateway", "check", str(tmp_path / "site.yaml")]
    missing = subprocess.run(check, capture_output=True, text=True, check=False, env=hardened.environment())
    assert missing.returncode
    assert re.search(r"site\.yaml:\d+:\d+: .*cannot read .*where\.mmdb: no such file", missing.stdout + missing.stderr)
    content = write_places(where, PLACES)
    with GatewayProcess(tmp_path, description) as gateway:
        gateway.wait_for_log("dns 0 uses load 1")
        assert near(port, "198.51.100.0") == ADDRESSES["syd"]
        assert near(port, "203.0.113.0") == ADDRESSES["dub"]
        said = explain(gateway, "www.example.com", "--client", "203.0.113.1")
        assert re.search(r"the client prefers dub: \d+ km away \(scope /25\)", said)
        assert "the client prefers syd: country AU (scope /24)" in explain(
            gateway, "www.example.com", "--client", "198.51.100.7"
        )
        where.with_suffix(".new").write_bytes(content[: len(content) // 2])
        where.with_suffix(".new").rename(where)
        gateway.wait_for_log(
            r"the MaxMind file has changed, but cannot be used; the previous one, Test-City of .*, stays"
        )
        assert always_near(port, "198.51.100.0") == {ADDRESSES["syd"]}
        assert "dns.maxmind_file" in run(sys.executable, "-m", "gateway", "status", str(gateway.path))
        write_places(where, {"198.51.100.0/24": {"continent": {"code": "OC"}}})
        gateway.wait_for_log(r"the MaxMind file is renewed: Test-City of ")
        eventually(lambda: always_near(port, "198.51.100.0") == {ADDRESSES["mel"]}, "the new file to be used")
        gateway.reload()
        gateway.wait_for_log("dns 0 uses load 2")
        assert always_near(port, "198.51.100.0") == {ADDRESSES["mel"]}
        assert dns_process(gateway).is_running()
