"""Clients that people use, through the gateway, plain and over TLS."""

import asyncio
from collections import Counter
from collections.abc import Callable

import aiohttp
import pytest

from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import needs, run, wrk

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


@pytest.fixture(params=["http", "https"])
def gateway(
    request: pytest.FixtureRequest, start_gateway: Starter, start_servers: Servers, authority: Authority
) -> GatewayProcess:
    """A gateway before three servers, with or without TLS."""
    description = site(start_servers("app1", "app2", "app3"), workers=2)
    if request.param == "https":
        certificate = authority.issue("localhost", "127.0.0.1").as_site()
        description["frontends"][0]["tls"] = {"certificates": [certificate]}
    return start_gateway(description)


def url(gateway: GatewayProcess, path: str) -> str:
    """The address of a path, in the scheme that the gateway speaks."""
    return gateway.url(path, "https" if "tls" in gateway.site["frontends"][0] else "http")


@needs("curl")
def test_curl(gateway: GatewayProcess, authority: Authority) -> None:
    trust = ("--cacert", str(authority.ca))
    assert run("curl", "-sS", *trust, url(gateway, "/bytes/5")) == "abcde"
    many = run("curl", "-sS", *trust, *(url(gateway, "/who") for _ in range(30)))
    assert {many[i : i + 4] for i in range(0, len(many), 4)} == {"app1", "app2", "app3"}
    assert run("curl", "-sS", *trust, "-d", "hello=world", url(gateway, "/sink")) == "11"
    assert run("curl", "-sS", *trust, "--http1.0", url(gateway, "/chunked/5")) == "abcde"
    assert "\nContent-Length: 5\n" in run("curl", "-sSI", *trust, url(gateway, "/bytes/5"))


async def test_aiohttp(gateway: GatewayProcess, authority: Authority) -> None:
    served = Counter[str]()
    connector = aiohttp.TCPConnector(ssl=authority.client_context(), limit=30)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(i: int) -> None:
            size = i * 997 % 100_000
            async with session.get(url(gateway, f"/chunked/{size}" if i % 2 else f"/bytes/{size}")) as response:
                assert response.status == 200
                assert len(await response.read()) == size
                served[response.headers["X-Server"]] += 1
            async with session.post(url(gateway, "/sink"), data=bytes(size)) as response:
                assert await response.text() == str(size)

        await asyncio.gather(*(ask(i) for i in range(300)))
    assert served.total() == 300
    assert set(served) == {"app1", "app2", "app3"}


@needs("wrk")
def test_wrk(gateway: GatewayProcess) -> None:
    result = wrk(url(gateway, "/bytes/1000"), 2, 32)
    assert (result.failed, result.errors) == (0, 0)
    assert result.requests > 500
