"""The gateway: least connections and a log line per request, or more of its features."""

import os
import sys
from typing import Any

import yaml

from bench.peers.peer import SERVER_NAME, Peer, Setup

COOKIE = "SRV"
CLASSES = [
    {"name": "staff", "match": {"source": "10.0.0.0/8"}},
    {"name": "customer", "match": {"cookie": {"tier": "gold"}}},
    {"name": "crawler", "match": {"header": {"User-Agent": "~bot"}}},
    {"name": "visitor"},
]
SESSION = "GWSESSION"
QOS = {
    # No limit is reached: what is measured is the price of looking.
    "classes": [*CLASSES[:-1], {"name": "visitor", "rate": "100000/s", "per": "source"}],
    "sessions": {"max": 100_000, "key": {"cookie": SESSION}},
}
LIMITS = {"connections": 1_000_000, "connections_per_source": 1_000_000, "idle_timeout": "10m"}


def site(setup: Setup) -> dict[str, Any]:
    """Return the site file."""
    backend: dict[str, Any] = {
        "balance": "measured" if setup.features else "least-connections",
        "servers": [{"name": f"app{i}", "address": server} for i, server in enumerate(setup.servers)],
    }
    if setup.features:
        backend["affinity"] = {"cookie": COOKIE}
    if setup.ca:
        backend["tls"] = {"ca": str(setup.ca), "server_name": SERVER_NAME}
    routes: list[dict[str, Any]] = [{"match": {"path": f"/area-{i}/"}, "backend": "app"} for i in range(setup.routes)]
    routes.append({"backend": "app"})
    certificates = [{"cert": str(setup.cert), "key": str(setup.key)}]
    return {
        **({"qos": {"classes": CLASSES}} if setup.features else {"qos": QOS} if setup.qos else {}),
        "workers": setup.workers,
        "state": str(setup.directory / "state"),
        **({"core_dumps": True} if os.geteuid() else {}),  # so that its memory can be measured
        "access_log": {"path": str(setup.directory / "gateway.access"), "format": "json"},
        "frontends": [
            {"listen": f"127.0.0.1:{setup.port}", "limits": LIMITS},
            {
                "listen": f"127.0.0.1:{setup.tls_port}",
                "limits": LIMITS,
                "http2": True,
                "tls": {"certificates": certificates},
            },
        ],
        "backends": {"app": backend},
        "routes": routes,
    }


def command(setup: Setup) -> list[str]:
    """Write a site file and return the gateway's command."""
    path = setup.directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(site(setup)))
    return [sys.executable, "-m", "gateway", "run", str(path)]


# As installed, with Python that has been compiled already, whatever is customary where the benchmark runs.
GATEWAY = Peer(
    "gateway",
    sys.executable,
    command,
    ("-m", "gateway", "--version"),
    environment={"PYTHONDONTWRITEBYTECODE": ""},
)
