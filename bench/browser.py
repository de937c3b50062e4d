"""The load: wrk with keep-alive connections and the request head of a current browser."""

import re
import subprocess
from dataclasses import dataclass

CONNECTIONS = 64
FIELDS = (  # with Host, which wrk sends: 13
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    'Sec-CH-UA: "Chromium";v="131", "Not_A Brand";v="24"',
    "Sec-CH-UA-Mobile: ?0",
    'Sec-CH-UA-Platform: "Linux"',
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Referer: http://www.example.com/catalogue/spring",
    "Cookie: session=8d7f3c1e5ab94b0f; theme=dark; consent=1",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of wrk saw: requests in all, per second, and those that did not go well."""

    requests: int
    rate: float
    bad: int


def browse(port: int, path: str, seconds: int, core: int) -> Outcome:
    """Load the local `port` from processor `core`. Raises CalledProcessError, TimeoutExpired."""
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    for field in FIELDS:
        command += ["-H", field]
    command.append(f"http://127.0.0.1:{port}{path}")
    text = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=seconds + 30, stdin=subprocess.DEVNULL
    ).stdout

    def numbers(pattern: str) -> list[float]:
        return [float(number) for group in re.findall(pattern, text) for number in re.findall(r"[\d.]+", group)]

    requests = int(sum(numbers(r"(\d+) requests in")))
    bad = int(sum(numbers(r"Non-2xx or 3xx responses: (\d+)")) + sum(numbers(r"Socket errors: (.*)")))
    return Outcome(requests, sum(numbers(r"Requests/sec:\s+([\d.]+)")), bad)
