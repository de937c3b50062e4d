"""A client: requests to ADDRESS at RATE per second, each on a connection of its own, until SIGTERM. Says who answers each."""

import asyncio
import json
import signal
import sys
import time

TIMEOUT = 0.9


async def fetch(address: str) -> str:
    reader, writer = await asyncio.open_connection(address, 80)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError("not an answer")
    return body.decode()


async def main() -> None:
    address, rate = sys.argv[1], int(sys.argv[2])
    answers: list[tuple[float, str]] = []
    failures = 0
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def attempt() -> None:
        nonlocal failures
        try:
            node = await asyncio.wait_for(fetch(address), TIMEOUT)
        except OSError:
            failures += 1
        else:
            print(node, flush=True)  # noqa: T201
            answers.append((time.time(), node))

    tasks = set()
    due = time.monotonic()
    while not stop.is_set():
        task = asyncio.create_task(attempt())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps({"answers": answers, "failures": failures}))  # noqa: T201


asyncio.run(main())
