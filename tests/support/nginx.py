"""nginx as a back-end server: static files with everything that goes with them, on TCP or a unix socket."""

import os
import socket
import subprocess
from contextlib import closing
from pathlib import Path

from tests.support.programs import Served, start
from tests.support.waiting import free_port

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.error warn;
events {{ worker_connections 256; }}
http {{
    log_format short '$connection $request_method $request_uri $status';
    access_log {directory}/nginx.access short;
    types {{ text/plain txt; application/octet-stream bin; }}
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 64m;
    gzip on;
    gzip_proxied any;
    gzip_min_length 100;
    gzip_types text/plain;
    keepalive_requests 1000000;
    server {{
        listen {listen};
        root {directory}/files;
        dav_methods PUT DELETE;
        location = /gone {{ return 410; }}
        location = /moved {{ return 301 /elsewhere; }}
    }}
}}
"""


class Nginx(Served):
    """nginx serving `files`. A context manager; with `path` on that unix socket, otherwise on a port of 127.0.0.1, in
    HTTP/2 if `http2`.
    """

    def __init__(self, directory: Path, path: Path | None = None, *, http2: bool = False) -> None:
        super().__init__()
        self.name = "nginx"
        self.directory = directory / ("nginx-unix" if path else "nginx")
        self.files = self.directory / "files"
        self.files.mkdir(parents=True)
        self._path = path
        self._http2 = http2
        self._port = free_port()

    @property
    def address(self) -> str:
        """As a site file wants it."""
        return f"unix:{self._path}" if self._path else f"127.0.0.1:{self._port}"

    def requests(self) -> list[tuple[int, str, str, int]]:
        """Return what it has answered: number of the connection, method, target, status."""
        lines = (self.directory / "nginx.access").read_text().splitlines()
        return [(int(a), b, c, int(d)) for a, b, c, d in (line.split() for line in lines)]

    def _answers(self) -> bool:
        family = socket.AF_UNIX if self._path else socket.AF_INET
        with closing(socket.socket(family)) as probe:
            return probe.connect_ex(str(self._path) if self._path else ("127.0.0.1", self._port)) == 0

    def _begin(self) -> "subprocess.Popen[bytes]":
        configuration = self.directory / "nginx.conf"
        text = CONFIGURATION.format(directory=self.directory, listen=self.address + " http2" * self._http2)
        if os.geteuid() == 0:
            text = f"user root;\n{text}"  # as which it can read a directory of a test
        configuration.write_text(text)
        command = ["nginx", "-c", str(configuration), "-e", str(self.directory / "nginx.error")]
        return start(command, self.directory / "nginx.out", self._answers)
