"""The commands of docs/tutorial.md work as they stand there, and print what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import hardened
from tests.support.backend_server import ROOT
from tests.support.deaths import deaths
from tests.support.gateway_process import GatewayProcess
from tests.support.programs import SEARCH, needs
from tests.support.waiting import free_port

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(r"^```(sh|yaml|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORTS = ("8080", "8443", "9001", "9002")
MARK = "-- end of block --"


def script(directory: Path) -> tuple[str, list[list[str]]]:
    """All blocks as one script, and for each block of commands the lines that it is said to print."""
    ports = {port: str(free_port()) for port in PORTS}
    made: list[str] = []
    said: list[list[str]] = []
    for kind, text in BLOCK.findall(PAGE):
        text = re.sub(r"\b(8080|8443|900[12])\b", lambda found: ports[found[1]], text)  # noqa: PLW2901
        if kind == "sh":
            made.append(f"{text}\necho '{MARK}'")
            said.append([])
        elif kind == "yaml":
            name = text.partition("\n")[0].removeprefix("# ")
            made.append(f"cat > {name} <<'END'\n{text}END")
        else:
            said[-1] += text.splitlines()
    return "\n".join(["set -eu", f"cd {directory}", *made]), said


@needs("curl", "openssl")
@pytest.mark.timeout(120)
def test_the_tutorial(tmp_path):
    text, said = script(tmp_path)
    program = tmp_path / "bin" / "gateway"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gateway "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        **hardened.environment(),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{program.parent}:{SEARCH}",
    }
    said_by_it = tmp_path / "output"
    with said_by_it.open("wb") as file:
        process = subprocess.Popen(
            ["/bin/sh", "-c", text], stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        process.wait(60)
    finally:
        for left in GatewayProcess._session(process.pid):
            left.kill()
    output = said_by_it.read_text()
    log = (tmp_path / "gateway.log").read_text()
    assert process.returncode == 0, f"{output}\n{log}"
    assert list(deaths(log)) == []
    parts = output.split(MARK)
    assert len(parts) == len(said) + 1
    for part, lines in zip(parts, said, strict=False):
        left = part.splitlines()
        for line in lines:
            assert any(line in each for each in left), f"{line!r} is not in {part!r}"
            del left[: next(at for at, each in enumerate(left) if line in each) + 1]
