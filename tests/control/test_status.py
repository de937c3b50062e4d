import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.board import Board
from gateway.control.status import NAME, Status, listen
from tests.control.sites import snapshot


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    sock = listen(tmp_path / "run", takes_over=False)
    assert sock is not None
    status = Status(sock, Board(), lambda: {"a": 1})
    status.apply(snapshot(tmp_path, {"app": {"servers": ["127.0.0.1:1"]}}))
    yield tmp_path / "run" / NAME
    status.close()


async def ask(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    writer.write_eof()
    try:
        return await reader.read()
    except ConnectionResetError:  # not all that was said has been read
        return b""
    finally:
        writer.close()


async def test_only_its_owner_may_ask_and_only_what_there_is(path: Path) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116 - at once
    assert json.loads(await ask(path, b"status\n")) == {"a": 1}
    for data in (b"", b"\n", b"status", b"stop\n", b"x" * 10_000, b"\xff\n"):
        assert await ask(path, data) == b""


async def test_who_has_it_keeps_it(path: Path) -> None:
    # In a thread: it waits for an answer of this very loop only as long as a connection takes.
    assert await asyncio.to_thread(listen, path.parent, takes_over=False) is None
    assert json.loads(await ask(path, b"status\n")) == {"a": 1}


def test_where_there_can_be_no_socket_the_rest_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    caplog.set_level("WARNING")
    assert listen(tmp_path / "file", takes_over=False) is None
    assert "will not work for this gateway" in caplog.text
    with socket.socket(socket.AF_UNIX) as stale:  # left by one that was killed
        stale.bind(str(tmp_path / NAME))
    taken = listen(tmp_path, takes_over=False)
    assert taken is not None
    taken.close()
