import builtins
import runpy
import sys
import sysconfig

import pytest

from tests.support.backend_server import ROOT

PROGRAM = str(ROOT / ".ci" / "prerequisites.py")


@pytest.fixture
def program():
    return runpy.run_path(PROGRAM)


def test_nothing_is_missing_where_the_tests_run(program):
    assert program["problems"]() == []


def test_missing_compiler_is_named_with_its_package(program, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    (line,) = program["problems"]()
    assert "no-such-compiler" in line
    assert "apt install gcc" in line


def test_missing_headers_are_named_with_their_package(program, tmp_path):
    include = sysconfig.get_path("include")
    assert program["compile_problem"](["cc"], include) is None
    assert "apt install python3-dev" in program["compile_problem"](["cc"], str(tmp_path))
    assert "libc6-dev" in program["compile_problem"](["cc", "-nostdinc"], include)


def test_missing_venv_is_named_with_its_package(program, monkeypatch):
    def imported(name, *rest):
        if name == "ensurepip":
            raise ImportError(name)
        return original(name, *rest)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", imported)
    assert "apt install python3-venv" in program["environment_problem"]()


def test_old_python_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    (line,) = runpy.run_path(PROGRAM)["problems"]()
    assert line.startswith(f"Python 3.11 or newer is needed and {sys.executable} is 3.9: ")
    assert "make PYTHON=" in line
