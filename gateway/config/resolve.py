"""Resolves host names of servers, once per load."""

import socket
import threading
import time
from collections.abc import Callable, Collection
from ipaddress import ip_address
from typing import Final, TypeAlias

Lookup: TypeAlias = Callable[[str], Collection[str]]
"""A host name → its IP addresses, best first. Raises OSError."""

DEADLINE: Final = 10.0
"""Seconds for all names together."""
MAX_AT_ONCE: Final = 16


def lookup(host: str) -> list[str]:
    """Query the system's resolver."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


def resolve(hosts: Collection[str], ask: Lookup = lookup, deadline: float = DEADLINE) -> dict[str, str | OSError]:
    """An IP address, or the error, for each of `hosts`, after at most `deadline` seconds.

    Of several addresses it is the lowest of the family that comes first, so that a reload does not move a server
    because a name server rotates its answers.
    """
    answers: dict[str, str | OSError] = {}
    waiting = sorted(set(hosts), reverse=True)
    # Daemon threads instead of a pool: at exit, a pool waits for a resolver that may take minutes to give up.
    threads = [
        threading.Thread(target=_work, args=(waiting, answers, ask), daemon=True)
        for _ in range(min(len(waiting), MAX_AT_ONCE))
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + deadline
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return {host: answers.get(host) or TimeoutError("no answer in time") for host in hosts}


def _work(waiting: list[str], answers: dict[str, str | OSError], ask: Lookup) -> None:
    while True:
        try:
            host = waiting.pop()
        except IndexError:
            return
        try:
            found = [ip_address(address) for address in ask(host)]
        except OSError as error:
            answers[host] = error
        else:
            answers[host] = min((ip for ip in found if ip.version == found[0].version), key=int).compressed
