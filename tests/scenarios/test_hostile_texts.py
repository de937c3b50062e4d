"""Text from others in everything that the gateway prints: it is shown, and obeyed by no terminal."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from gateway.cli import main
from gateway.system import running
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.raw_server import RawServer
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]

TEXT = "\x1b]0;owned\x07\x9b31m\u202eevil\u2066"
"""Sets the title of a terminal, and its colour by a control character of C1; then text from right to left."""
RULE = """
def route(request):
    raise ValueError("no such thing\\n2026-01-01 00:00:00,000 ERROR   [1] forged \\x1b[2J" + request.path)
"""


def fit_to_print(text: str) -> bool:
    return all(char == "\n" or char.isprintable() for char in text)


def script(connection: socket.socket, _: bytes) -> None:
    """An answer that is not HTTP, with hostile text in it; to requests as to checks."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX" + TEXT.encode() + b" y\r\n\r\n")


def agent(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"down #" + TEXT.encode() + b"\r\n")


LIAR = """
import pathlib, socket, sys
directory = pathlib.Path(sys.argv[1])
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(str(directory / "control.sock"))
    listening.listen()
    print("listening", flush=True)
    connection, _ = listening.accept()
    with connection:
        connection.recv(100)
        connection.sendall((directory / "report.json").read_bytes())
"""


def check_status_of_a_liar(report: str, tmp_path: Path) -> None:
    """`gateway status` where a program that has been broken into answers: the report of a real one, with other texts."""
    lies = json.loads(report)
    lies["backends"][0]["servers"][0]["check"]["detail"] = TEXT + "\nforged line"
    directory = tmp_path / "liar"
    directory.mkdir()
    (directory / "report.json").write_text(json.dumps(lies))
    about = {
        "pid": os.getpid(), "program": "0", "site": str(directory / "site.yaml"), "version": 1, "sockets": str(directory),
        "node": TEXT, "cluster": False, "state": TEXT, "last_reload": {"at": 0, "accepted": False, "refused_at": 0, "problems": TEXT},
    }  # fmt: skip
    listening, path = running.listen()

    def answer() -> None:
        for _ in range(2):  # which gateway it is, once to find it and once to show it
            connection, _ = listening.accept()
            with connection:
                connection.recv(100)
                connection.sendall(json.dumps(about).encode())

    with listening, subprocess.Popen([sys.executable, "-c", LIAR, directory], stdout=subprocess.PIPE) as control:
        listening.settimeout(10)
        assert control.stdout is not None
        assert control.stdout.readline() == b"listening\n"
        thread = threading.Thread(target=answer)
        thread.start()
        done = CliRunner().invoke(main, ["status", str(directory / "site.yaml")])
        thread.join()
        control.wait(10)
    path.unlink()
    assert r"RELOAD REFUSED" in done.stdout
    assert fit_to_print(done.stdout)
    assert r"\x1b]0;owned\x07\x9b31m\u202eevil\u2066\x0aforged line" in done.stdout


def test_texts_of_others_are_printed_without_control_sequences(start_gateway: Starter, tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(RULE)
    log = tmp_path / "access.log"
    with RawServer(script) as server, RawServer(agent) as speaker:
        check = {"http": "/", "interval": "200ms", "fall": 100}
        description: Site = {
            **site([server]),
            "backends": {
                "app": {"servers": [{"name": "app1", "address": server.address}], "check": check},
                "told": {
                    "servers": [{"name": "told1", "address": server.address}],
                    "agent": {"connect": speaker.port, "interval": "200ms", "send": "x\r\n\r\n"},
                },
            },
            "routes": [
                {"match": {"path": "/rule"}, "python": "rules:route"},
                {"match": {"path": "/told"}, "backend": "told"},
                {"backend": "app"},
            ],
            "access_log": {"path": str(log), "format": "combined"},
        }
        gateway = start_gateway(description)
        with RawClient(gateway.port) as client:
            client.ask(b"GET /x?" + b"%1b[2J HTTP/1.1\r\nHost: a\r\nUser-Agent: " + TEXT.encode()[9:] + b"\r\n\r\n")
        with RawClient(gateway.port) as client:
            assert client.get("/rule").status == 500
        gateway.wait_for_log("forged")

        def shown(*options: str) -> str:
            done = CliRunner().invoke(main, ["status", str(tmp_path / "site.yaml"), *options])
            return done.stdout

        eventually(lambda: "HTTP_INVALID" in shown() and "told/told1" in shown(), "the check to be shown")
        said = r"\\x1b]0;owned\\x07\\x9b31m\\u202eevil\\u2066"
        eventually(lambda: said in shown("--json"), "what the agent says to be shown")
        for text in (shown(), shown("--json"), shown("--metrics"), gateway.log):
            assert fit_to_print(text)
        eventually(lambda: log.read_text().count("\n") >= 2, "the access log")
        assert fit_to_print(log.read_text())
        assert re.search(
            r"^    2026-01-01 00:00:00,000 ERROR   \[1\] forged \\x1b\[2J/rule$", gateway.log, re.MULTILINE
        )
        check_status_of_a_liar(shown("--json"), tmp_path)
        for line in gateway.log.splitlines():
            assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} |    ", line), line
