"""The control process: control's work, driven by what the supervisor says."""

import asyncio
import logging
import signal
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.board import Board
from gateway.config.discovery import Found
from gateway.config.snapshot import Snapshot
from gateway.control.control import Control
from gateway.control.operations_report import OperationsReport
from gateway.control.sites import Sites
from gateway.control.status import Status
from gateway.process.bulletin import Bulletin
from gateway.process.channel import Apply, ChildEnd, Closed, Discovered, Drain, Ready

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What control gets from the supervisor at birth."""

    board: Board
    snapshot: Snapshot
    sockets: dict[str, socket.socket]
    """Bound already, by their names: reports, sites, hints, admin."""
    status: socket.socket | None
    bulletins: tuple[Bulletin, Bulletin]
    """The supervisor's and the heartbeat's."""
    channel: ChildEnd


def run(inherited: Inheritance) -> None:
    """The whole life of the control process."""
    asyncio.run(_live(inherited))


async def _live(inherited: Inheritance) -> None:
    loop = asyncio.get_running_loop()
    channel = inherited.channel

    board, sockets = inherited.board, inherited.sockets
    control = Control(board, sockets.get("reports"), partial(_tell, channel))
    sites = Sites(board)

    def known() -> dict[str, Any]:
        refused = {**control.refused, "site report": sites.refused}
        return {**control.servers(), "sites": sites.loads(), "refused": refused}

    operations_report = OperationsReport(board, *inherited.bulletins, known)
    status = Status(inherited.status, board, operations_report.report) if inherited.status is not None else None

    async def apply(snapshot: Snapshot, new: dict[str, socket.socket]) -> None:
        await control.apply(snapshot, new.get("reports"), new.get("hints"))
        await sites.apply(snapshot, new.get("sites"))
        operations_report.apply(snapshot, new.get("admin"))
        if status is not None:
            status.apply(snapshot)
        channel.send(Ready(snapshot.version))

    news = asyncio.Event()
    loop.add_reader(channel, news.set)
    loop.add_signal_handler(signal.SIGTERM, asyncio.current_task(loop).cancel)  # type: ignore[union-attr]
    try:
        await apply(inherited.snapshot, {name: sock for name, sock in sockets.items() if name != "reports"})
        while True:
            await news.wait()
            news.clear()
            for message, descriptors in channel.receive():
                match message:
                    case Apply():
                        named = zip(message.control, descriptors, strict=True)
                        await apply(message.packed.snapshot, {name: socket.socket(fileno=fd) for name, fd in named})
                    case Drain():
                        return
    except Closed:
        log.error("the supervisor has exited; stopping control")
    except asyncio.CancelledError:
        log.info("asked to end")
    finally:
        loop.remove_reader(channel)
        if status is not None:
            status.close()
        operations_report.close()
        await sites.close()
        await control.close()


def _tell(channel: ChildEnd, found: Found) -> None:
    """Let the supervisor know what the name service says."""
    try:
        channel.send(Discovered(found))
    except Closed:
        pass  # noticed where the channel is read
    except ValueError as error:
        log.error("ignoring a DNS answer that is too large: %s", error)
