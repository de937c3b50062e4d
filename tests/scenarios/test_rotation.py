"""Rotation of the access log: rename, SIGUSR1, and not a line is lost."""

import json
import signal

import pytest

from tests.support.gateway_process import site
from tests.support.load import Load
from tests.support.raw import RawClient
from tests.support.waiting import eventually


def lines(path):
    return path.read_text().splitlines()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "access.log"


def rotate(gateway, path):
    """Do what logrotate does, and return where the old lines are now."""
    old = path.rename(path.with_suffix(".1"))
    since = len(gateway.log)
    gateway.process.send_signal(signal.SIGUSR1)
    gateway.wait_for_log("access log reopened", since)
    return old


def test_rotation_under_load_loses_no_line(start_servers, start_gateway, path):
    description = site(start_servers("app1", "app2"), workers=2) | {"access_log": {"path": str(path)}}
    gateway = start_gateway(description)
    with Load(gateway.port, "/load", clients=12) as load:
        load.wait_for(300)
        old = rotate(gateway, path)
        load.wait_for(300)
    assert gateway.terminate() == 0
    assert load.failures == []
    written = [[json.loads(line) for line in lines(file)] for file in (old, path)]
    assert min(map(len, written)) > 100
    assert len(written[0]) + len(written[1]) == load.good
    assert {(item["uri"], item["status"]) for part in written for item in part} == {("/load", 200)}


def test_new_file_is_for_workers_that_come_later_too(start_servers, start_gateway, path):
    description = site(start_servers("app1")) | {"access_log": {"path": str(path), "format": "{uri}"}}
    gateway = start_gateway(description)

    def ask(uri, written):
        with RawClient(gateway.port) as client:
            assert client.get(uri).status == 200
        eventually(lambda: lines(path) == written, f"the line of {uri}")

    ask("/one", ["/one"])
    old = rotate(gateway, path)
    ask("/two", ["/two"])
    killed = gateway.kill_worker(0)
    eventually(lambda: gateway.workers().get(0, killed) != killed, "the new worker")
    ask("/three", ["/two", "/three"])
    gateway.reload(description | {"node": "other"}, "worker 0 uses version 2")
    ask("/four", ["/two", "/three", "/four"])
    assert lines(old) == ["/one"]
