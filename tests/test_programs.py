"""`make peers` installs every program that a test or a benchmark starts: without one, tests are left out or fail."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from bench.peers.all import PEERS

ROOT = Path(__file__).parents[1]
FILES = sorted(path for top in ("tests", "bench", ".ci") for path in (ROOT / top).rglob("*.py"))
FROM_PYTHON = {"envoy", "caddy", "traefik"}
"""Packages of Python bring them (`.peers` of the Makefile)."""
COMPILERS = {"cc", "gcc"}
"""Without one nothing is built: .ci/prerequisites.py names it."""
OF_MAKEFILE = {"npm"}
"""The Makefile itself starts them."""
STARTERS = {"run", "Popen", "check_output", "check_call", "create_subprocess_exec"}
PAIR = re.compile(r"(\S+):(\S+)")


def installed() -> dict[str, str]:
    """The package of each program, from the Makefile."""
    listed = re.search(r"^peers:\n.*?for pair in (.*?); do", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)
    assert listed is not None
    return dict(PAIR.findall(listed[1]))


def head(argument: ast.expr) -> str:
    """The program in a command that a call gets as strings or as a list of them, if it is written there."""
    while isinstance(argument, ast.List | ast.Tuple) and argument.elts:
        argument = argument.elts[0]
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else ""


def commands(tree: ast.Module, path: Path) -> Iterator[str]:
    """The programs that a file starts or asks for."""
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "tests.support.programs"
        for alias in node.names
    }
    hosts = "netns" in path.parts or path.name == "failover.py"
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
        match call.func:
            case ast.Name("needs") | ast.Attribute(attr="which"):
                yield from map(head, call.args)
            case ast.Name("run" | "start" as name) if name in ours:
                yield head(call.args[0])
            case ast.Attribute(ast.Name("subprocess" | "asyncio"), attr) if attr in STARTERS:
                yield head(call.args[0])
            case ast.Attribute(attr="run" | "start") if hosts:
                yield head(call.args[0])


def lists(tree: ast.Module) -> Iterator[str]:
    """What any list or tuple begins with: a command, perhaps, that is started elsewhere."""
    return (head(node) for node in ast.walk(tree) if isinstance(node, ast.List | ast.Tuple))


def test_every_program_that_is_started_is_installed() -> None:
    known = {"", *installed(), *COMPILERS}
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in FILES
        for name in commands(ast.parse(path.read_text()), path)
        if name not in known and not name.startswith("/")
    ]
    assert wrong == []


def test_every_proxy_of_the_benchmark_is_installed() -> None:
    named = {Path(peer.program).name for peer in PEERS}
    assert sorted(named - set(installed()) - FROM_PYTHON - COMPILERS - {"gateway", "python"}) == []


def test_nothing_is_installed_that_is_not_started() -> None:
    trees = [(ast.parse(path.read_text()), path) for path in FILES]
    started = {name for tree, path in trees for name in (*commands(tree, path), *lists(tree))}
    assert sorted(set(installed()) - started - {Path(peer.program).name for peer in PEERS} - OF_MAKEFILE) == []
