"""Fixtures that every test may use."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from gateway.system import running
from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site

# How long an example takes says something of the machine, and nothing of what is tested.
settings.register_profile("any machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("unit", settings.get_profile("any machine"), max_examples=20)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority, the same for the whole run."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session", autouse=True)
def _run_directory() -> Iterator[None]:
    """Let the gateways of the tests be found among themselves, not among those that run on this machine."""
    with tempfile.TemporaryDirectory(prefix="run") as directory, pytest.MonkeyPatch.context() as patch:
        Path(directory).chmod(0o755)
        patch.setenv(running.VARIABLE, directory)
        yield


@pytest.fixture(autouse=True)
def _no_process_dies() -> Iterator[None]:
    """Fail a test in which a process died of a gateway that outlives it; those that end with it see to it themselves."""
    yield
    for gateway in list(GatewayProcess.running):
        gateway.refuse_deaths()


@pytest.fixture
def start_servers(tmp_path: Path) -> Iterator[Callable[..., list[BackendServer]]]:
    """Start back-end servers of the given names; they end with the test."""
    with ExitStack() as stack:
        yield lambda *names: [stack.enter_context(BackendServer(tmp_path, name)) for name in names]


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[[Site], GatewayProcess]]:
    """Start a gateway on a site; it ends with the test."""
    with ExitStack() as stack:
        yield lambda description: stack.enter_context(GatewayProcess(tmp_path, description))
