"""Autobahn's cases of the WebSocket protocol: through the gateway each comes out no worse than without it."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.gateway_process import GatewayProcess, site
from tests.support.waiting import free_port
from tests.support.websocket_server import echo_server

RANKS = ("FAILED", "WRONG CODE", "UNCLEAN", "NON-STRICT", "INFORMATIONAL", "OK")
CASES = 301  # all but compression (12 and 13), which the echo server does not do
LIMIT = 120.0

Outcomes = dict[str, tuple[int, int]]


def outcomes(port: int, directory: Path, *only: str) -> Outcomes:
    """Run the cases (or `only` some) against a port: ranks of (behaviour, behaviour at the close) by case."""
    program = Path(sys.executable).with_name("kosoku")
    choice = [part for name in only for part in ("-i", name)] or ["-x", "12.*", "-x", "13.*"]
    command = [str(program), f"127.0.0.1:{port}", *choice, "-p", "4", "-o", str(directory)]
    subprocess.run(command, check=False, capture_output=True, timeout=LIMIT)
    (found,) = json.loads((directory / "index.json").read_text()).values()
    return {name: (RANKS.index(case["behavior"]), RANKS.index(case["behaviorClose"])) for name, case in found.items()}


def worse(through: Outcomes, direct: Outcomes) -> list[str]:
    """Return the cases that came out worse through the gateway."""
    return [
        name for name, (behaviour, close) in through.items() if behaviour < direct[name][0] or close < direct[name][1]
    ]


def test_no_case_comes_out_worse_than_without_the_gateway(tmp_path: Path) -> None:
    port = free_port()
    description = {**site([]), "backends": {"app": {"servers": [f"127.0.0.1:{port}"]}}}
    with echo_server(port), GatewayProcess(tmp_path, description) as gateway:
        direct = outcomes(port, tmp_path / "direct")
        through = outcomes(gateway.port, tmp_path / "through")
        # A case has a second for some of its steps, which a busy machine may take away: then it is asked again.
        if again := worse(through, direct):
            through |= outcomes(gateway.port, tmp_path / "again", *again)
    assert direct.keys() == through.keys()
    assert len(through) == CASES
    assert sum(behaviour == RANKS.index("OK") for behaviour, _ in direct.values()) > 0.9 * CASES
    assert worse(through, direct) == []
