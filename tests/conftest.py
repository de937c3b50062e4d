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
from tests.support.lent_gateway import Lender

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


@pytest.fixture(scope="module")
def _lender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender]:
    """The gateways that the tests of a module borrow; they end with the module."""
    with Lender(tmp_path_factory) as lender:
        yield lender


@pytest.fixture
def lend_gateway(_lender: Lender) -> Iterator[Callable[[Site], GatewayProcess]]:
    """Lend a gateway for a site: one that the module has already, after a reload, or else a new one.

    The test leaves it with all processes that it had, and no client connected. One that kills, upgrades or stops it, or
    looks at what is said at a start, needs `start_gateway`.
    """
    with ExitStack() as stack:
        yield lambda description: stack.enter_context(_lender.lend(description))
