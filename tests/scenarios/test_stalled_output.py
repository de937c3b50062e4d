"""Nobody reads what the gateway writes to its standard output or error: traffic goes on, and so do signals."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import hardened
from tests.support.backend_server import ROOT, BackendServer
from tests.support.gateway_process import site
from tests.support.raw import RawClient
from tests.support.waiting import answers, eventually

Servers = Callable[..., list[BackendServer]]
LONG = "/x" * 200


@contextmanager
def piped(
    directory: Path, description: dict[str, Any], *, both: bool
) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A gateway with its standard output in a small pipe (and standard error, too, if `both`): process, port, reader."""
    path = directory / "site.yaml"
    path.write_text(yaml.safe_dump({"admin": {"sockets": str(directory)}, "state": str(directory), **description}))
    port = int(description["frontends"][0]["listen"].rpartition(":")[2])
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "run", str(path)],
            cwd=ROOT, env=hardened.environment(), stdout=writer, stderr=writer if both else log, start_new_session=True,
        )  # fmt: skip
    try:
        eventually(lambda: answers("127.0.0.1", port), "the gateway to accept", 40.0)
        yield process, port, reader
    finally:
        os.close(writer)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(reader)


@pytest.mark.parametrize("both", [False, True], ids=["output", "output and error"])
def test_a_reader_that_stalls_stops_nothing(start_servers: Servers, tmp_path: Path, both: bool) -> None:  # noqa: FBT001
    description = {**site(start_servers("app1")), "access_log": "-", "drain": "1s"}
    with piped(tmp_path, description, both=both) as (process, port, _):
        with RawClient(port) as client:
            for _ in range(2000):  # a megabyte of log
                assert client.get(f"/status/200?{LONG}").status == 200
        with RawClient(port) as client:
            assert client.get("/status/200").status == 200
        process.terminate()
        assert process.wait(20.0) == 0
    if not both:
        assert "cannot write the access log: its reader is too slow" in (tmp_path / "log").read_text()


def test_lines_are_whole_again_when_it_is_read(start_servers: Servers, tmp_path: Path) -> None:
    """What was lost was lost by the line, however much of one had been written when the pipe was full."""
    description = {**site(start_servers("app1")), "access_log": {"path": "-", "format": "<{uri}>"}, "drain": "1s"}
    with piped(tmp_path, description, both=False) as (process, port, reader):
        with RawClient(port) as client:
            for _ in range(1500):
                assert client.get(f"/status/200?{LONG}").status == 200
            got = bytearray()

            def drain() -> None:
                while piece := os.read(reader, 65536):
                    got.extend(piece)

            threading.Thread(target=drain, daemon=True).start()

            def is_told() -> bool:
                client.get("/status/200?last")  # a line is lost as long as nothing has been read
                return b"</status/200?last>\n" in got

            eventually(is_told, "the last line")
        process.terminate()
        assert process.wait(20.0) == 0
        lines = bytes(got).decode().splitlines()
    assert set(lines) == {f"</status/200?{LONG}>", "</status/200?last>"}
    assert 10 < len(lines) < 1500
    assert "the access log can be written again" in (tmp_path / "log").read_text()
