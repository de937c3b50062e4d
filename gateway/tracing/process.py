"""The tracing process: reads what workers record of sampled requests, and sends spans to the collector.

It is the only one that knows the collector. Workers write to a socket of packets that the supervisor keeps open: when
this process is slow, or dies, they count what they lose, and nothing waits.
"""

import asyncio
import contextlib
import encodings.idna  # noqa: F401 - before the process is confined, after which it may be inaccessible
import logging
from dataclasses import asdict
from functools import partial
from typing import Final

import aiohttp

from gateway.admin import report_json
from gateway.process.child import ChildContext, LoopChild, Update, Work, run_loop
from gateway.process.tail_limits import PACKET
from gateway.reports import TracingReport
from gateway.tracing import spans
from gateway.tracing.outbox import BATCH, Outbox

TIMEOUT: Final = 10.0
"""Seconds for a request to the collector."""
LAST_WORDS: Final = 1.5
"""Seconds for what waits when the gateway ends, less than the supervisor's GRACE."""
MOST_READ: Final = 64
"""Packets that are read before other work goes on."""
ANSWER: Final = 1 << 16
"""Bytes of an answer that are read."""
AGAIN: Final = frozenset({429, 502, 503, 504})
"""Statuses after which the same spans are sent again (OTLP 1.x, section Retryable Response Codes)."""
EVERY: Final = 0.25
"""Seconds between two looks at what is due."""

log = logging.getLogger("gateway.tracing")


class _Later(Exception):
    """The collector takes nothing now; the text says why."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class _Never(Exception):
    """The collector will not take these spans; the text says why."""


def prepare(context: ChildContext) -> Work:
    """The part of the start that runs once the process is confined."""
    return partial(run_loop, lambda: TracingProcess(context))


class TracingProcess(LoopChild):
    """Works by successive snapshots."""

    def __init__(self, context: ChildContext) -> None:
        super().__init__(context.channel)
        assert context.spans is not None  # noqa: S101 - the role gets it
        self._socket = context.spans
        self._socket.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._bulletin = context.bulletins["tracing"]
        self._outbox = _go_on(self._bulletin.read())
        self._snapshot = context.snapshot
        self._said = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin by the first snapshot."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._hear)
        self._task = loop.create_task(self._work())
        self._task.add_done_callback(self._failed)
        self.ready(self._snapshot.version)

    async def go_over(self, update: Update) -> None:
        """Work by another snapshot: what waits goes to the collector that this one names."""
        self._snapshot = update.snapshot
        self.ready(self._snapshot.version)

    def drain(self, seconds: float) -> None:  # noqa: ARG002 - `close` sends what waits
        """End."""
        self.end()

    async def close(self) -> None:
        """Send what is left, within LAST_WORDS."""
        asyncio.get_running_loop().remove_reader(self._socket)
        if self._task is not None:
            self._task.remove_done_callback(self._failed)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        while self._hear():
            pass
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while len(self._outbox) and await self._send():
                    pass
        if left := len(self._outbox):
            log.warning(
                "tracing: the spans of %d traced requests are lost: %s", left, self._outbox.failing or "no time is left"
            )
        self._outbox.stop()
        self._post()

    def _failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._ended.done():
            self._ended.set_exception(error)

    def _hear(self) -> bool:
        """Take what workers have sent; whether there may be more."""
        now = asyncio.get_running_loop().time()
        for _ in range(MOST_READ):
            try:
                packet = self._socket.recv(PACKET)
            except (BlockingIOError, InterruptedError):
                return False
            if not packet:
                return False
            try:
                found, lost = spans.read(packet)
            except spans.Malformed as error:
                self._outbox.lost["malformed"] += 1
                self._say(f"a worker has written what cannot be read: {error}")
                continue
            self._outbox.lost["worker"] += lost
            for traced in found:
                self._outbox.put(traced, now)
        return True

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._outbox.due() <= loop.time():
                await self._send()
            self._post()
            await asyncio.sleep(0 if len(self._outbox) >= BATCH and not self._outbox.failing else EVERY)

    async def _send(self) -> bool:
        """Send a batch; whether the collector answers."""
        loop = asyncio.get_running_loop()
        tracing = self._snapshot.site.tracing
        if tracing is None:
            return False  # a reload has turned it off, and this process ends
        batch = self._outbox.take()
        made = []
        for traced in batch:
            try:
                made += spans.spans(traced)
            except spans.Malformed as error:
                self._outbox.lost["malformed"] += 1
                self._say(f"a worker has written what cannot be read: {error}")
        body = await asyncio.to_thread(spans.request, made, tracing.service, self._snapshot.site.node)
        try:
            rejected, why = await _post(tracing.otlp, dict(tracing.headers), body)
        except _Later as error:
            self._outbox.failed(batch, str(error), loop.time(), error.wait)
            self._say(f"{tracing.otlp} takes no spans: {error}; they wait, and the oldest are lost when too many do")
            return False
        except _Never as error:
            self._outbox.refused(len(batch), str(error), loop.time())
            self._say(f"{tracing.otlp} refuses spans, which are lost: {error}")
            return True
        except asyncio.CancelledError:
            self._outbox.failed(batch, self._outbox.failing, loop.time())
            raise
        self._outbox.sent(len(batch), rejected, loop.time())
        self._say(f"{tracing.otlp} has not taken {rejected} spans: {why}" if rejected else "")
        return True

    def _say(self, problem: str) -> None:
        """Log a problem when it begins or changes, and its end."""
        if problem != self._said:
            if problem:
                log.warning("tracing: %s", problem)
            elif self._said:
                log.info("tracing: spans are taken again")
            self._said = problem

    def _post(self) -> None:
        outbox = self._outbox
        self._bulletin.post(
            asdict(
                TracingReport(
                    exported=outbox.exported, waiting=len(outbox), lost=dict(outbox.lost), failing=outbox.failing
                )
            )
        )


async def _post(url: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
    """Send spans: how many the collector has not taken, and why. Raises _Later, _Never."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT), trust_env=False) as session,
            session.post(
                url,
                data=body,
                headers={**headers, "Content-Type": "application/x-protobuf"},
                allow_redirects=False,
            ) as answer,
        ):
            said = await answer.content.read(ANSWER)
            if answer.status in AGAIN:
                after = answer.headers.get("Retry-After", "")
                wait = float(after) if after.isascii() and after.isdecimal() and len(after) < 6 else 0.0
                raise _Later(f"status {answer.status}", wait)
            if not 200 <= answer.status < 300:
                raise _Never(f"status {answer.status}")
    except TimeoutError:
        raise _Later(f"no answer in {TIMEOUT:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _Later(str(error) or type(error).__name__) from None
    try:
        return spans.rejected(said)
    except spans.Malformed:
        return 0, ""  # it has taken them, and says so in words of its own


def _go_on(said: object) -> Outbox:
    """Go on with the counts of the process before."""
    if said is not None:
        with contextlib.suppress(report_json.Unreadable):
            report = report_json.tracing(said)
            return Outbox(report.exported, report.lost)
    return Outbox()
