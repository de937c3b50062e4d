"""Help, manual pages and completions of the commands: of every one, and as wide as a terminal."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway import cli
from loadagent.cli import main as loadagent

ROOT = Path(__file__).parents[1]
COMMANDS = {"gateway": cli.main, "loadagent": loadagent}


def every(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of each command below one, itself included."""
    yield words
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from every(each, *words, name)


ALL = [words for name, command in COMMANDS.items() for words in every(command, name)]


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("manuals", ROOT / ".ci" / "manuals.py")
    assert spec is not None
    assert spec.loader is not None
    manuals = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(manuals)
    directory = tmp_path_factory.mktemp("share")
    manuals.write(directory)
    return directory


@pytest.mark.parametrize("words", ALL, ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_fits_a_terminal(words: tuple[str, ...], flag: str) -> None:
    done = CliRunner().invoke(COMMANDS[words[0]], [*words[1:], flag], terminal_width=80)
    assert done.exit_code == 0
    assert [line for line in done.output.splitlines() if len(line) > 80] == []


def test_every_command_has_a_manual_page(share: Path) -> None:
    assert {path.name for path in (share / "man/man1").iterdir()} == {f"{'-'.join(words)}.1" for words in ALL}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_a_page_has_every_option_and_is_valid(share: Path, words: tuple[str, ...]) -> None:
    page = share / "man/man1" / f"{'-'.join(words)}.1"
    text = page.read_text().replace("\\-", "-")
    command: click.Command = COMMANDS[words[0]]
    for word in words[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    for option in command.params:
        if isinstance(option, click.Option):
            assert max(option.opts, key=len) in text
    assert ".SH EXIT STATUS\n0: done; " in text
    if shutil.which("groff") is None:
        pytest.skip("groff is not here: whether the page is valid is not tested")
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-rLL=80n", str(page)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    shown = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    flat = " ".join(shown.replace("\u2010", "-").replace("\u2212", "-").split())
    assert f"NAME {'-'.join(words)} - " in flat


@pytest.mark.parametrize("name", COMMANDS)
def test_bash_completes_commands(share: Path, name: str) -> None:
    script = share / "bash-completion/completions" / name
    assert f"_{name.upper()}_COMPLETE" in script.read_text()
    asked = f"import sys; sys.argv[0] = {name!r}; from {'gateway.cli' if name == 'gateway' else 'loadagent.cli'} import main; main(prog_name={name!r})"
    environment = {
        **os.environ,
        f"_{name.upper()}_COMPLETE": "bash_complete",
        "COMP_WORDS": f"{name} dra",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "plain,drain\n"


@pytest.mark.parametrize("file", ["zsh/site-functions/_gateway", "fish/vendor_completions.d/gateway.fish"])
def test_other_shells_have_a_script(share: Path, file: str) -> None:
    assert "_GATEWAY_COMPLETE" in (share / file).read_text()


def test_exit_statuses_are_documented() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    found = re.search(r"^## Exit status\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    assert [int(status) for status in re.findall(r"^\| (\d) \|", found[1], re.MULTILINE)] == [*cli.EXIT_STATUS]
