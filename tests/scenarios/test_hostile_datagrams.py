"""A name server with signed zones, and the exchange between sites, under messages that are wrong in every way.

`HOSTILE_SECONDS=300 make hardened-test HARDENED=tests/scenarios/test_hostile_datagrams.py` does so for longer, under
AddressSanitizer.
"""

import contextlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode

from gateway.control.site_report import SiteReport, ask, backend, metrics_of
from gateway.control.site_report import time as measured
from gateway.control.sites import CONTEXT
from loadagent.report import MAX_BYTES, Report, State, encode
from tests.dns.signed_zones import PEM
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.places import PLACES
from tests.support.places import write as write_places
from tests.support.waiting import eventually, free_udp_port
from tests.support.web_farm import KEY, Site, both_port, sites_of_mel
from tests.support.web_farm import ask as query

Servers = Callable[..., list[BackendServer]]
SECONDS = float(os.environ.get("HOSTILE_SECONDS", "3"))
CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "corpus" / "dns").iterdir())
NAMES = (
    "www.example.com",
    "nx.www.example.com",
    "a.b.c.w.www.example.com",
    "elsewhere.example",
    "wWw.eXample.com",
    ".",
)
KINDS = ("A", "AAAA", "HTTPS", "SOA", "NS", "DNSKEY", "NSEC", "RRSIG", "ANY", "TXT", "AXFR", "TYPE65280")


def wrong(rng: random.Random, message: bytes) -> bytes:
    """The message with a few bytes changed, cut, doubled or put in."""
    made = bytearray(message)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(6):
            case 0:
                made[at : at + 1] = rng.randbytes(1)
            case 1:
                del made[at:]
            case 2:
                made[at:at] = rng.randbytes(rng.randrange(1, 40))
            case 3:
                made[at:at] = made[at : at + rng.randrange(1, 200)]
            case 4:
                made[at : at + 2] = struct.pack("!H", rng.choice((0, 1, 0xC00C, 0xFFFF, 0x8000, 41, 255)))
            case _:
                del made[at : at + rng.randrange(1, 20)]
    return bytes(made[:4200])


def queries(rng: random.Random) -> bytes:
    """A query of DNS, near to a good one."""
    if rng.random() < 0.3:
        return wrong(rng, rng.choice(CORPUS).read_bytes())
    options: list[dns.edns.Option] = []
    if rng.random() < 0.5:
        options.append(dns.edns.ECSOption(f"198.51.{rng.randrange(256)}.0", rng.randrange(33)))
    if rng.random() < 0.3:
        options.append(dns.edns.GenericOption(dns.edns.OptionType.COOKIE, rng.randbytes(rng.choice((8, 16, 24, 40)))))
    message = dns.message.make_query(
        rng.choice(NAMES), rng.choice(KINDS), use_edns=0, payload=rng.choice((0, 512, 1232, 65535)),
        want_dnssec=rng.random() < 0.5, options=options,
    )  # fmt: skip
    return wrong(rng, message.to_wire()) if rng.random() < 0.8 else message.to_wire()


def reports(rng: random.Random) -> bytes:
    """A report of a site: signed by the key of the sites, and wrong before or after that."""
    address = IPv4Address(rng.randbytes(4))
    details = [backend(rng.choice(("app", "-" * 90)), rng.random()), ask(address)]
    details.append(measured(address, rng.random() * 1e6))
    metrics = metrics_of(SiteReport(load=rng.random(), sessions_free=rng.randrange(3)), details)[0]
    metrics = {name: value for name, value in metrics.items() if rng.random() < 0.9}
    for prefix in ("t:", "q:", "b:", ""):
        metrics[prefix + "".join(rng.choices("AZ27.:-", k=rng.randrange(1, 12)))] = rng.choice((0.0, 1.0, 1e6))
    metrics = dict(list(metrics.items())[:16])
    now = time.time_ns()
    report = Report(
        rng.choice(("dub", "syd", "mel", "oslo")), now - rng.randrange(1 << 40), rng.randrange(1 << 40),
        now + rng.choice((0, 0, 0, -(10**12), 10**12)), rng.choice(tuple(State)), f"gw{rng.randrange(200)}", metrics,
    )  # fmt: skip
    whole = encode(report, KEY.encode(), CONTEXT)
    return wrong(rng, whole)[:MAX_BYTES] if rng.random() < 0.5 else whole


def attack(make: Callable[[random.Random], bytes], port: int, seed: int, end: float, *, tcp: bool) -> None:
    """Send messages until `end`, and read what comes back without looking at it."""
    rng = random.Random(seed)
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            sock.connect(("127.0.0.1", port))
            for _ in range(rng.randrange(1, 30)):
                message = make(rng)
                if tcp:
                    length = len(message) if rng.random() < 0.9 else rng.randrange(65536)
                    sock.sendall(length.to_bytes(2) + message)
                else:
                    sock.send(message)
            if rng.random() < 0.7:
                sock.recv(65536)


def test_hostile_messages_end_nothing(start_servers: Servers, tmp_path: Path) -> None:
    port, heard = both_port(), free_udp_port()
    signing = tmp_path / "zone.key"
    signing.touch(mode=0o600)
    signing.write_bytes(PEM)
    write_places(tmp_path / "where.mmdb", PLACES)
    description = {
        **site(start_servers("one")),
        "sites": sites_of_mel(tmp_path, heard),
        "dns": {
            "listen": f"127.0.0.1:{port}",
            "nsid": "gw1",
            "response_rate": 0,
            "maxmind_file": str(tmp_path / "where.mmdb"),
            "zones": {
                "www.example.com": {
                    "ns": ["ns1.example.com"],
                    "sites": {"mel": ["192.0.2.10", "2001:db8::10"], "syd": "198.51.100.10", "dub": "203.0.113.10"},
                    "policy": "nearest",
                    "latency": True,
                    "networks": {"syd": "198.51.0.0/17"},
                    "places": {"dub": {"countries": "FR", "at": [53.3, -6.3]}, "mel": {"continents": "OC"}},
                    "https": True,
                    "dnssec": {"key_file": str(signing)},
                    "names": {"*.w": {"sites": {"mel": "192.0.2.12"}}},
                    "records": ['big TXT "' + "x" * 250 + '"' for _ in range(9)] + ["alias CNAME @"],
                },
            },
        },
    }
    with GatewayProcess(tmp_path, description) as gateway:
        gateway.wait_for_log("dns 0 uses load 1")
        syd = Site(heard, "syd")
        try:
            eventually(lambda: gateway.status()["site_states"]["syd"]["up"], "syd to be heard")
            end = time.monotonic() + SECONDS
            attackers = [
                threading.Thread(target=attack, args=(make, there, seed, end), kwargs={"tcp": tcp})
                for seed, (make, there, tcp) in enumerate(
                    ((queries, port, False), (queries, port, True), (reports, heard, False), (reports, heard, True)) * 2
                )
            ]
            for one in attackers:
                one.start()
            while time.monotonic() < end:
                assert query(port).rcode() == dns.rcode.NOERROR, "answered meanwhile"
                time.sleep(0.1)
            for one in attackers:
                one.join(30.0)
            eventually(lambda: gateway.status()["dns"]["udp"] > 100, "the counters")
            found = gateway.status()
            assert found["dns"]["codes"].get("SERVFAIL", 0) == found["dns"]["unsigned"], "no answer failed"
            assert found["refused"]["site report"]["bad signature"] > 0, found["refused"]
            assert found["site_states"]["syd"]["up"] is True
            assert "cannot answer a query" not in gateway.log
            assert "Traceback" not in gateway.log
        finally:
            syd.stop()
