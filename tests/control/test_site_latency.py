"""Times from sites to the resolvers that ask: who is asked, what is probed how often, and how long it holds."""

import asyncio
import socket
import time
from ipaddress import IPv4Address, ip_address

from gateway.control.resolver_probe import probe
from gateway.control.site_latency import BURST, KNOWN, MEASURED, NEAREST, PENDING, TOLD, SiteLatency
from gateway.control.site_report import ask, of_metrics

R = ip_address("192.0.2.53")
KEEP = 3600.0


def farm(**rates: float) -> dict[str, SiteLatency]:
    """Sites by name, each with the probes per second that it may make."""
    return {name: SiteLatency(name, rate, KEEP) for name, rate in rates.items()}


def exchange(sites: dict[str, SiteLatency], ms: dict[str, float | None], now: float) -> list[str]:
    """A second: probes, then reports from each to each. Return the sites that have probed."""
    probed = []
    for name, site in sites.items():
        while (address := site.due(now)) is not None:
            site.measured(address, ms[name], now)
            probed.append(name)
    said = {name: of_metrics(dict(site.details(16, now))) for name, site in sites.items()}
    for name, report in said.items():
        for other, site in sites.items():
            if other != name:
                site.hear(name, report.times, report.asks, now)
    return probed


def test_a_site_learns_the_times_of_all_that_may_probe() -> None:
    sites = farm(mel=5.0, syd=5.0, dub=0.0)
    probed: list[str] = []
    for now in (1.0, 2.0, 3.0):
        sites["mel"].see([R], now)
        probed += exchange(sites, {"mel": 10.0, "syd": 2.5, "dub": 1.0}, now)
    assert sites["mel"].known(3.0) == {"192.0.2.53": {"syd": 2.5, "mel": 10.0}}
    assert sites["syd"].known(3.0) == {}, "the resolver has not asked there"
    assert sorted(probed) == ["mel", "syd"], "once each, and not by the site that may not"


def test_what_was_measured_is_asked_and_probed_again_in_half_of_the_time_that_it_holds() -> None:
    sites = farm(mel=5.0, syd=5.0)
    probes = []
    for second in range(1, 5400, 10):
        sites["mel"].see([R], float(second))
        probes += [(name, second) for name in exchange(sites, {"mel": 10.0, "syd": 2.5}, float(second))]
        if second > 30:
            assert len(sites["mel"].known(float(second))["192.0.2.53"]) == 2, "known all the time"
    assert 2 <= len([name for name, _ in probes if name == "syd"]) <= 4, probes


def test_a_resolver_that_asks_no_more_is_forgotten() -> None:
    site = SiteLatency("mel", 5.0, KEEP)
    site.see([R], 1.0)
    site.measured(R, 10.0, 1.0)
    assert site.known(2.0)
    site.see([ip_address("192.0.2.54")], 2.0 + KEEP)
    assert R not in {ip_address(ip) for ip in site.known(2.0 + KEEP)}
    assert ask(R) not in site.details(16, 2.0 + KEEP)


def test_probes_have_a_rate_and_what_waits_is_bounded() -> None:
    site = SiteLatency("mel", 2.0, KEEP)
    many = [IPv4Address(0x01000000 + i) for i in range(5 * KNOWN)]
    site.see(many, 1.0)
    site.hear("syd", dict.fromkeys(many, 1.0), many, 1.0)
    assert len([1 for _ in range(100) if site.due(1.0) is not None]) == BURST
    assert len([1 for i in range(100) if site.due(1.0 + i / 10) is not None]) in {19, 20}, "2 a second"
    found = [site.due(1000.0 + i) for i in range(2 * PENDING)]
    assert len([ip for ip in found if ip is not None]) <= PENDING
    assert len(site.known(1.0)) <= KNOWN
    for number in range(2 * MEASURED):
        site.measured(IPv4Address(0x02000000 + number), 1.0, 1.0)
    assert len(site.details(10_000, 2.0)) <= 2 * KNOWN + PENDING


def test_who_cannot_be_a_resolver_elsewhere_is_not_probed() -> None:
    site = SiteLatency("mel", 5.0, KEEP)
    site.see(map(ip_address, ("127.0.0.1", "::1", "224.0.0.1", "0.0.0.0", "fe80::1", "ff02::1")), 1.0)
    assert site.due(1.0) is None


def test_no_answer_is_kept_too() -> None:
    sites = farm(mel=5.0, syd=5.0)
    probed = []
    for now in range(1, 100):
        sites["mel"].see([R], float(now))
        probed += exchange(sites, {"mel": 10.0, "syd": None}, float(now))
    assert probed == ["mel", "syd"]
    assert sites["mel"].known(100.0) == {"192.0.2.53": {"mel": 10.0}}


def test_a_result_is_said_several_times_and_no_more() -> None:
    site = SiteLatency("syd", 5.0, KEEP)
    site.hear("mel", {}, [R], 1.0)
    assert site.due(1.0) == R
    site.measured(R, 4.0, 1.5)
    assert [len(site.details(8, 2.0 + i)) for i in range(TOLD + 2)] == [1] * TOLD + [0, 0]
    site.hear("mel", {}, [R], 10.0)
    assert site.details(8, 11.0), "who asks again gets it again"


def test_the_nearest_sites_are_told() -> None:
    site = SiteLatency("mel", 0.0, KEEP)
    site.see([R], 1.0)
    for number in range(20):
        site.hear(f"s{number}", {R: 100.0 - number}, [], 1.0)
    assert list(site.known(1.0)["192.0.2.53"]) == [f"s{number}" for number in range(19, 19 - NEAREST, -1)]


async def test_a_probe_measures_an_answer_a_refusal_and_silence() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5.0)
        port = peer.getsockname()[1]

        def answer() -> None:
            query, client = peer.recvfrom(512)
            assert len(query) == 17
            peer.sendto(b"\0\0" + query[2:], client)  # another number, and no response
            time.sleep(0.05)
            peer.sendto(query[:2] + b"\x80\x05" + query[4:], client)

        answering = asyncio.create_task(asyncio.to_thread(answer))
        ms = await probe(ip_address("127.0.0.1"), port)
        await answering
        assert ms is not None
        assert ms >= 45.0, "the answer, not what came before it"
    refused = await probe(ip_address("127.0.0.1"), port)
    assert refused is not None
    assert refused < 1000.0
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        began = time.monotonic()
        assert await probe(ip_address("127.0.0.1"), silent.getsockname()[1]) is None
        assert time.monotonic() - began < 10.0
