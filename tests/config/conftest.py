from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeAlias

import pytest

from gateway.config import ConfigError, Loaded, Site, load

MARK = "»"
BASE = 'frontends: [{listen: "127.0.0.1:80"}]\nbackends: {app: {servers: ["127.0.0.1:1"]}}\n'

Load: TypeAlias = Callable[[str], Loaded]
Refuse: TypeAlias = Callable[..., None]


def no_names(_: Site, hosts: Collection[str]) -> dict[str, str | OSError]:
    return {host: OSError(None, f"No such name: {host}") for host in hosts}


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    """Load a text as site.yaml; there is no name service."""

    def load_it(text: str) -> Loaded:
        path = tmp_path / "site.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path, no_names)

    return load_it


@pytest.fixture
def refuse(load_text: Load) -> Refuse:
    """Assert that a text has exactly the problems `messages`, each where the text has a », in order."""

    def check(text: str, *messages: str) -> None:
        places = []
        for line, content in enumerate(text.split("\n"), 1):
            *pieces, _ = content.split(MARK)
            column = 1
            for piece in pieces:
                column += len(piece)
                places.append((line, column))
        with pytest.raises(ConfigError) as caught:
            load_text(text.replace(MARK, ""))
        problems = caught.value.problems
        assert [(p.line, p.column) for p in problems] == places, str(caught.value)
        assert len(messages) == len(problems)
        for problem, message in zip(problems, messages, strict=True):
            assert message in problem.message
            assert str(problem) == f"{problem.path}:{problem.line}:{problem.column}: {problem.message}"

    return check


def with_route(route: str) -> str:
    """A site whose only route is `route`."""
    return f"{BASE}routes:\n  - {route}\n"
