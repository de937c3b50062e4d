"""Measures the time to a resolver and back, by one question of DNS and one repetition.

Any answer counts, also a refusal: that of the resolver (REFUSED), or of its machine that nothing listens there (ICMP).
Who filters both has no time.
"""

import asyncio
import secrets
import socket
import time
from ipaddress import IPv4Address, IPv6Address
from typing import Final

PORT: Final = 53
TIMEOUT: Final = 1.0
"""Seconds to wait for an answer to each question."""
TRIES: Final = 2
_QUESTION: Final = b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01"
"""Behind the number of a query that wants no recursion: the NS records of the root, which every resolver has."""


async def probe(address: IPv4Address | IPv6Address, port: int = PORT) -> float | None:
    """Milliseconds to a resolver and back; None: no answer, or no way there."""
    for _ in range(TRIES):
        try:
            async with asyncio.timeout(TIMEOUT):
                return await _once(address, port)
        except TimeoutError:
            continue
        except OSError:
            return None
    return None


async def _once(address: IPv4Address | IPv6Address, port: int) -> float:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    number = secrets.token_bytes(2)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        sock.connect((str(address), port))
        began = time.perf_counter()
        sock.send(number + _QUESTION)
        while True:
            try:
                answer = await loop.sock_recv(sock, 512)
            except ConnectionRefusedError:
                break
            if answer[:2] == number and len(answer) > 2 and answer[2] & 0x80:
                break
        return (time.perf_counter() - began) * 1000.0
