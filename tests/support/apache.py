"""Apache as the reference for its rules: every set of rules on a port of its own, and the result of each request."""

import os
import subprocess
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from tests.support.programs import Served, start
from tests.support.raw import RawClient
from tests.support.waiting import answers, free_port

MODULES = "/usr/lib/apache2/modules"
CONFIGURATION = """\
ServerRoot {directory}
PidFile {directory}/pid
ErrorLog {directory}/error.log
LogLevel warn
ServerName www.example.com:80
KeepAlive Off
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authn_file_module {modules}/mod_authn_file.so
LoadModule auth_basic_module {modules}/mod_auth_basic.so
LoadModule headers_module {modules}/mod_headers.so
LoadModule rewrite_module {modules}/mod_rewrite.so
LoadModule access_compat_module {modules}/mod_access_compat.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule authz_host_module {modules}/mod_authz_host.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule env_module {modules}/mod_env.so
LoadModule mime_module {modules}/mod_mime.so
LoadModule setenvif_module {modules}/mod_setenvif.so
LoadModule status_module {modules}/mod_status.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
ThreadsPerChild 4
MaxRequestWorkers 4
StartServers 1
TypesConfig /dev/null
DirectoryIndex disabled
DirectorySlash off
Header always set X-File "expr=%{{REQUEST_FILENAME}}"
Header always set X-Path-Info "expr=%{{PATH_INFO}}"
Header always set X-Query "expr=%{{QUERY_STRING}}"
"""
HOST = """\
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
ServerName www.example.com:80
DocumentRoot {root}
{rules}
<Directory {root}>
AllowOverride All
Require all granted
# Answers whether there is a file or not.
SetHandler server-status
</Directory>
</VirtualHost>
"""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a request: "to" a local path and query, "redirect" to a URL, or "status"."""

    kind: str
    status: int
    where: bytes = b""
    query: bytes = b""
    cookies: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    """Header lines with a name that begins with X-T-, in order and lower case."""


class ApacheServer(Served):
    """An Apache by `apache.conf` of a directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    @abstractmethod
    def _listening(self) -> Iterable[int]:
        """The ports of 127.0.0.1 that it answers at."""

    def _begin(self) -> "subprocess.Popen[bytes]":
        command = ["apache2", "-f", str(self._directory / "apache.conf"), "-DFOREGROUND"]
        accepts = lambda: all(answers("127.0.0.1", port) for port in self._listening())  # noqa: E731
        return start(command, self._directory / "out", accepts)


def account() -> str:
    """The lines that let it change its account, where it can."""
    return "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""


class Apache(ApacheServer):
    """Apache with each of `sets` (name → rules, whether they stand in .htaccess, files that exist). A context manager."""

    def __init__(self, directory: Path, sets: Mapping[str, tuple[str, bool, Sequence[str]]]) -> None:
        super().__init__(directory)
        self.ports: dict[str, int] = {}
        self.roots: dict[str, Path] = {}
        text = CONFIGURATION.format(directory=directory, modules=MODULES) + account()
        for name, (rules, local, files) in sets.items():
            root = self.roots[name] = directory / name.replace(" ", "-")
            root.mkdir()
            for file in files:
                path = root / file.lstrip("/")
                (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
                if not file.endswith("/"):
                    path.write_text("content")
            placed = rules.replace("/var/www/html", str(root))
            maps = [line for line in placed.splitlines() if line.startswith("RewriteMap")]
            if local:
                (root / ".htaccess").write_text("\n".join(line for line in placed.splitlines() if line not in maps))
            port = self.ports[name] = free_port()
            inline = "RewriteEngine on\n" + "\n".join(maps) if local else placed
            text += HOST.format(port=port, root=root, rules=inline if local and maps else "" if local else placed)
        (directory / "apache.conf").write_text(text)
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.suffix == ".sh" else 0o644)

    def _listening(self) -> Iterable[int]:
        return self.ports.values()

    def fate(self, name: str, target: str, headers: Sequence[str] = (), host: str = "www.example.com") -> Fate:
        """What the rules called `name` make of a GET."""
        with RawClient(self.ports[name]) as client:
            answer = client.get(target, *headers, host=host)
        fields = tuple(
            sorted(f"{key}: {value}".lower() for key, value in answer.fields if key.lower().startswith("x-t-"))
        )
        cookies = tuple(value.lower() for key, value in answer.fields if key.lower() == "set-cookie")
        if answer.status in range(300, 400):
            return Fate("redirect", answer.status, normal(answer.header("Location") or ""), b"", cookies, fields)
        if answer.status != 200:
            return Fate("status", answer.status, cookies=cookies, fields=fields)
        path = (answer.header("X-File") or "") + (answer.header("X-Path-Info") or "")
        root = str(self.roots[name])
        assert path.startswith(root), path
        query = answer.header("X-Query") or ""
        return Fate("to", 200, path[len(root) :].encode("latin-1"), unquote_to_bytes(query), cookies, fields)


def normal(url: str) -> bytes:
    """A URL whose escapes are all decoded but those of what would end a part: for comparing."""
    return unquote_to_bytes(
        url.replace("%2f", "%252f").replace("%2F", "%252f").replace("%3f", "%253f").replace("%3F", "%253f")
    )
