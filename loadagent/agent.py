"""A running agent: takes samples, sends reports to the gateways, answers requests for the load."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable
from functools import partial

from loadagent.admin_state import AdminState
from loadagent.answer import MAX_HEAD_BYTES, Answer
from loadagent.config import AgentConfig, read_key
from loadagent.door import Door
from loadagent.log_throttle import LogThrottle
from loadagent.measures import Measure, get_url, run_command
from loadagent.numbering import Numbering
from loadagent.push import DatagramLink
from loadagent.report import Report, encode
from loadagent.score import Sample
from loadagent.sensors import Cpu, Memory, Network, RunQueue, Sensor

_log = logging.getLogger("loadagent")


class Sampler:
    """Collects the configured metrics into samples: it reads the sensors; measures run as tasks of their own."""

    def __init__(self, config: AgentConfig, measures: Iterable[Measure] = ()) -> None:
        self._limits = config.metrics.limits
        self._measures = tuple(measures)
        network = config.metrics.network
        makers: dict[str, Callable[[], Sensor]] = {
            "cpu": Cpu,
            "run_queue": RunQueue,
            "memory": Memory,
            "network": partial(Network, network.interface if network else ""),
        }
        self._sensors = {name: make() for name, make in makers.items() if name in self._limits}
        self._throttle = LogThrottle(period=600.0)

    def sample(self) -> Sample:
        """Take a sample. A sensor that fails is logged and omitted."""
        values = {measure.name: measure.value for measure in self._measures if measure.value is not None}
        for name, sensor in self._sensors.items():
            try:
                values[name] = sensor.read()
            except OSError as error:
                if self._throttle.ask(name, time.monotonic()) is not None:
                    _log.warning("metric %s is left out of the score: %s", name, error)
        return Sample(values, self._limits)


class Reporter:
    """Makes the reports of an agent."""

    def __init__(self, config: AgentConfig, clock: Callable[[], int] = time.time_ns) -> None:
        self._config = config
        self._admin_state = AdminState(config.state_file, config.state)
        self._numbering = Numbering(clock)

    def report(self, sample: Sample) -> Report:
        """Return the next report."""
        incarnation, sequence, now = self._numbering.next()
        return Report(
            server=self._config.server,
            backend=self._config.backend,
            incarnation=incarnation,
            sequence=sequence,
            time=now,
            state=self._admin_state.state,
            metrics=sample.shares,
        )


async def take_sample(config: AgentConfig) -> Sample:
    """Measure for one interval and return the result."""
    measures = _measures(config)
    sampler = Sampler(config, measures)
    await asyncio.gather(asyncio.sleep(config.interval), *(measure.once() for measure in measures))
    return sampler.sample()


async def run_agent(config: AgentConfig) -> None:
    """Run an agent until cancelled. Raises OSError if it cannot listen, ValueError if the key is unusable."""
    key = read_key(config.key_file) if config.key_file else b""
    async with contextlib.AsyncExitStack() as stack:
        measures = _measures(config)
        links = [stack.enter_context(DatagramLink(gateway)) for gateway in config.gateways] if key else []
        sampler = Sampler(config, measures)
        latest = sampler.sample()
        if config.listen:
            answer = Answer(
                config.server, AdminState(config.state_file, config.state), lambda: latest, Door(config.allow)
            )
            server = await asyncio.start_server(answer, config.listen.host, config.listen.port, limit=MAX_HEAD_BYTES)
            await stack.enter_async_context(server)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        for background in (*(measure.run() for measure in measures), *(link.follow() for link in links)):
            tasks.create_task(background)
        reporter = Reporter(config)
        while True:
            # Jitter keeps the agents of a farm from reporting all at the same time.
            await asyncio.sleep(config.interval * random.uniform(0.95, 1.05))  # noqa: S311
            latest = sampler.sample()
            datagram = encode(reporter.report(latest), key)
            for link in links:
                link.send(datagram)


def _measures(config: AgentConfig) -> list[Measure]:
    measures = []
    if command := config.metrics.command:
        measures.append(Measure("command", partial(run_command, command.run), command.every))
    if url := config.metrics.url:
        measures.append(Measure("url", partial(get_url, url.get), url.every))
    return measures
