"""The Unix socket that `gateway status` asks."""

import selectors
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.heartbeat.status import Listener
from gateway.system.process_socket import NoAnswer, ask


def obey(command: str) -> dict[str, Any]:
    return {"one": 1 // len(command.removeprefix("fail"))}


def test_a_question_that_fails_costs_an_answer_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    selector = selectors.DefaultSelector()
    listener = Listener(tmp_path / "heartbeat.sock", selector, obey)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            for key, _ in selector.select(0.05):
                key.data()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with pytest.raises(NoAnswer, match="says: internal error of the heartbeat; see its log"):
            ask(tmp_path, "fail")
        assert ask(tmp_path, "x") == {"one": 1}
    finally:
        ended.set()
        thread.join()
        listener.close()
    assert "fail cannot be served" in caplog.text
