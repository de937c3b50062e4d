"""Configurations of HAProxy and nginx: the same requests through the program itself, and through what an import made."""

import http.client
import json
import os
import re
import ssl
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from tests.importing.echo import servers
from tests.support.ending import end_process
from tests.support.gateway_process import GatewayProcess, listeners
from tests.support.programs import needs, start
from tests.support.waiting import answers, eventually, free_port

CASES = Path(__file__).parent / "cases"
CONFIGURATIONS = sorted(path for path in CASES.iterdir() if path.suffix in {".cfg", ".conf"})
NAMES = ("a1", "a2", "b1", "b2", "c1", "c2", "d1", "t1")
OURS = {
    *("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-request-id", "via", "connection"),
    *("x-forwarded-port", "content-length", "accept-encoding", "upgrade"),
}
"""Headers that the gateway writes for servers itself, and those that concern one connection."""
ANSWERS = (
    "x-frame-options",
    "x-secret",
    "strict-transport-security",
    "x-kind",
    "x-why",
    "x-found",
    "x-good",
    "set-cookie",
)
NGINX = """
daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.error warn; {user}
"""
TEMPORARY = "".join(
    f"{name}_temp_path {{directory}}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


@dataclass
class Seen:
    """What a client and a server have seen of a request."""

    status: int
    location: str
    server: str = ""
    method: str = ""
    target: str = ""
    headers: set[tuple[str, str]] = field(default_factory=set)
    answer: dict[str, list[str]] = field(default_factory=dict)
    kept: bool = True
    """Whether repeated requests came to one server."""


class World:
    """Servers, certificates and one gateway, which takes up one site after the other."""

    def __init__(self, directory: Path, ports: dict[str, int], authority: Any) -> None:
        self.directory, self.ports = directory, ports
        certificate = authority.issue("localhost")
        self.context = authority.client_context()
        self.files = {"www.crt": certificate.cert.read_text(), "www.key": certificate.key.read_text()}
        self.files["www.pem"] = self.files["www.crt"] + self.files["www.key"]
        self.files["ca.crt"] = authority.ca.read_text()
        self.gateway: GatewayProcess | None = None

    def lay(self, case: Path, directory: Path) -> tuple[Path, dict[str, int]]:
        """Write a configuration with free ports, and its files."""
        directory.mkdir(parents=True)
        places = {"port": free_port(), "tls": free_port()}
        words = {**{name: str(port) for name, port in (self.ports | places).items()}, "dir": str(directory)}
        extra = case.parent / f"{case.name.partition('.')[0]}.files.yaml"
        files = {case.name: case.read_text(), **self.files}
        files |= yaml.safe_load(extra.read_text()) if extra.exists() else {}
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            path.touch(mode=0o600 if name.endswith((".key", ".pem")) else 0o644)
            path.write_text(re.sub(r"@(\w+)@", lambda found: words[found[1]], text))
        return directory / case.name, places

    def run_gateway(self, site: dict[str, Any]) -> None:
        """Let the gateway use a site."""
        site = {**site, "workers": 1, "drain": "1s", "user": "root"}
        site["admin"] = {"sockets": str(self.directory)}
        site["state"] = str(self.directory / "state")
        if self.gateway is None:
            self.gateway = GatewayProcess(self.directory, site).start()
            return
        assert "reloaded" in self.gateway.reload(site, r"(reloaded: |reload refused).*"), self.gateway.log
        for address in listeners(site):
            eventually(partial(answers, *address), f"{address} to accept")


@pytest.fixture(scope="module")
def world(tmp_path_factory, authority):
    directory = tmp_path_factory.mktemp("imported")
    certificate = authority.issue("localhost")
    with servers(NAMES, authority.server_context(certificate)) as ports:
        made = World(directory, ports, authority)
        yield made
        if made.gateway is not None:
            made.gateway.stop()
            made.gateway.refuse_deaths()


def ask(world: World, places: dict[str, int], wanted: dict[str, Any]) -> Seen:
    """Send a request to one of the two."""
    method, url = wanted["request"].split(" ", 1)
    parts = urlsplit(url)
    port = places[wanted.get("port", "tls" if parts.scheme == "https" else "port")]
    headers = {"Host": parts.netloc, **wanted.get("headers", {})}
    body = b"x" * wanted.get("body", 0) or None
    found = set()
    seen = Seen(0, "")
    connection: http.client.HTTPConnection
    for _ in range(wanted.get("again", 1)):
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                "localhost", port, timeout=wanted.get("timeout", 10), context=world.context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=wanted.get("timeout", 10))
        try:
            connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers)
            response = connection.getresponse()
            text = response.read()
        except (http.client.HTTPException, ssl.SSLError, OSError):
            return Seen(444, "")
        finally:
            connection.close()
        seen = read(url, response, text)
        found.add(seen.server)
        if cookie := response.headers.get("Set-Cookie"):
            headers["Cookie"] = cookie.partition(";")[0]
    seen.kept = len(found) == 1
    return seen


def read(url: str, response: http.client.HTTPResponse, text: bytes) -> Seen:
    """What an answer says."""
    location = response.headers.get("Location", "")
    if location:
        parts = urlsplit(urljoin(url, location))
        location = f"{parts.scheme}://{parts.hostname}{parts.path}{f'?{parts.query}' if parts.query else ''}"
    seen = Seen(response.status, location)
    seen.answer = {
        name: [re.sub("; *", "; ", value) for value in response.headers.get_all(name) or []] for name in ANSWERS
    }
    try:
        said = json.loads(text)
    except ValueError:
        return seen
    seen.server, seen.method, seen.target = said["server"][0], said["method"], said["target"]
    seen.headers = {(name.lower(), value) for name, value in said["headers"] if name.lower() not in OURS}
    return seen


def run_peer(case: Path, path: Path, places: dict[str, int]) -> Any:
    """Start the program that a configuration is for."""
    directory = path.parent
    if case.suffix == ".cfg":
        command = ["haproxy", "-db", "-q", "-f", str(path)]
    else:
        text = path.read_text()
        head = NGINX.format(directory=directory, user="user root;" if os.geteuid() == 0 else "")
        inside = TEMPORARY.format(directory=directory) + "access_log off; "
        if re.search("^http {", text, re.MULTILINE):
            text = head + text.replace("\nhttp {", f"\nhttp {{ {inside}", 1)
        else:
            text = f"{head} events {{}} http {{ {inside} {text} }}"
        (directory / "mime.types").write_text("types { text/plain txt; }")
        (directory / "run.conf").write_text(text)
        command = ["nginx", "-c", str(directory / "run.conf"), "-e", str(directory / "nginx.error")]
    return start(command, directory / "peer.out", lambda: answers("127.0.0.1", places["port"]))


@needs("haproxy", "nginx")
@pytest.mark.parametrize("case", CONFIGURATIONS, ids=lambda path: path.name.rsplit(".", 1)[0])
def test_requests_go_where_they_went(case, world):
    name = case.name.partition(".")[0]
    wanted = [
        item if isinstance(item, dict) else {"request": item}
        for item in yaml.safe_load((CASES / f"{name}.yaml").read_text())
    ]
    path, theirs = world.lay(case, world.directory / name / "peer")
    peer = run_peer(case, path, theirs)
    try:
        expected = [ask(world, theirs, item) for item in wanted]
    finally:
        end_process(peer, 5.0)
    assert {seen.status for seen in expected} - {502, 503}, "the peer itself does not work"

    configuration, ours = world.lay(case, world.directory / name / "ours")
    site = configuration.parent / "out" / "site.yaml"
    runner = CliRunner()
    done = runner.invoke(main, ["import", str(configuration), "-o", str(site), "--json"])
    assert done.exit_code == 0, done.output
    checked = runner.invoke(main, ["check", str(site)])
    assert checked.exit_code == 0, checked.output
    tested = runner.invoke(main, ["test", str(site)])
    assert tested.exit_code == 0, tested.output
    assert "tests passed" in tested.output
    lines = {entry["line"] for entry in json.loads(done.stdout)["lines"] if entry["path"] == str(configuration)}
    assert lines >= meant(configuration.read_text()), "lines without a word in the report"

    model = yaml.safe_load(site.read_text())
    model = absolute(model, site.parent)
    world.run_gateway(model)
    found = [ask(world, ours, item) for item in wanted]
    differences = [
        f"{item['request']}\n  {case.name}: {before}\n  gateway: {after}"
        for item, before, after in zip(wanted, expected, found, strict=True)
        if not alike(before, after)
    ]
    assert not differences, "\n".join(differences)


def meant(text: str) -> set[int]:
    """The lines of a configuration that say something."""
    return {
        number
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith(("#", "}"))
    }


def absolute(site: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The site with the files beside it by their whole names, for a site file elsewhere."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: str(directory / item) if key == "file" and isinstance(item, str) else moved(item)
                for key, item in value.items()
            }
        return [moved(item) for item in value] if isinstance(value, list) else value

    site = moved(site)
    if "pages" in site:
        site["pages"] = {status: str(directory / name) for status, name in site["pages"].items()}
    return site


def alike(before: Seen, after: Seen) -> bool:
    """Whether a client and a server see the same, apart from cookies that name a server."""
    for seen in (before, after):
        seen.headers = {
            (name, value) for name, value in seen.headers if not (name == "cookie" and value.startswith("SRV="))
        }
        seen.answer["set-cookie"] = [
            value for value in seen.answer.get("set-cookie", []) if not value.startswith("SRV=")
        ]
        seen.answer = {name: values for name, values in seen.answer.items() if values}
    return before == after
