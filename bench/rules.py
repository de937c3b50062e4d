"""What deciding about a request costs: `python -m bench.rules [--rounds N]`.

Sites of 10, 1,000 and 10,000 routes (hosts by prefixes), conditions of each kind, and 100 rules of Apache, through the
compiled table of a worker, without a network. Prints the smallest of the rounds: nanoseconds of CPU time for one
request, with a call from Python around it (about 30 ns); and how long loading and compiling take.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from gateway.config import load
from gateway.rules.compiler import compile_routes
from gateway.rules.view import View

FRAME = 'frontends: [{listen: "127.0.0.1:8080"}]\nbackends: {app: {servers: ["127.0.0.1:9001"]}}\nroutes:\n'
CALLS = 100_000
MATCHES = {
    "header": "header: {X-Tenant: blue}",
    "header, pattern": "header: {X-Tenant: '~^b'}",
    "path, pattern": "path: '~ ^/p/([0-9]+)/'",
    "path, pattern elsewhere": "path: '~ ^/q/([0-9]+)/'",
    "when": 'when: \'headers["x-tenant"] == "blue" && path.startsWith("/p")\'',
}


def view(host: str, path: str) -> View:
    """A browser's request."""
    made = View()
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/150\r\n"
        "Accept: text/html\r\nAccept-Language: en\r\nAccept-Encoding: gzip\r\n"
        "X-Tenant: blue\r\nCookie: a=b; c=d\r\n\r\n"
    )
    refused = made.read(head.encode())
    if refused is not None:
        raise ValueError(refused)
    return made


def routes(count: int) -> Iterator[str]:
    """Routes of `count` prefixes, over a tenth as many hosts (at most 100)."""
    hosts = max(1, min(100, count // 10))
    for i in range(count):
        yield f"  - {{match: {{host: h{i % hosts}.example.com, path: /p/{i // hosts}/}}, backend: app}}\n"


def measure(directory: Path, text: str, request: View, rounds: int) -> tuple[float, float]:
    """Nanoseconds for a request, and seconds to load and compile."""
    path = directory / "site.yaml"
    path.write_text(FRAME + text)
    began = time.process_time()
    loaded = load(path)
    table = compile_routes(loaded.site, {"app": "app"}, loaded.files, loaded.rules)
    seconds = time.process_time() - began
    find, best = table.find, float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(CALLS):
            find(request)
        best = min(best, (time.process_time() - began) / CALLS * 1e9)
    return best, seconds


def cases(directory: Path) -> Iterable[tuple[str, str, View]]:
    """Name, routes, and a request for each."""
    yield "1 route, no match", "  - backend: app\n", view("a", "/")
    for count in (10, 1_000, 10_000):
        text = "".join(routes(count))
        hosts = max(1, min(100, count // 10))
        yield f"{count:,} routes", text, view(f"h{hosts - 1}.example.com", f"/p/{count // hosts - 1}/x")
        yield f"{count:,} routes, none holds", text, view("other.example.com", "/x")
    for name, match in MATCHES.items():
        yield name, f"  - {{match: {{{match}}}, backend: app}}\n", view("a", "/p/77/x")
    rules = [f"RewriteRule ^section{i}/([0-9]+)$ /s{i}.php?id=$1 [L]" for i in range(99)]
    file = directory / "apache.htaccess"
    file.write_text("\n".join(["RewriteEngine on", *rules, "RewriteRule ^(.*)$ - [L]"]))
    yield "100 Apache rules, the last", "  - apache: apache.htaccess\n  - backend: app\n", view("a", "/other/7")
    ends = [f"RewriteRule /section{i}/([0-9]+)$ /s{i}.php?id=$1 [L]" for i in range(100)]
    (directory / "ends.htaccess").write_text("\n".join(["RewriteEngine on", *ends]))
    yield "100 Apache rules, all tried", "  - apache: ends.htaccess\n  - backend: app\n", view("a", "/other/7")


@click.command()
@click.option("--rounds", default=5, show_default=True)
def main(rounds: int) -> None:
    """Print a line for each case."""
    click.echo(f"{'':32}{'ns / request':>14}{'load + compile':>16}")
    with tempfile.TemporaryDirectory() as name:
        for title, text, request in cases(Path(name)):
            nanoseconds, seconds = measure(Path(name), text, request, rounds)
            click.echo(f"{title:32}{nanoseconds:>14,.0f}{seconds * 1000:>13,.0f} ms")


if __name__ == "__main__":
    main()
