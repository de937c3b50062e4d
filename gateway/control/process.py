"""The control process: control's work, driven by what the supervisor says."""

import asyncio
import contextlib
import logging
import signal
import socket
from dataclasses import dataclass

from gateway.board import Board
from gateway.channel import Apply, Channel, Closed, Discovered, Drain, Ready
from gateway.config.discovery import Found
from gateway.config.snapshot import Snapshot
from gateway.control.control import Control
from gateway.control.sites import Sites
from gateway.control.status import Status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What control gets from the supervisor at birth."""

    board: Board
    snapshot: Snapshot
    reports: socket.socket | None
    sites: socket.socket | None
    status: socket.socket | None
    channel: Channel


def run(inherited: Inheritance) -> None:
    """The whole life of the control process."""
    asyncio.run(_live(inherited))


async def _live(inherited: Inheritance) -> None:
    loop = asyncio.get_running_loop()
    channel = inherited.channel

    def tell(found: Found) -> None:
        with contextlib.suppress(Closed):  # noticed below
            channel.send(Discovered(found))

    control = Control(inherited.board, inherited.reports, tell)
    status = Status(inherited.status, inherited.board, control.servers) if inherited.status is not None else None
    sites = Sites(inherited.board)
    news = asyncio.Event()
    loop.add_reader(channel, news.set)
    loop.add_signal_handler(signal.SIGTERM, asyncio.current_task(loop).cancel)  # type: ignore[union-attr]
    try:
        await control.apply(inherited.snapshot)
        await sites.apply(inherited.snapshot, inherited.sites)
        if status is not None:
            status.apply(inherited.snapshot)
        channel.send(Ready(inherited.snapshot.version))
        while True:
            await news.wait()
            news.clear()
            for message, descriptors in channel.receive():
                match message:
                    case Apply():
                        new = {
                            name: socket.socket(fileno=descriptor)
                            for name, descriptor in zip(message.datagrams, descriptors, strict=True)
                        }
                        snapshot = message.packed.snapshot
                        await control.apply(snapshot, new.get("reports"))
                        await sites.apply(snapshot, new.get("sites"))
                        if status is not None:
                            status.apply(snapshot)
                        channel.send(Ready(snapshot.version))
                    case Drain():
                        return
    except Closed:
        log.error("the supervisor is gone: control ends")
    except asyncio.CancelledError:
        log.info("asked to end")
    finally:
        loop.remove_reader(channel)
        if status is not None:
            status.close()
        await sites.close()
        await control.close()
