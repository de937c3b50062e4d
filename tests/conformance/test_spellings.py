"""One thing has one spelling: by the table, and against servers that each read paths in their own way."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.recorder import Recorder
from tests.conformance.spellings import SPELLINGS, Spelling
from tests.support.apache import Apache
from tests.support.ending import end_process
from tests.support.gateway_process import GatewayProcess, listeners, site
from tests.support.nginx import Nginx
from tests.support.programs import needs, start
from tests.support.raw import RawClient
from tests.support.waiting import answers, free_port

SECRET = "the crown jewels"
EXAMPLES = 100
NODE = """
const http = require("http"), fs = require("fs"), path = require("path");
const root = process.argv[2];
http.createServer((request, response) => {
  let name;
  try { name = decodeURIComponent(new URL(request.url, "http://a").pathname); } catch { name = "/none"; }
  fs.readFile(path.join(root, path.normalize(name)), (error, data) => {
    response.statusCode = error ? 404 : 200;
    response.end(error ? "none" : data);
  });
}).listen(Number(process.argv[3]), "127.0.0.1");
"""
"""As such servers are written: decode the path, normalise it, read the file."""


def forbidding(*addresses: str, **frontend: Any) -> dict[str, Any]:
    description = site([])
    description["frontends"][0] |= frontend
    description["backends"] = {"app": {"servers": list(addresses)}}
    description["routes"] = [
        {"match": {"path": ["/admin/", "= /admin", "/@private/"], "host": "shop.example"}, "respond": {"status": 403}},
        {"backend": "app"},
    ]
    return description


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, Recorder]]:
    directory = tmp_path_factory.mktemp("spellings")
    with Recorder() as recorder, GatewayProcess(directory, forbidding(recorder.address)) as gateway:
        yield gateway, recorder


@pytest.mark.parametrize("spelling, sent", [
    pytest.param(item, sent, id=f"{sent!r} {item.host}") for item in SPELLINGS for sent in item.sent
])  # fmt: skip
def test_the_table(setup: tuple[GatewayProcess, Recorder], spelling: Spelling, sent: str) -> None:
    gateway, recorder = setup
    recorder.clear(None)
    with RawClient(gateway.port) as client:
        answer = client.ask(f"GET {sent} HTTP/1.1\r\nHost: {spelling.host}\r\n\r\n".encode("latin-1"))
    assert answer.status == spelling.status
    arrived = [arrival.line.split()[1].decode() for arrival in recorder.requests()]
    assert arrived == ([spelling.arrives] if spelling.arrives else [])
    if spelling.decision == "refused":
        assert re.search(rb"path|target|Host", answer.body)


OTHERWISE = [
    ("merge_slashes", False, [("//admin/x", 200, "//admin/x"), ("/admin//x", 403, ""), ("/a/..//admin/x", 200, "//admin/x")]),
    ("encoded_slashes", True, [("/admin%2fx", 200, "/admin%2Fx"), ("/a%2f..%2fx", 400, ""), ("//admin/x", 403, "")]),
    ("path_parameters", False, [("/admin;x=y/x", 400, ""), ("/a?x;y", 200, "/a?x;y"), ("/a%3Bb", 200, "/a%3Bb")]),
]  # fmt: skip


def test_a_frontend_may_take_them_otherwise(tmp_path: Path) -> None:
    with Recorder() as recorder:
        description = forbidding(recorder.address)
        description["frontends"] = [
            {"name": key, "listen": f"127.0.0.1:{free_port()}", key: value} for key, value, _ in OTHERWISE
        ]
        with GatewayProcess(tmp_path, description) as gateway:
            for (_, port), (key, _, cases) in zip(listeners(gateway.site), OTHERWISE, strict=True):
                for sent, status, arrives in cases:
                    recorder.clear(None)
                    with RawClient(port) as client:
                        assert client.get(sent, host="shop.example").status == status, (key, sent)
                    arrived = [arrival.line.split()[1].decode() for arrival in recorder.requests()]
                    assert arrived == [arrives] * bool(arrives), (key, sent)


class Program:
    """A server run as a program, with its files at `root`. A context manager."""

    def __init__(self, directory: Path, command: Callable[[Path, int], list[str]]) -> None:
        self.root = directory
        self._port = free_port()
        self._command = command(directory, self._port)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        output = self.root.parent / f"{self.root.name}.out"
        self._process = start(self._command, output, lambda: answers("127.0.0.1", self._port))
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        end_process(self._process, 10.0)


def furnish(root: Path) -> None:
    """Give a server the files; all users can read them, for some servers give up being root."""
    (root / "admin").mkdir(parents=True)
    (root / "admin" / "x").write_text(SECRET)
    (root / "index.html").write_text("welcome")
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def nginx(directory: Path, stack: ExitStack) -> str:
    server = Nginx(directory)
    furnish(server.files)
    return stack.enter_context(server).address


def apache(directory: Path, stack: ExitStack) -> str:
    server = Apache(directory, {"a": ("", False, ())})
    furnish(server.roots["a"])
    # The harness answers all requests by a handler that shows what rules made of them; here files are what counts.
    file = directory / "apache.conf"
    file.write_text(file.read_text().replace("SetHandler server-status", "AllowOverride None"))
    stack.enter_context(server)
    return f"127.0.0.1:{server.ports['a']}"


def node(directory: Path, stack: ExitStack) -> str:
    furnish(directory / "files")
    script = directory / "server.js"
    script.write_text(NODE)
    return stack.enter_context(
        Program(directory / "files", lambda root, port: ["node", str(script), str(root), str(port)])
    ).address


def python(directory: Path, stack: ExitStack) -> str:
    furnish(directory / "files")
    options = ["--protocol", "HTTP/1.1", "--bind", "127.0.0.1", "--directory"]
    return stack.enter_context(
        Program(
            directory / "files",
            lambda root, port: [sys.executable, "-m", "http.server", *options, str(root), str(port)],
        )
    ).address


SERVERS = [
    pytest.param(nginx, marks=needs("nginx"), id="nginx"), pytest.param(apache, marks=needs("apache2"), id="Apache"),
    pytest.param(node, marks=needs("node"), id="Node"), pytest.param(python, id="Python"),
]  # fmt: skip

PIECES = [
    "/", "/", "//", "/./", "/a/../", "/%2e/", "/%2E%2e/", "%2f", "%2F", "\\", "%5c", ";", ";x=y/", "%3b", "/..;/", "%00", "%20", ".",
    "%252f", "%c0%af", "?", "#", "%23", "%3f", "+",
]  # fmt: skip


@st.composite
def spelt(draw: st.DrawFn) -> str:
    """Something like /admin/x."""
    word = "".join(draw(st.sampled_from([c, c, c, f"%{ord(c):02x}", f"%{ord(c):02X}", c.upper()])) for c in "admin")
    edges = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join)
    path = draw(edges) + word + draw(edges) + draw(st.sampled_from(["x", "x", "%78", "x/", "x;y", "x%00", "x?y"]))
    return path if path.startswith("/") else "/" + path


@pytest.mark.parametrize("serve", SERVERS)
def test_no_spelling_leads_to_what_a_rule_forbids(
    serve: Callable[[Path, ExitStack], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ExitStack() as stack:
        # Not below a directory that only root can enter, as those of pytest are.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)
        address = serve(directory, stack)
        gateway = stack.enter_context(GatewayProcess(tmp_path_factory.mktemp("gateway"), forbidding(address)))
        found: set[str] = set()

        def ask(port: int, path: str) -> bytes:
            with RawClient(port) as client:
                return client.get(path, "Connection: close", host="shop.example").body

        direct = int(address.rpartition(":")[2])

        @settings(max_examples=EXAMPLES, deadline=None, database=None)
        @given(spelt())
        def holds(path: str) -> None:
            assert SECRET.encode() not in ask(gateway.port, path), path
            try:
                if SECRET.encode() in ask(direct, path):
                    found.add(path)
            except (OSError, ValueError):
                return

        # Without the gateway it is there, also by spellings that are not the rule's.
        assert SECRET.encode() in ask(direct, "/admin/x")
        assert SECRET.encode() in ask(direct, "/%61dmin//x")
        holds()
        assert found
