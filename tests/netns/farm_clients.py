"""Clients of a web farm, in a host of the lab: they ask resolvers for a name, go to its first address, and follow
redirects. Prints a line of JSON for each: when it began, the resolver's answer, and the site that has answered it.

    python farm_clients.py SECONDS CLIENTS_PER_SECOND HOST [RESOLVER_PORT ...]

Without a resolver HOST is an address. Every client is new: it has no cookie.
"""

import asyncio
import json
import sys
import time

import dns.asyncquery
import dns.message

TIMEOUT = 5.0


async def get(host: str, path: str) -> tuple[str, str, str]:
    """The status, the target of a redirect and the body of one request."""
    reader, writer = await asyncio.open_connection(host, 80)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    location = next((line[10:] for line in head.splitlines() if line.lower().startswith("location: ")), "")
    return head.split()[1], location, body


async def client(host: str, port: int | None) -> None:
    began, address, site = time.time(), host, ""
    try:
        async with asyncio.timeout(TIMEOUT):
            if port is not None:
                query = dns.message.make_query(host, "A")
                answer = await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=TIMEOUT)
                address = str(answer.answer[0][0])
            status, location, body = await get(address, "/")
            sent = bool(location)
            if sent:
                there, _, path = location.removeprefix("http://").partition("/")
                status, _, body = await get(there, f"/{path}")
            site = body.strip() if status == "200" else status
    except (OSError, TimeoutError, IndexError) as error:
        site, sent = type(error).__name__, False
    sys.stdout.write(json.dumps([began, address, site, sent]) + "\n")
    sys.stdout.flush()


async def main(seconds: float, rate: float, host: str, ports: list[int]) -> None:
    tasks, end, number = [], time.monotonic() + seconds, 0
    due = time.monotonic()
    while due < end:
        tasks.append(asyncio.create_task(client(host, ports[number % len(ports)] if ports else None)))
        number += 1
        due += 1.0 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.gather(*tasks)


asyncio.run(main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3], [int(port) for port in sys.argv[4:]]))
