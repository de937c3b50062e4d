"""The proxies that the table compares, each before one server with its defaults: what their users run."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support.programs import SEARCH, start
from tests.support.waiting import answers

STOP_SECONDS = 5.0

NGINX = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.error;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_body_timeout 2s;
    upstream app {{ server 127.0.0.1:{server}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location = /admin {{ return 403; }}
        location /admin/ {{ return 403; }}
        location ~ ^/go/(.*)$ {{ return 302 /new/$1; }}
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
defaults
    mode http
    option forwardfor
    http-reuse always
    timeout connect 2s
    timeout client 2s
    timeout http-request 2s
    timeout server 10s
frontend web
    bind 127.0.0.1:{port}
    http-request deny deny_status 403 if {{ path_beg /admin }}
    http-request redirect location /new/%[path,regsub(^/go/,)] if {{ path_beg /go/ }}
    default_backend app
backend app
    server one 127.0.0.1:{server}
"""

APACHE = """
ServerRoot {directory}
ServerName a
PidFile {directory}/apache.pid
ErrorLog {directory}/apache.error
DefaultRuntimeDir {directory}
Mutex file:{directory}
Listen 127.0.0.1:{port}
{modules}
User nobody
Group nogroup
StartServers 1
Timeout 2
<Location /admin>
    Require all denied
</Location>
RedirectMatch 302 ^/go/(.*)$ /new/$1
ProxyPass /admin !
ProxyPass /go/ !
ProxyPass / http://127.0.0.1:{server}/
"""
APACHE_MODULES = Path("/usr/lib/apache2/modules")
APACHE_NEEDS = ("mpm_event", "authz_core", "alias", "proxy", "proxy_http")


@dataclass(frozen=True, slots=True)
class Peer:
    """One proxy: `command` writes its configuration (directory, port, server's port) and says how to run it."""

    name: str
    program: str
    command: Callable[[str, Path, int, int], list[str]]
    version: tuple[str, ...]

    def find(self) -> str | None:
        """Return where its program is, None where it is not installed."""
        return shutil.which(self.program, path=SEARCH)

    def release(self) -> str:
        """Return its name with the version that it states."""
        done = subprocess.run(
            [self.find() or self.program, *self.version], capture_output=True, text=True, timeout=30, check=True
        )
        words = (done.stdout + done.stderr).replace("/", " ").replace("-", " ").split()
        return f"{self.name} {next(word for word in words if word[0].isdigit() and '.' in word)}"

    def start(self, directory: Path, port: int, server: int) -> "subprocess.Popen[bytes]":
        """Run it; return when it accepts. Raises AssertionError."""
        command = self.command(self.find() or self.program, directory, port, server)
        return start(command, directory / f"{self.name}.out", lambda: answers("127.0.0.1", port))


def nginx(program: str, directory: Path, port: int, server: int) -> list[str]:
    """Write nginx's configuration and return its command."""
    path = directory / "nginx.conf"
    path.write_text(NGINX.format(directory=directory, port=port, server=server))
    return [program, "-c", str(path), "-e", str(directory / "nginx.error")]


def haproxy(program: str, directory: Path, port: int, server: int) -> list[str]:
    """Write HAProxy's configuration and return its command."""
    path = directory / "haproxy.cfg"
    path.write_text(HAPROXY.format(port=port, server=server))
    return [program, "-db", "-f", str(path)]


def apache(program: str, directory: Path, port: int, server: int) -> list[str]:
    """Write Apache's configuration and return its command."""
    path = directory / "apache.conf"
    modules = "\n".join(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in APACHE_NEEDS)
    path.write_text(APACHE.format(directory=directory, port=port, server=server, modules=modules))
    return [program, "-D", "FOREGROUND", "-f", str(path)]


def envoy(program: str, directory: Path, port: int, server: int) -> list[str]:
    """Write Envoy's configuration and return its command."""

    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    kind = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "use_remote_address": True,
        "normalize_path": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "request_timeout": "2s",
        "delayed_close_timeout": "0.1s",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/admin"}, "direct_response": {"status": 403}},
                        {
                            "match": {"prefix": "/go/"},
                            "redirect": {"prefix_rewrite": "/new/", "response_code": "FOUND"},
                        },
                        {"match": {"prefix": "/"}, "route": {"cluster": "app"}},
                    ],
                }
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}},
        ],
    }
    bootstrap = {
        "static_resources": {
            "listeners": [
                {
                    "name": "web",
                    "address": address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "app",
                    "connect_timeout": "2s",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "app",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(server)}}]}],
                    },
                }
            ],
        }
    }
    path = directory / "envoy.yaml"
    path.write_text(yaml.safe_dump(bootstrap))
    return [program, "-c", str(path), "--concurrency", "1", "--log-level", "warning", "--use-dynamic-base-id"]


def gateway(program: str, directory: Path, port: int, server: int) -> list[str]:
    """Write the gateway's site file and return its command."""
    path = directory / "site.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "workers": 1,
                "frontends": [{"listen": f"127.0.0.1:{port}", "limits": {"idle_timeout": "2s"}}],
                "backends": {"app": {"servers": [f"127.0.0.1:{server}"]}},
                "routes": [
                    {"match": {"path": "/admin"}, "respond": {"status": 403}},
                    {"match": {"path": "/go/"}, "redirect": "/new/{path_rest}"},
                    {"backend": "app"},
                ],
            }
        )
    )
    return [program, "-m", "gateway", "run", str(path)]


GATEWAY = Peer("gateway", sys.executable, gateway, ("-m", "gateway", "--version"))
PEERS = [
    GATEWAY,
    Peer("nginx", "nginx", nginx, ("-v",)),
    Peer("HAProxy", "haproxy", haproxy, ("-v",)),
    Peer("Apache", "apache2", apache, ("-v",)),
    Peer("Envoy", "envoy", envoy, ("--version",)),
]
