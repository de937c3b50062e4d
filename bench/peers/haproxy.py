"""HAProxy: connections to servers shared among clients, leastconn, a log line per request, which it cannot buffer.

Where descriptors are few, it would stop to keep connections to servers as soon as a quarter of them is in use; 10,000
idle clients are more than that.
"""

from bench.peers.peer import SERVER_NAME, Peer, Setup, indented

BUFFER = 16384
"""HAProxy's own default."""
LARGE_BUFFER = 65536
"""Nearly halves the cost of a large body here, and makes a small one a fifth dearer."""
TEMPLATE = """
global
    nbthread {workers}
    no strict-limits
    tune.bufsize {buffer}
    tune.pool-high-fd-ratio 90
    tune.pool-low-fd-ratio 80
    maxconn 12000
    log stdout format raw local0
    ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
    mode http
    log global
    option httplog
    option forwardfor
    http-reuse always
    timeout connect 2s
    timeout client 600s
    timeout server 60s
    timeout tunnel 600s
frontend web
    bind 127.0.0.1:{port}{shards}
    bind 127.0.0.1:{tls_port} ssl crt {pem} alpn h2,http/1.1{shards}
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
    http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
    default_backend app
backend app
    balance leastconn
    {servers}
"""


def command(setup: Setup, buffer: int = BUFFER) -> list[str]:
    """Write HAProxy's configuration, with buffers of the given size, and return its command."""
    pem = setup.directory / "haproxy.pem"
    pem.write_bytes(setup.cert.read_bytes() + setup.key.read_bytes())
    path = setup.directory / f"haproxy-{buffer}.cfg"
    trust = f" ssl verify required ca-file {setup.ca} verifyhost {SERVER_NAME}" if setup.ca else ""
    path.write_text(
        TEMPLATE.format(
            buffer=buffer,
            port=setup.port,
            tls_port=setup.tls_port,
            servers=indented([f"server app{i} {server}{trust}" for i, server in enumerate(setup.servers)], 4),
            pem=pem,
            workers=setup.workers,
            shards=" shards by-thread" if setup.workers > 1 else "",
        )
    )
    return ["haproxy", "-db", "-f", str(path)]


def command_large(setup: Setup) -> list[str]:
    """Do the same with large buffers."""
    return command(setup, LARGE_BUFFER)


HAPROXY = Peer("haproxy", "haproxy", command, ("-v",))
HAPROXY_LARGE = Peer("haproxy-64k", "haproxy", command_large, ("-v",), large_only=True)
