"""Our own files of Apache's rules in the shapes that applications use, what is asked of them, and Apache's answers to it."""

import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote_to_bytes, urlsplit

import yaml

from tests.support.apache import CONFIGURATION, MODULES, ApacheServer, account, normal
from tests.support.certificates import Authority
from tests.support.raw import RawClient
from tests.support.waiting import free_port

DIRECTORY: Final = Path(__file__).parent.parent / "rules" / "apache_corpus"
SERVERS: Final = ("127.0.0.1:3000", "127.0.0.1:8080")
"""What files of the corpus pass requests on to."""
USERS: Final = "anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nbert:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"
"""Both have the password "password"."""
MAPS: Final = {"hosts.txt": "anna blue\nbert red\n", "moved.txt": "one /new/one\ntwo https://www.example.com/2\n"}
MORE: Final = """\
LoadModule ssl_module {modules}/mod_ssl.so
LoadModule expires_module {modules}/mod_expires.so
LoadModule filter_module {modules}/mod_filter.so
LoadModule deflate_module {modules}/mod_deflate.so
LoadModule negotiation_module {modules}/mod_negotiation.so
LoadModule autoindex_module {modules}/mod_autoindex.so
LoadModule proxy_wstunnel_module {modules}/mod_proxy_wstunnel.so
LoadModule http2_module {modules}/mod_http2.so
LoadModule lua_module {modules}/mod_lua.so
Define APACHE_LOG_DIR {directory}
"""
ECHO: Final = """\
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
ServerName echo.example
Header always unset X-File
Header always unset X-Path-Info
Header always unset X-Query
Header always set X-Backend {name}
Header always set X-Target "expr=%{{THE_REQUEST}}"
LuaMapHandler "^/" {directory}/answer.lua
</VirtualHost>
"""
HOST: Final = """\
<VirtualHost 127.0.0.1:{port}>
ServerName {scheme}://www.example.com:{usual}
DocumentRoot {root}
{more}
</VirtualHost>
"""
ROOT: Final = """\
<Directory {root}>
AllowOverride All
Require all granted
# Answers any method, whether there is a file or not.
SetHandler "proxy:http://127.0.0.1:{port}"
</Directory>
"""
ANSWER: Final = "function handle(r) r.status = 200; r.content_type = 'x/y'; return apache2.OK end\n"
SERVERS_OWN: Final = re.compile(
    r"^\s*(DirectoryIndex|SetHandler|AddHandler|SetOutputFilter|Expires\w*|AddOutputFilter\w*|Alias|php_\w+|ErrorDocument\s+[0-9]+\s+/)\b.*$",
    re.IGNORECASE | re.MULTILINE,
)
"""Which file of a directory a server sends, and how, is its own matter: the gateway says so, and Apache is not asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request."""

    text: str
    method: str
    scheme: str
    host: str
    target: str
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str, host: str) -> Self:
        """From [METHOD] PATH-OR-URL[|NAME: VALUE…]."""
        line, *fields = text.split("|")
        method, url = line.split(" ", 1) if re.match("[A-Z]+ ", line) else ("GET", line)
        parts = urlsplit(url) if "://" in url.partition("?")[0][:10] else None
        scheme, name = (parts.scheme, parts.netloc) if parts else ("http", host)
        target = url.split("/", 3)[3] if parts else url[1:]
        pairs = tuple((key, value.strip()) for key, _, value in (item.partition(":") for item in fields))
        return cls(text, method, scheme, name, "/" + target, pairs)

    @property
    def head(self) -> bytes:
        """Its bytes."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {self.host}", "Connection: close"]
        lines += [f"{key}: {value}" for key, value in self.fields]
        lines += ["Content-Length: 0"] if self.method in ("POST", "PUT") else []
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(frozen=True, slots=True)
class Case:
    """A file with its requests; `refused`: why it does not load as it is found."""

    name: str
    rules: str
    questions: tuple[Question, ...]
    exists: tuple[str, ...] = ()
    root: str = "/var/www/html"
    refused: str = ""
    differing: tuple[Question, ...] = ()
    """Requests that are answered otherwise, for a reason that the file of requests has."""

    @property
    def local(self) -> bool:
        """Whether it is a file of a directory."""
        return self.name.endswith(".htaccess")

    def named(self, directive: str) -> tuple[str, ...]:
        """Names of header fields that a directive changes, in lower case."""
        found = re.findall(
            rf"^\s*{directive}\s+(?:always\s+|onsuccess\s+)?[a-z*]+\s+\"?([\w-]+)",
            self.rules,
            re.IGNORECASE | re.MULTILINE,
        )
        return tuple(sorted({name.lower() for name in found} - {"server"}))  # which Apache always sends


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request. `to`: path and query as a server sees them, or a Location, both decoded."""

    status: int
    backend: str = ""
    to: bytes = b""
    query: bytes = b""
    fields: tuple[tuple[str, str], ...] = ()
    """Those of the answer that the file names,"""
    sent: tuple[tuple[str, str], ...] = ()
    """and those of the forwarded request."""


def cases() -> dict[str, Case]:
    """The corpus, by name."""
    said: Mapping[str, Mapping[str, Any]] = yaml.safe_load((DIRECTORY / "requests.yaml").read_text())
    files = {path.name for path in DIRECTORY.iterdir() if path.suffix in (".htaccess", ".conf")}
    assert files == set(said), files ^ set(said)
    return {
        name: Case(
            name,
            (DIRECTORY / name).read_text(),
            tuple(Question.parse(text, item.get("hosts", "www.example.com")) for text in item.get("ask", ())),
            tuple(item.get("exists", ())),
            item.get("root", "/var/www/html"),
            item.get("refused", ""),
            tuple(Question.parse(text, item.get("hosts", "www.example.com")) for text in item.get("differ", {})),
        )
        for name, item in said.items()
    }


class CorpusApache(ApacheServer):
    """Apache with each case on ports of its own, plain and TLS. A context manager."""

    def __init__(self, directory: Path, found: Iterable[Case]) -> None:
        super().__init__(directory)
        self._roots: dict[str, Path] = {}
        self._ports: dict[tuple[str, str], int] = {}
        self.certificate = Authority(directory).issue("www.example.com")
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        (directory / ".htpasswd").write_text(USERS)
        (directory / "answer.lua").write_text(ANSWER)
        for name, content in MAPS.items():
            (directory / name).write_text(content)
        self._echoes = {name: free_port() for name in (*SERVERS, "app")}
        text = CONFIGURATION.format(directory=directory, modules=MODULES)
        text += MORE.format(directory=directory, modules=MODULES)
        text += account()
        text += "".join(ECHO.format(port=port, name=name, directory=directory) for name, port in self._echoes.items())
        for case in found:
            text += self._hosts(case)
        (directory / "apache.conf").write_text(text)
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o600 if path.suffix == ".key" else 0o644)

    def _hosts(self, case: Case) -> str:
        """Its virtual hosts, plain and TLS."""
        root = self._roots[case.name] = self._directory / case.name
        root.mkdir()
        for file in case.exists:
            path = root / file.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("content")
        rules = SERVERS_OWN.sub("", case.rules).replace(case.root, str(root))
        for name, port in self._echoes.items():
            rules = rules.replace(f"//{name}", f"//127.0.0.1:{port}")
        rules = rules.replace("/etc/apache2/.htpasswd", str(self._directory / ".htpasswd"))
        plain, tls = (self._ports.setdefault((case.name, scheme), free_port()) for scheme in ("http", "https"))
        more = ROOT.format(root=root, port=self._echoes["app"])
        more += "".join(
            f'Header always set "X-Seen-{name}" "expr=%{{HTTP:{name}}}"\n' for name in case.named("RequestHeader")
        )
        secure = (
            f"SSLEngine on\nSSLCertificateFile {self.certificate.cert}\nSSLCertificateKeyFile {self.certificate.key}\n"
        )
        made = f"Listen 127.0.0.1:{plain}\nListen 127.0.0.1:{tls}\n"
        if "<VirtualHost" in case.rules:
            more += "" if "DocumentRoot" in case.rules else f"DocumentRoot {root}\n"
            rules = re.sub(r"SSLCertificateFile .*", f"SSLCertificateFile {self.certificate.cert}", rules)
            rules = re.sub(r"SSLCertificateKeyFile .*", f"SSLCertificateKeyFile {self.certificate.key}", rules)
            rules = rules.replace("*:80>", f"127.0.0.1:{plain}>").replace("*:443>", f"127.0.0.1:{tls}>")
            rules = re.sub(r"(RewriteMap .* txt:)", rf"\1{self._directory}/", rules)
            return made + re.sub(r"(<VirtualHost .*>\n)", lambda match: match[1] + more, rules)
        if case.local:
            (root / ".htaccess").write_text(rules)
            rules = ""
        hosts = ((plain, "http", 80, ""), (tls, "https", 443, secure))
        return made + "".join(
            HOST.format(port=port, scheme=scheme, usual=usual, root=root, more=more + extra + rules)
            for port, scheme, usual, extra in hosts
        )

    def _listening(self) -> Iterable[int]:
        return self._ports.values()

    def ask(self, case: Case, question: Question) -> Answer:
        """Its answer."""
        port = self._ports[case.name, question.scheme]
        with RawClient(port, self._context if question.scheme == "https" else None, question.host) as client:
            answer = client.ask(question.head, question.method)
        found = [(name.lower(), value) for name, value in answer.fields]
        fields = tuple(sorted((name, value) for name, value in found if name in case.named("Header")))
        sent = tuple(sorted((name[7:], value) for name, value in found if name.startswith("x-seen-") and value))
        backend = answer.header("X-Backend") or ""
        if backend not in ("", "app"):
            target = (answer.header("X-Target") or "").split(" ")[1]
            asked, _, rest = target.partition("?")
            return Answer(200, backend, unquote_to_bytes(asked), unquote_to_bytes(rest), fields)
        if answer.status in range(300, 400):
            # Without RewriteBase, Apache says the name of a file in place of the URL; the gateway warns.
            location = (answer.header("Location") or "").replace(str(self._roots[case.name]) + "/", "/")
            return Answer(answer.status, to=normal(location), fields=fields)
        if answer.status != 200:
            return Answer(answer.status, fields=fields)
        query = answer.header("X-Query") or ""
        file = (answer.header("X-File") or "").partition(f":{self._echoes['app']}")[2].removesuffix(f"?{query}")
        path, root = file + (answer.header("X-Path-Info") or ""), str(self._roots[case.name])
        return Answer(200, "app", path.removeprefix(root).encode("latin-1"), unquote_to_bytes(query), fields, sent)
