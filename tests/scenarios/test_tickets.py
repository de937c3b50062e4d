"""Session tickets of TLS, taken up by a real client (openssl s_client) while time passes and gateways change."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.proxy.tickets import PERIOD
from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, listeners, site
from tests.support.waiting import free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

VERSIONS = pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
START = 1_800_000_000 // PERIOD * PERIOD
REQUEST = b"GET /bytes/10 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def connect(port: int, version: str, took: Path | None, gets: Path) -> bool:
    """Ask one thing with the session of `took`, if there is one; whether it was resumed.

    `gets` has the session then, unless it is the old one; in TLS 1.2, s_client does not write one that was renewed.
    """
    given = ["-sess_in", str(took)] if took is not None else []
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", f"-{version}", "-ign_eof", "-sess_out", str(gets), *given],
        input=REQUEST, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert b"abcdefghij" in done.stdout, done.stderr
    gets.with_suffix(".said").write_bytes(done.stdout)
    (state,) = re.findall(rb"^(New|Reused), ", done.stdout, re.MULTILINE)[:1]
    return bool(state == b"Reused")


def key_name(session: Path) -> str:
    """The name of the key that the newest ticket was encrypted by: its first 16 bytes (RFC 5077 section 4)."""
    said = session.with_suffix(".said").read_text(errors="replace")
    return str(re.findall(r"TLS session ticket:\n\s+0000 - ([0-9a-f -]{47})", said)[-1])


class WithClock(GatewayProcess):
    """The real command, but that the periods of ticket keys go by the seconds that a file says."""

    def __init__(self, directory: Path, description: Site) -> None:
        super().__init__(directory, description)
        # Opened by the supervisor: workers may not read what is in the directory.
        self._clock = directory / "clock"
        self.set_clock(START)
        code = (
            "import os, sys; from gateway.proxy import tickets; "
            f"clock = os.open({str(self._clock)!r}, os.O_RDONLY); tickets.clock = lambda: float(os.pread(clock, 20, 0)); "
            "from gateway.cli import main; main()"
        )
        self.command = (sys.executable, "-c", code, "run")  # type: ignore[misc]

    def set_clock(self, seconds: float) -> None:
        """Let it be so late, at once and in all workers."""
        descriptor = os.open(self._clock, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(descriptor, b"%020d" % seconds)
        os.close(descriptor)


def described(
    servers: list[BackendServer], certificate: dict[str, str], workers: int = 2, **tls: str
) -> dict[str, Any]:
    description = site(servers, workers=workers)
    description["frontends"][0]["tls"] = {"certificates": [certificate], **tls}
    return description


def test_each_resumed_session_of_tls_1_3_gets_another_ticket(
    start_servers: Servers, start_gateway: Starter, authority: Authority, tmp_path: Path
) -> None:
    gateway = start_gateway(described(start_servers("app1"), authority.issue("localhost").as_site()))
    took: Path | None = None
    tickets = []
    for number in range(4):
        gets = tmp_path / f"session{number}"
        assert connect(gateway.port, "tls1_3", took, gets) is (number > 0)
        tickets.append(gets.read_bytes())  # there is none if the client got no ticket
        took = gets
    assert len(set(tickets)) == 4


@VERSIONS
def test_keys_rotate_by_time_and_old_tickets_are_renewed(
    start_servers: Servers, authority: Authority, tmp_path: Path, version: str
) -> None:
    certificate = authority.issue("localhost").as_site()
    with WithClock(tmp_path, described(start_servers("app1"), certificate)) as gateway:
        first, renewed = tmp_path / "first", tmp_path / "renewed"
        assert not connect(gateway.port, version, None, first)
        for _ in range(4):  # by either worker
            assert connect(gateway.port, version, first, tmp_path / "same")
        # In TLS 1.2 a ticket of the present key is not renewed; in TLS 1.3 there is one for each connection.
        assert (tmp_path / "same").exists() is (version == "tls1_3")
        gateway.set_clock(START + PERIOD)
        assert connect(gateway.port, version, first, renewed)
        assert key_name(renewed) != key_name(first)
        if version == "tls1_2":
            assert not connect(gateway.port, version, None, renewed)
        gateway.set_clock(START + 2 * PERIOD)
        assert not connect(gateway.port, version, first, tmp_path / "new")
        assert connect(gateway.port, version, renewed, tmp_path / "last")
        gateway.set_clock(START + PERIOD)  # of a gateway whose clock is behind
        assert connect(gateway.port, version, tmp_path / "new", tmp_path / "behind")
        assert "reloaded" not in gateway.log


@VERSIONS
def test_another_certificate_ends_the_sessions_of_the_one_before(
    start_gateway: Starter, start_servers: Servers, authority: Authority, tmp_path: Path, version: str
) -> None:
    description = described(start_servers("app1"), authority.issue("localhost").as_site(), workers=1)
    gateway = start_gateway(description)
    session = tmp_path / "session"
    assert not connect(gateway.port, version, None, session)
    gateway.reload()
    assert connect(gateway.port, version, session, session)
    description["frontends"][0]["tls"]["certificates"] = [authority.issue("localhost").as_site()]
    gateway.reload(description)
    assert not connect(gateway.port, version, session, session)
    assert connect(gateway.port, version, session, session)


def test_tickets_survive_a_restart_and_are_for_gateways_with_the_same_secret(
    start_servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    shared = tmp_path / "tickets.key"
    shared.touch(0o600)
    shared.write_bytes(b"what all gateways of the site know")
    certificate = authority.issue("localhost").as_site()
    servers = start_servers("app1")

    def gateway(name: str) -> GatewayProcess:
        (tmp_path / name).mkdir()
        description = described(servers, certificate, 1)
        tls = {"certificates": [certificate], "ticket_key_file": str(shared)}
        description["frontends"].append({"name": "shared", "listen": f"127.0.0.1:{free_port()}", "tls": tls})
        return GatewayProcess(tmp_path / name, description)

    own, common = tmp_path / "own.session", tmp_path / "common.session"
    first, second = gateway("1"), gateway("2")
    (_, port), (_, common_port) = listeners(first.site)
    with first:
        assert not connect(port, "tls1_3", None, own)
        assert not connect(common_port, "tls1_3", None, common)
        assert not connect(common_port, "tls1_3", own, tmp_path / "other")  # of another frontend
    with first, second:
        assert connect(port, "tls1_3", own, own)
        (_, port), (_, common_port) = listeners(second.site)
        assert not connect(port, "tls1_3", own, tmp_path / "other")
        assert connect(common_port, "tls1_3", common, tmp_path / "other")
