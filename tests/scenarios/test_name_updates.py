"""Dynamic updates (RFC 2136) to BIND's named: what changes there, what is left alone, and what goes wrong."""

import base64
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dns.exception
import dns.rcode
import pytest

from loadagent.report import State
from tests.support.backend_server import BackendServer
from tests.support.ending import end_process
from tests.support.gateway_process import GatewayProcess, site
from tests.support.programs import needs, run, start
from tests.support.waiting import eventually, free_udp_port
from tests.support.web_farm import KEY, Site, ask, both_port

Servers = Callable[..., list[BackendServer]]

CONFIG = """
include "{directory}/named.key";
options {{
  directory "{directory}"; pid-file none; session-keyfile none; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; dnssec-validation no; notify no; allow-query {{ any; }};
}};
controls {{ }};
zone "example.com" {{ type primary; file "zone"; update-policy {{ grant gateway zonesub ANY; }}; }};
"""
ZONE = """$TTL 300
@ SOA ns hostmaster 1 3600 600 604800 60
@ NS ns
ns A 127.0.0.1
old A 192.0.2.10
mine A 203.0.113.99
"""


def key_of(secret: bytes) -> str:
    return f'key "gateway" {{\n\talgorithm hmac-sha256;\n\tsecret "{base64.b64encode(secret).decode()}";\n}};\n'


class Named:
    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, both_port()
        directory.mkdir()
        (directory / "named.key").write_text(key_of(b"0123456789abcdef"))
        (directory / "zone").write_text(ZONE)
        (directory / "named.conf").write_text(CONFIG.format(directory=directory, port=self.port))
        directory.chmod(0o777)
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        command = ["named", "-g", "-n", "1", "-c", str(self.directory / "named.conf")]
        return start(command, self.directory / "log", self._answers)

    def _answers(self) -> bool:
        try:
            return ask(self.port, "example.com", "SOA").rcode() == dns.rcode.NOERROR
        except (dns.exception.DNSException, OSError):
            return False

    def addresses(self, name: str, kind: str = "A") -> set[str]:
        return {str(one) for rrset in ask(self.port, f"{name}.example.com", kind).answer for one in rrset}


@pytest.fixture
def named(tmp_path: Path) -> Iterator[Named]:
    server = Named(tmp_path / "named")
    try:
        yield server
    finally:
        end_process(server.process, 5.0)


def described(servers: list[BackendServer], named: Named, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    (tmp_path / "update.key").touch(0o600)
    (tmp_path / "update.key").write_text(key_of(b"0123456789abcdef"))
    (tmp_path / "sites.key").touch(0o600)
    (tmp_path / "sites.key").write_text(KEY)
    both = {"mel": ["192.0.2.10", "2001:db8::10"], "syd": "198.51.100.10"}
    return {
        **site(servers),
        "sites": {
            "self": "mel",
            "listen": f"127.0.0.1:{changes.pop('reports', None) or free_udp_port()}",
            "peers": {"syd": {"url": "http://syd.example", "report": f"127.0.0.1:{free_udp_port()}"}},
            "key_file": str(tmp_path / "sites.key"),
            "stale_after": "2s",
        },
        "dns": {
            "zones": {
                "example.com": {
                    "ns": "ns.example.com",
                    "updates": {"server": f"127.0.0.1:{named.port}", "key_file": str(tmp_path / "update.key")},
                    "names": {
                        "www": {"sites": both, "ttl": "2s"},
                        "old": {"sites": both, "ttl": "2s"},
                        "mine": {"sites": both, "ttl": "2s"},
                        **{f"n{i}": {"sites": both} for i in range(30)},  # more than a datagram holds
                        "best": {"sites": both, "ttl": "2s", "policy": "failover"},
                    },
                }
            }
        },
        **changes,
    }


@needs("named")
def test_the_records_of_named_follow_the_sites(start_servers: Servers, named: Named, tmp_path: Path) -> None:
    reports = free_udp_port()
    with ExitStack() as stack:
        description = described(start_servers("one"), named, tmp_path, reports=reports)
        gateway = stack.enter_context(GatewayProcess(tmp_path, description))
        both = {"192.0.2.10", "198.51.100.10"}
        syd = Site(reports, "syd")
        stack.callback(syd.stop)
        eventually(lambda: named.addresses("www") == both, "named to have the addresses", 20.0)
        assert named.addresses("www", "AAAA") == {"2001:db8::10"}
        assert ask(named.port, "www.example.com").answer[0].ttl == 2
        eventually(lambda: named.addresses("old") == both, "what was there before to be taken over", 20.0)
        eventually(lambda: named.addresses("best") == {"192.0.2.10"}, "failover: the first site alone", 20.0)
        assert all(named.addresses(f"n{i}") == both for i in range(30))
        assert named.addresses("mine") == {"203.0.113.99"}, "not of this gateway: left alone"
        gateway.wait_for_log(
            r"cannot update: foreign: other records than the site file's are left alone: mine\.example"
        )
        (found,) = gateway.status()["dns_updates"]
        assert (found["foreign"], found["failing"][:8]) == (["mine.example.com"], "foreign:")
        syd.state = State.DRAIN
        eventually(lambda: named.addresses("www") == {"192.0.2.10"}, "a site that drains to go", 20.0)
        # Another writer: what was found is not there any more, so the change is refused, looked at, and made.
        subprocess.run(
            ["nsupdate"], check=True, timeout=20, text=True, capture_output=True,
            input=f"server 127.0.0.1 {named.port}\nkey hmac-sha256:gateway {base64.b64encode(b'0123456789abcdef').decode()}\n"
            "zone example.com\nupdate delete www.example.com A\nupdate add www.example.com 9 A 198.51.100.10\nsend\n",
        )  # fmt: skip
        syd.state = State.READY
        eventually(lambda: named.addresses("www") == both, "a site that is back to come", 20.0)
        gateway.wait_for_log("cannot update: conflict: ")
        counts = gateway.status()["dns_updates"][0]["counts"]
        assert counts["changed"] >= 6
        assert counts["conflict"] >= 1
        assert counts["foreign"] >= 1


@needs("named")
def test_failures_have_names_and_end(start_servers: Servers, named: Named, tmp_path: Path) -> None:
    description = described(start_servers("one"), named, tmp_path)
    (tmp_path / "update.key").write_text(key_of(b"another key there"))
    with GatewayProcess(tmp_path, description) as gateway:
        gateway.wait_for_log(r"example.com at 127.0.0.1:\d+: cannot update: signature: the key or the clocks differ")
        eventually(lambda: gateway.status()["dns_updates"][0]["failing"], "the failure to be in the report", 10.0)
        said = run(sys.executable, "-m", "gateway", "status", str(tmp_path / "site.yaml"))
        assert re.search(r"example\.com at 127\.0\.0\.1:\d+: NOT UPDATED: signature", said)
        assert named.addresses("www") == set()
        end_process(named.process, 5.0)
        (tmp_path / "update.key").write_text(key_of(b"0123456789abcdef"))
        gateway.reload()
        gateway.wait_for_log("cannot update: (timeout|connection): ")
        named.process = named.start()
        eventually(lambda: "192.0.2.10" in named.addresses("www"), "updates once the server is back", 20.0)
