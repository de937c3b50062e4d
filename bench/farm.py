"""Origins, proxies and load generator of a measurement: all run at once, each on its processors."""

import http.client
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.build import build
from bench.load import Generator, Load
from bench.meter import Usage
from bench.peers.peer import SEARCH, SERVER_NAME, Peer, Setup
from tests.support.certificates import Authority, Certificate
from tests.support.deaths import deaths, verdict
from tests.support.ending import end_process
from tests.support.waiting import answers, free_port

FAST_DIRECTORY = Path("/dev/shm")  # noqa: S108 - logs go to memory: the disk must not affect the results
START_SECONDS = 60.0
STOP_SECONDS = 15.0
MAX_IDLE = 0.05  # of a processor


class FarmFailed(Exception):
    """A program does not start or fails; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a farm is made: `servers` behind each proxy, see Setup for `routes`, `features` and `qos`, and who may use
    which processors (see taskset). With `tls` the servers are nginx and speak it. With `direct`, last in turn, the
    origin takes part without a proxy before it.
    """

    servers: int = 3
    workers: int = 1
    routes: int = 0
    features: bool = False
    qos: bool = False
    direct: bool = False
    tls: bool = False
    proxy_cores: str = "1"
    load_cores: str = "0"


DIRECT = Peer("direct", "cc", lambda _: [], tls=False)
"""No proxy: the origin itself."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running proxy; `pid` is the first of its processes."""

    peer: Peer
    setup: Setup
    pid: int

    @property
    def name(self) -> str:
        """Its name."""
        return self.peer.name

    def port(self, load: Load) -> int:
        """The port for a load."""
        return self.setup.tls_port if load.tls else self.setup.port


@dataclass(frozen=True, slots=True)
class Farm:
    """What runs: the proxies in turn order, the generator that loads them, the port of the origin."""

    generator: Generator
    proxies: Sequence[Running]
    origin: int

    def counters(self) -> tuple[int, int]:
        """Return how many connections have carried requests to the origin, and how many these were."""
        connection = http.client.HTTPConnection("127.0.0.1", self.origin, timeout=10)
        connection.request("GET", "/stats")
        connections, requests = connection.getresponse().read().split()
        connection.close()
        return int(connections), int(requests)


@contextmanager
def process_on(process: "subprocess.Popen[bytes]", port: int, log: Path) -> Iterator[int]:
    """Give the pid once `port` accepts, and end the process afterwards. Raises FarmFailed."""
    try:
        end = time.monotonic() + START_SECONDS
        while not answers("127.0.0.1", port):
            if process.poll() is not None or time.monotonic() > end:
                raise FarmFailed(f"does not start: {process.args!r}\n{log.read_text(errors='replace')}")
            time.sleep(0.005)
        yield process.pid
    finally:
        end_process(process, STOP_SECONDS)


@contextmanager
def no_deaths(log: Path) -> Iterator[None]:
    """Raise FarmFailed afterwards if processes of the gateway died meanwhile: the measurement is not valid."""
    yield
    text = log.read_text(errors="replace")
    if said := verdict(deaths(text), text):
        raise FarmFailed(said)


@contextmanager
def directory() -> Iterator[Path]:
    """Give a directory in memory that is accessible to processes without privileges, too."""
    with tempfile.TemporaryDirectory(dir=FAST_DIRECTORY) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@contextmanager
def origin(place: Path, servers: int, cores: str) -> Iterator[tuple[int, int]]:
    """Run one origin that is `servers` servers; give its port and pid. Raises FarmFailed."""
    port = free_port()
    command = ["taskset", "-c", cores, build("origin", place), str(port), str(servers)]
    log = place / "origin.err"
    with log.open("wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
    with process_on(process, port, log) as pid:
        yield port, pid


TLS_ORIGIN = """
daemon off;
worker_processes 1;
pid {place}/origin.pid;
error_log {place}/origin.error crit;
events {{ worker_connections 18000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {place}/origin.body;
    proxy_temp_path {place}/origin.proxy;
    fastcgi_temp_path {place}/origin.fastcgi;
    uwsgi_temp_path {place}/origin.uwsgi;
    scgi_temp_path {place}/origin.scgi;
    server {{
        listen {port} ssl;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        location = /bytes/130 {{ return 200 "{body}"; }}
    }}
}}
"""


@contextmanager
def tls_origin(place: Path, pair: Certificate, layout: Layout) -> Iterator[tuple[int, int]]:
    """Run nginx as the servers, with TLS and the small answer; give its port and pid. Raises FarmFailed."""
    port = free_port()
    text = TLS_ORIGIN.format(place=place, port=port, cert=pair.cert, key=pair.key, body="x" * 130)
    (place / "origin.conf").write_text(text)
    log = place / "origin.error"
    log.touch()
    command = ["taskset", "-c", layout.load_cores, "nginx", "-c", str(place / "origin.conf"), "-e", str(log)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "PATH": SEARCH})
    with process_on(process, port, log) as pid:
        yield port, pid


def addresses(port: int, servers: int) -> tuple[str, ...]:
    """Return the addresses on which origin.c listens."""
    return tuple(f"127.0.{i // 250}.{1 + i % 250}:{port}" for i in range(servers))


@dataclass(frozen=True, slots=True)
class Ground:
    """The common parts of a measurement: a directory, a certificate, the origin."""

    place: Path
    certificate: Certificate
    ca: Path
    port: int
    pid: int
    layout: Layout

    def setup(self) -> Setup:
        """Return the setup for another proxy."""
        layout = self.layout
        return Setup(
            self.place,
            free_port(),
            free_port(),
            addresses(self.port, layout.servers),
            self.certificate.cert,
            self.certificate.key,
            layout.workers,
            layout.proxy_cores,
            layout.routes,
            layout.features,
            layout.qos,
            self.ca if layout.tls else None,
        )


@contextmanager
def ground(layout: Layout) -> Iterator[Ground]:
    """Run the origin. Raises FarmFailed."""
    with directory() as place:
        authority = Authority(place)
        pair = authority.issue(SERVER_NAME)
        program = tls_origin(place, pair, layout) if layout.tls else origin(place, layout.servers, layout.load_cores)
        with program as (port, pid):
            yield Ground(place, pair, authority.ca, port, pid, layout)


@contextmanager
def farm(peers: Sequence[Peer], layout: Layout) -> Iterator[Farm]:
    """Run all of it. Raises FarmFailed."""
    with ground(layout) as base, ExitStack() as stack:
        proxies = []
        for peer in peers:
            setup = base.setup()
            log = base.place / f"{peer.name}.err"
            stack.enter_context(no_deaths(log))
            proxies.append(Running(peer, setup, stack.enter_context(process_on(peer.start(setup), setup.port, log))))
        if layout.direct:
            proxies.append(Running(DIRECT, replace(base.setup(), port=base.port), base.pid))
        yield Farm(Generator(base.place, layout.load_cores), proxies, base.port)


def refuse_busy(proxies: Sequence[Running]) -> None:
    """Raise FarmFailed if a proxy works while it has nothing to do: it would slow the others' turns."""
    before = {proxy.name: Usage.of(proxy.pid) for proxy in proxies}
    start = time.monotonic()
    time.sleep(0.5)
    elapsed = time.monotonic() - start
    for proxy in proxies:
        share = Usage.of(proxy.pid).since(before[proxy.name]).total / 1e6 / elapsed
        if share > MAX_IDLE:
            raise FarmFailed(f"{proxy.name} uses {share:.0%} of a processor while idle: no fair comparison")


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))
