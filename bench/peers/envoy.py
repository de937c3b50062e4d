"""Envoy: the fewest requests in flight, file access log."""

from typing import Any

import yaml

from bench.peers.peer import Peer, Setup

FILTERS = "type.googleapis.com/envoy.extensions.filters"
ACCESS_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


def address(host: str, port: int) -> dict[str, Any]:
    """Return an address as Envoy writes it."""
    return {"socket_address": {"address": host, "port_value": port}}


def manager(setup: Setup) -> dict[str, Any]:
    """Return what happens to the requests of a listener."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}
    return {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "codec_type": "HTTP1",
        "use_remote_address": True,
        "access_log": [
            {
                "name": "file",
                "typed_config": {"@type": ACCESS_LOG, "path": str(setup.directory / "envoy.access")},
            }
        ],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{FILTERS}.http.router.v3.Router"}}],
    }


def bootstrap(setup: Setup) -> dict[str, Any]:
    """Return the whole configuration."""
    filters = [{"name": "http", "typed_config": manager(setup)}]
    certificate = {
        "certificate_chain": {"filename": str(setup.cert)},
        "private_key": {"filename": str(setup.key)},
    }
    tls = {"@type": TLS, "common_tls_context": {"tls_certificates": [certificate]}}
    chains: dict[int, dict[str, Any]] = {
        setup.port: {"filters": filters},
        setup.tls_port: {"filters": filters, "transport_socket": {"name": "tls", "typed_config": tls}},
    }
    endpoints = [
        {"endpoint": {"address": address(host, int(port))}}
        for host, _, port in (server.rpartition(":") for server in setup.servers)
    ]
    unlimited = 1_000_000
    return {
        "static_resources": {
            "listeners": [
                {"name": f"web-{port}", "address": address("127.0.0.1", port), "filter_chains": [chain]}
                for port, chain in chains.items()
            ],
            "clusters": [
                {
                    "name": "app",
                    "connect_timeout": "2s",
                    "type": "STATIC",
                    "lb_policy": "LEAST_REQUEST",
                    "circuit_breakers": {
                        "thresholds": [
                            {
                                "max_connections": unlimited,
                                "max_pending_requests": unlimited,
                                "max_requests": unlimited,
                            }
                        ]
                    },
                    "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": endpoints}]},
                }
            ],
        }
    }


def command(setup: Setup) -> list[str]:
    """Write Envoy's configuration and return its command."""
    path = setup.directory / "envoy.yaml"
    path.write_text(yaml.safe_dump(bootstrap(setup)))
    options = ("--concurrency", str(setup.workers), "--log-level", "warning", "--disable-hot-restart")
    return ["envoy", "-c", str(path), *options]


ENVOY = Peer("envoy", "envoy", command, ("--version",))
