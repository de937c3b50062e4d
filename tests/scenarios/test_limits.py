"""What happens when the machine has no more to give."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.programs import needs
from tests.support.raw import RawClient

Servers = Callable[..., list[BackendServer]]


class FewDescriptors(GatewayProcess):
    """A gateway that may open 40 files."""

    command = ("prlimit", "--nofile=40:40", sys.executable, "-m", "gateway", "run")


@needs("prlimit")
def test_clients_wait_when_descriptors_run_out(start_servers: Servers, tmp_path: Path) -> None:
    with FewDescriptors(tmp_path, site(start_servers("app1"))) as gateway:
        with ExitStack() as stack:
            clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(40)]
            gateway.wait_for_log("out of file descriptors")
            # Those who are in are served, over a connection to the server that is there already or not at all.
            assert clients[0].get("/bytes/1").status in (200, 502)
        with RawClient(gateway.port) as client:
            assert client.get("/bytes/10").body == b"abcdefghij"
        assert gateway.log.count("out of file descriptors") < 5
        assert "Traceback" not in gateway.log
