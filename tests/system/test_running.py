"""Where the commands look for running gateways."""

import os
from pathlib import Path

import pytest

from gateway.system import running


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (running.VARIABLE, "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def test_a_runtime_directory_that_may_not_be_looked_for_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is within a unit with ProtectHome=, whose `gateway reload` must find the gateway beside it."""
    stat = os.stat

    def hidden(path: str, **options: bool) -> os.stat_result:
        if str(path).startswith("/run/user/"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", hidden)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert running.place().name == "gateway-4711"
    assert Path("/run/gateway") in running._places()
