"""Caddy: the fewest connections, access log into a file, one Go processor."""

from bench.peers.peer import Peer, Setup

TEMPLATE = """
{{
    admin off
    auto_https off
    persist_config off
    storage file_system {directory}/caddy
    log {{
        output stderr
        level ERROR
    }}
    servers {{
        protocols h1
    }}
}}
(app) {{
    bind 127.0.0.1
    log {{
        output file {directory}/caddy.access {{
            roll_disabled
        }}
    }}
    reverse_proxy {servers} {{
        lb_policy least_conn
        transport http {{
            keepalive_idle_conns_per_host 1024
            compression off
        }}
    }}
}}
http://:{port} {{
    import app
}}
https://:{tls_port} {{
    tls {cert} {key} {{
        protocols tls1.3
    }}
    import app
}}
"""


def command(setup: Setup) -> list[str]:
    """Write Caddy's configuration and return its command."""
    path = setup.directory / "Caddyfile"
    path.write_text(
        TEMPLATE.format(
            directory=setup.directory,
            port=setup.port,
            tls_port=setup.tls_port,
            servers=" ".join(setup.servers),
            cert=setup.cert,
            key=setup.key,
        )
    )
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(path)]


CADDY = Peer("caddy", "caddy", command, ("version",), environment={"GOMAXPROCS": "1"})
