"""What a program can check of the documentation: links lead somewhere, files that are named exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import gateway.cli
import loadagent.cli
from gateway.config.policies import POLICIES
from gateway.health.result import Outcome
from gateway.outcome import ABUSES, HANDSHAKES
from gateway.supervisor.roles import ROLES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"```.*?```", re.DOTALL)
NAMED = re.compile(r"`((?:gateway|loadagent|qos|conf|tests|bench|docs|\.ci)/[\w./-]*\w/?)`")
MADE = re.compile(r"bench/results/")
"""Written by a command that the page names, not part of a fresh clone."""


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for path, anchor in LINK.findall(CODE.sub("", page.read_text())):
        target = page.parent / path if path else page
        if not target.exists():
            wrong.append(f"{path}: no such file")
        elif anchor and anchor not in anchors(target):
            wrong.append(f"{path}#{anchor}: no such heading")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # tells of what has been
    named = {name for name in NAMED.findall(page.read_text()) if not MADE.match(name)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_tests_that_are_named_exist() -> None:
    files = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    wrong = []
    for page in PAGES:
        for file, name in re.findall(r"\b(test_\w+\.py)(?:::(\w+))?", page.read_text()):
            if file not in files:
                wrong.append(f"{page.name}: there is no {file}")
            elif name and f"def {name}(" not in files[file]:
                wrong.append(f"{page.name}: {file} has no {name}")
    assert wrong == []


ROOMS = ("supervisor", "process", "secrets", "system", "hardening", "proxy", "rules", "wire", "heartbeat", "dns")


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_of_a_room_is_in_its_line_of_the_architecture(room: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    found = re.search(rf"^  {room}/ (.*(?:\n {{10,}}.*)*)", page, re.MULTILINE)
    assert found is not None
    words = set(re.findall(r"\w+", found[1]))
    files = {path.stem for path in (ROOT / "gateway" / room).iterdir() if path.suffix in {".py", ".pyx"}} - {"__init__"}
    assert sorted(files - words) == []


def content(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


@pytest.mark.parametrize("policy", POLICIES)
def test_every_balancing_policy_is_in_the_table(policy: str) -> None:
    assert re.search(rf"^\|.*`{policy}`.*\|", content("balancing.md"), re.MULTILINE)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_result_of_a_check_is_in_the_list(outcome: Outcome) -> None:
    assert f"`{outcome.name}`" in content("balancing.md")


@pytest.mark.parametrize("reason", [name for name, _ in ABUSES])
def test_every_reason_for_ending_a_connection_of_http2_is_in_the_table(reason: str) -> None:
    assert f"\n| `{reason}` | " in content("operations.md")


@pytest.mark.parametrize("reason", [name for name, _ in HANDSHAKES])
def test_every_reason_for_a_failed_handshake_is_in_the_table(reason: str) -> None:
    assert f"\n| `{reason}` | " in content("operations.md")


def commands(group: click.Group, name: str) -> Iterator[str]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {command.name}")
        else:
            yield f"{name} {command.name}"


@pytest.mark.parametrize(
    "command", [*commands(gateway.cli.main, "gateway"), *commands(loadagent.cli.main, "loadagent")]
)
def test_every_command_is_on_a_page(command: str) -> None:
    assert any(command in path.read_text() for path in PAGES if path.name != "CHANGELOG.md")


@pytest.mark.parametrize("role", [role.name for role in ROLES])
def test_every_process_is_in_the_list_of_the_architecture(role: str) -> None:
    listed = content("architecture.md").partition("```text\n")[2].partition("```")[0]
    assert re.search(rf"── {role} ", listed)


def imported(path: Path) -> set[str]:
    """The modules that a file of Python imports from, as paths without a suffix."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.replace(".", "/") for name in found}


def test_every_compiled_module_that_python_imports_has_its_types_beside_it() -> None:
    """As docs/architecture.md says; mypy alone would take it for a module of which nothing is known."""
    files = [path for top in ("gateway", "loadagent", "qos", "bench", "tests") for path in (ROOT / top).rglob("*.py")]
    wanted = {name for path in files for name in imported(path) if (ROOT / f"{name}.pyx").exists()}
    assert len(wanted) > 20
    assert sorted(name for name in wanted if not (ROOT / f"{name}.pyi").exists()) == []
