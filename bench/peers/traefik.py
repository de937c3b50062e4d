"""Traefik: servers by power of two choices, buffered access log into a file, one Go processor."""

from typing import Any

import yaml

from bench.peers.peer import Peer, Setup


def static(setup: Setup) -> dict[str, Any]:
    """Return what it reads once: entrances and log."""
    keep = {"transport": {"keepAliveMaxRequests": 0}}
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "ERROR"},
        "accessLog": {"filePath": str(setup.directory / "traefik.access"), "format": "json", "bufferingSize": 1000},
        "entryPoints": {
            "web": {"address": f"127.0.0.1:{setup.port}", **keep},
            "secure": {"address": f"127.0.0.1:{setup.tls_port}", **keep},
        },
        "providers": {"file": {"filename": str(setup.directory / "traefik-app.yaml"), "watch": False}},
    }


def dynamic(setup: Setup) -> dict[str, Any]:
    """Return routes, servers and certificate."""
    return {
        "http": {
            "routers": {
                "web": {"rule": "PathPrefix(`/`)", "service": "app", "entryPoints": ["web"]},
                "secure": {"rule": "PathPrefix(`/`)", "service": "app", "entryPoints": ["secure"], "tls": {}},
            },
            "services": {
                "app": {
                    "loadBalancer": {
                        "strategy": "p2c",
                        "servers": [{"url": f"http://{server}"} for server in setup.servers],
                        "serversTransport": "app",
                    }
                }
            },
            "serversTransports": {"app": {"maxIdleConnsPerHost": 1024}},
        },
        "tls": {
            "certificates": [{"certFile": str(setup.cert), "keyFile": str(setup.key)}],
            "options": {"default": {"minVersion": "VersionTLS13"}},
        },
    }


def command(setup: Setup) -> list[str]:
    """Write Traefik's configuration and return its command."""
    (setup.directory / "traefik-app.yaml").write_text(yaml.safe_dump(dynamic(setup)))
    path = setup.directory / "traefik.yaml"
    path.write_text(yaml.safe_dump(static(setup)))
    return ["traefik", f"--configfile={path}"]


TRAEFIK = Peer("traefik", "traefik", command, ("version",), environment={"GOMAXPROCS": "1"})
