import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loadagent.agent import Reporter, Sampler, run_agent, take_sample
from loadagent.config import AgentConfig
from loadagent.measures import Measure
from loadagent.report import Report, State, decode
from loadagent.score import Sample
from tests.support.waiting import free_port

KEY = b"0123456789abcdef"


@contextlib.asynccontextmanager
async def running(config: AgentConfig) -> AsyncIterator[None]:
    task = asyncio.create_task(run_agent(config))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    try:
        return await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return None


def test_reports_are_numbered_within_one_incarnation() -> None:
    times = iter([100, 200, 300])
    config = AgentConfig.model_validate({"server": "a", "backend": "b", "state": "drain"})
    reporter = Reporter(config, lambda: next(times))
    sample = Sample({"cpu": 0.5}, {"cpu": 1.0})
    assert reporter.report(sample) == Report("a", 100, 1, 200, State.DRAIN, "b", {"cpu": 0.5})
    assert reporter.report(sample) == Report("a", 100, 2, 300, State.DRAIN, "b", {"cpu": 0.5})


async def test_a_sample_holds_what_can_be_measured(caplog: pytest.LogCaptureFixture) -> None:
    config = AgentConfig.model_validate(
        {
            "metrics": {
                "memory": 0.5,
                "network": {"interface": "none9", "bits": "1Gbit"},
                "url": {"get": "http://x", "full": 10},
            }
        }
    )

    async def take() -> float:
        return 5.0

    measure = Measure("url", take, every=1.0)
    sampler = Sampler(config, [measure])
    assert set(sampler.sample().values) == {"memory"}
    await measure.once()
    assert set(sampler.sample().shares) == {"memory", "url"}
    assert sampler.sample().shares["url"] == 0.5
    assert caplog.messages == ["metric network is left out of the score: there is no network interface 'none9'"]


async def test_take_sample_waits_for_the_measures() -> None:
    config = AgentConfig.model_validate(
        {"interval": "100ms", "metrics": {"cpu": 1.0, "command": {"run": "echo 30", "full": 10}}}
    )
    sample = await take_sample(config)
    assert sample.shares["command"] == 3.0
    assert 0.0 <= sample.values["cpu"] <= 1.0


async def test_an_agent_reports_to_every_gateway_that_can_be_reached(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(KEY + b"\n")
    key_file.chmod(0o600)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
        gateway.bind(("127.0.0.1", 0))
        gateway.settimeout(20.0)
        port = gateway.getsockname()[1]
        config = AgentConfig.model_validate(
            {
                "server": "app1",
                "gateways": ["127.0.0.1:9", f"127.0.0.1:{port}"],
                "key_file": str(key_file),
                "interval": "100ms",
                "metrics": {"command": {"run": "echo 7", "full": 10, "every": "100ms"}},
            }
        )
        async with running(config):
            reports = [decode(await asyncio.to_thread(gateway.recv, 2000), KEY) for _ in range(3)]
            while reports[-1].score != 0.7:
                reports.append(decode(await asyncio.to_thread(gateway.recv, 2000), KEY))
    assert {report.server for report in reports} == {"app1"}
    assert len({report.incarnation for report in reports}) == 1
    assert [report.sequence for report in reports] == sorted({report.sequence for report in reports})


async def test_an_agent_answers_without_gateways(unused_port: int) -> None:
    config = AgentConfig.model_validate({"server": "app1", "listen": f"127.0.0.1:{unused_port}", "interval": "100ms"})
    async with running(config), asyncio.timeout(20):
        while not (connection := await connect(unused_port)):  # noqa: ASYNC110 - it does not say when it listens
            await asyncio.sleep(0.01)
        reader, writer = connection
        writer.write(b"GET /load HTTP/1.1\r\n\r\n")
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        await writer.wait_closed()
    assert json.loads(body)["metrics"].keys() == {"cpu", "run_queue", "memory"}


async def test_an_agent_that_cannot_listen_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = AgentConfig.model_validate({"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        with pytest.raises(OSError, match="address already in use"):
            await run_agent(config)


@pytest.fixture
def unused_port() -> int:
    return free_port()
