import asyncio
import socket
from collections.abc import Iterator

import pytest

from loadagent.config import Endpoint
from loadagent.push import DatagramLink
from tests.support.waiting import free_udp_port


@pytest.fixture
def gateway() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", free_udp_port()))
        listener.settimeout(20.0)
        yield listener


async def test_a_report_arrives(gateway: socket.socket) -> None:
    with DatagramLink(Endpoint("localhost", gateway.getsockname()[1])) as link:
        await link.resolve()
        link.send(b"report")
        assert await asyncio.to_thread(gateway.recv, 100) == b"report"


async def test_before_its_address_is_known_a_report_is_dropped() -> None:
    with DatagramLink(Endpoint("localhost", 9)) as link:
        link.send(b"report")


async def test_a_name_that_does_not_resolve_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_args: object, **_options: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    with DatagramLink(Endpoint("gw.invalid", 8201)) as link:
        await link.resolve()
        await link.resolve()
        link.send(b"report")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("cannot report to gateway gw.invalid:8201: ")


async def test_a_name_that_stops_resolving_keeps_its_last_address(
    gateway: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DatagramLink(Endpoint("localhost", gateway.getsockname()[1])) as link:
        await link.resolve()

        async def fail(*_args: object, **_options: object) -> list[object]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
        await link.resolve()
        link.send(b"report")
        assert await asyncio.to_thread(gateway.recv, 100) == b"report"


async def test_a_gateway_that_refuses_is_logged_and_served_again_when_back(
    gateway: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    address = gateway.getsockname()
    gateway.close()
    with DatagramLink(Endpoint(*address)) as link:
        await link.resolve()
        for _ in range(5):
            link.send(b"lost")
        assert len(caplog.messages) == 1
        assert "Connection refused" in caplog.messages[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
            back.bind(address)
            back.settimeout(20.0)
            link.send(b"report")
            assert await asyncio.to_thread(back.recv, 100) == b"report"
