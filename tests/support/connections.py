"""Finds the worker of a connection: the kernel distributes connections, so a test must query it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.gateway_process import GatewayProcess
from tests.support.raw import RawClient
from tests.support.waiting import eventually

MANY = 64  # connections until one of them must have come to the worker wanted


def clients_of(pid: int, port: int) -> set[int]:
    """Return the port numbers of the clients whose connections to `port` process `pid` holds."""
    held = psutil.Process(pid).net_connections("tcp")
    return {item.raddr.port for item in held if item.raddr and item.laddr.port == port}


def sockets_on(port: int) -> int:
    """Return how many sockets listen on `port` of any IPv4 address, however many processes share them."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in map(str.split, lines))


@contextmanager
def client_on(gateway: GatewayProcess, number: int) -> Iterator[RawClient]:
    """Give a connection that worker `number` has accepted. Raises AssertionError."""
    for _ in range(MANY):
        with RawClient(gateway.port) as client:
            if worker_of(gateway, client) == number:
                yield client
                return
    raise AssertionError(f"none of {MANY} connections came to worker {number}\n{gateway.log}")


def worker_of(gateway: GatewayProcess, client: RawClient) -> int:
    """Return the number of the worker that has accepted `client`. Raises AssertionError."""
    mine = client.socket.getsockname()[1]
    found: list[int] = []

    def look() -> bool:
        workers = gateway.workers().items()
        found.extend(number for number, pid in workers if mine in clients_of(pid, gateway.port))
        return bool(found)

    eventually(look, "a worker to accept")
    return found[0]
