"""The proxies that are compared, each set up as its users would for speed: one worker, access log on.

All of them: keep-alive on both sides, the least busy of the origins, no affinity, X-Forwarded-For and -Proto,
a log line for every request into a file in memory. nginx buffers its log as the gateway does; HAProxy, which
cannot, writes line by line.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))

NGINX = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.error crit;
events {{ worker_connections 4096; }}
http {{
    access_log {directory}/nginx.access combined buffer=64k flush=1s;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/nginx.body;
    proxy_temp_path {directory}/nginx.proxy;
    fastcgi_temp_path {directory}/nginx.fastcgi;
    uwsgi_temp_path {directory}/nginx.uwsgi;
    scgi_temp_path {directory}/nginx.scgi;
    upstream app {{
        least_conn;
        {servers}
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 4096
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    option forwardfor
    http-reuse always
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend web
    bind 127.0.0.1:{port}
    http-request set-header X-Forwarded-Proto http
    default_backend app
backend app
    balance leastconn
{servers}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One competitor: how to write its configuration, start it, and ask for its version."""

    name: str
    program: str
    command: Callable[[Path, int, Sequence[int]], list[str]]
    version: tuple[str, ...] = ()

    def is_installed(self) -> bool:
        """Tell whether it can run here."""
        return shutil.which(self.program, path=SEARCH) is not None

    def release(self) -> str:
        """Return the first line of what it says about its version."""
        if not self.version:
            return ""
        done = subprocess.run(self.version, capture_output=True, text=True, timeout=30, check=True, env=environment())
        return (done.stdout + done.stderr).splitlines()[0]

    def start(self, directory: Path, port: int, origins: Sequence[int], core: int) -> "subprocess.Popen[bytes]":
        """Run it on `port`, on processor `core`, before the local ports `origins`; files in `directory`."""
        command = ["taskset", "-c", str(core), *self.command(directory, port, origins)]
        with (
            (directory / f"{self.name}.out").open("wb") as out,
            (directory / f"{self.name}.err").open("wb") as err,
        ):
            return subprocess.Popen(
                command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )


def environment() -> dict[str, str]:
    """Return the environment of every program that is started."""
    return {**os.environ, "PATH": SEARCH}


def nginx(directory: Path, port: int, origins: Sequence[int]) -> list[str]:
    """Write nginx's configuration and return its command."""
    servers = "\n        ".join(f"server 127.0.0.1:{origin};" for origin in origins)
    path = directory / "nginx.conf"
    path.write_text(NGINX.format(directory=directory, port=port, servers=servers))
    return ["nginx", "-c", str(path), "-e", str(directory / "nginx.error")]


def haproxy(directory: Path, port: int, origins: Sequence[int]) -> list[str]:
    """Write HAProxy's configuration and return its command."""
    servers = "\n".join(f"    server app{i} 127.0.0.1:{origin}" for i, origin in enumerate(origins))
    path = directory / "haproxy.cfg"
    path.write_text(HAPROXY.format(port=port, servers=servers))
    return ["haproxy", "-db", "-f", str(path)]


def gateway(directory: Path, port: int, origins: Sequence[int]) -> list[str]:
    """Write a site file and return the gateway's command."""
    site = {
        "workers": 1,
        "access_log": {"path": str(directory / "gateway.access"), "format": "json"},
        "frontends": [{"listen": f"127.0.0.1:{port}"}],
        "backends": {
            "app": {
                "balance": "least-connections",
                "servers": [{"name": f"app{i}", "address": f"127.0.0.1:{origin}"} for i, origin in enumerate(origins)],
            }
        },
        "routes": [{"backend": "app"}],
    }
    path = directory / "site.yaml"
    path.write_text(yaml.safe_dump(site))
    return [sys.executable, "-m", "gateway", "run", str(path)]


def floor(directory: Path, port: int, origins: Sequence[int]) -> list[str]:
    """Compile the relay and return its command. Raises CalledProcessError."""
    return [compiled("floor", directory), str(port), str(origins[0])]


def compiled(name: str, directory: Path) -> str:
    """Compile bench/NAME.c and return the path of the program. Raises CalledProcessError."""
    program = directory / name
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True, timeout=60)
    return str(program)


PROXIES = (
    Proxy("gateway", sys.executable, gateway, (sys.executable, "-m", "gateway", "--version")),
    Proxy("nginx", "nginx", nginx, ("nginx", "-v")),
    Proxy("haproxy", "haproxy", haproxy, ("haproxy", "-v")),
    Proxy("floor", "cc", floor),
)
