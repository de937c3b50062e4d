"""nginx: keep-alive to the servers, least_conn, buffered log; bodies are streamed, as the gateway does it."""

from bench.peers.peer import SERVER_NAME, Peer, Setup, indented

TRUST = [
    "proxy_ssl_protocols TLSv1.3;",
    "proxy_ssl_verify on;",
    "proxy_ssl_trusted_certificate {ca};",
    "proxy_ssl_name {name};",
]
TEMPLATE = """
worker_processes {workers};
worker_rlimit_nofile 20000;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.error crit;
events {{ worker_connections 18000; }}
http {{
    access_log {directory}/nginx.access combined buffer=64k flush=1s;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_max_body_size 0;
    client_body_buffer_size 64k;
    client_body_temp_path {directory}/nginx.body;
    proxy_temp_path {directory}/nginx.proxy;
    fastcgi_temp_path {directory}/nginx.fastcgi;
    uwsgi_temp_path {directory}/nginx.uwsgi;
    scgi_temp_path {directory}/nginx.scgi;
    upstream app {{
        least_conn;
        {servers}
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096 {reuse};
        listen 127.0.0.1:{tls_port} ssl http2 backlog=4096 {reuse};
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        ssl_session_cache shared:tls:10m;
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_buffers 8 64k;
        proxy_busy_buffers_size 128k;
        proxy_max_temp_file_size 0;
        location / {{
            proxy_pass {scheme}://app;
            {trust}
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
        location = /ws {{
            proxy_pass http://app;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
    }}
}}
"""


def command(setup: Setup) -> list[str]:
    """Write nginx's configuration and return its command."""
    path = setup.directory / "nginx.conf"
    path.write_text(
        TEMPLATE.format(
            directory=setup.directory,
            port=setup.port,
            tls_port=setup.tls_port,
            servers=indented([f"server {server};" for server in setup.servers], 8),
            cert=setup.cert,
            key=setup.key,
            workers=setup.workers,
            scheme="https" if setup.ca else "http",
            trust=indented(TRUST, 12).format(ca=setup.ca, name=SERVER_NAME) if setup.ca else "",
            reuse="reuseport" if setup.workers > 1 else "",
        )
    )
    return ["nginx", "-c", str(path), "-e", str(setup.directory / "nginx.error")]


NGINX = Peer("nginx", "nginx", command, ("-v",))
