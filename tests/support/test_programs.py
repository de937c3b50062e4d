import os
import sys

import pytest

from tests.support import hardened
from tests.support.programs import run


def test_programs_of_ours_get_the_sanitizers_and_those_of_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardened, "PRELOADED", "libdl.so.2")  # exists everywhere, and does nothing
    shown = "import os; print(os.environ.get('LD_PRELOAD'))"
    assert run(sys.executable, "-c", shown) == "libdl.so.2\n"
    assert "LD_PRELOAD=" not in run("/usr/bin/env")
    assert "LD_PRELOAD" not in os.environ
