import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.lab import Lab, missing

WHY_NOT = missing()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where namespaces cannot be made, say so once for each scenario; where CI runs, that is a failure."""
    if WHY_NOT and not os.environ.get("CI"):
        for item in items:
            if "/netns/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=f"left out: {WHY_NOT}"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture
def pair(directory: Path) -> Iterator[Lab]:
    """Two gateways and a witness, not yet started."""
    with Lab(directory, witness=True) as lab:
        yield lab
