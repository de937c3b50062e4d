import json
import os
import runpy

import pytest

from tests.support.backend_server import ROOT

FILES = ("setup.py", "gateway/a.pyx", "gateway/wire/b.pyx", "gateway/wire/b.pxd", "bench/origin.c", "tests/test_a.py")
MADE = (
    "gateway/a.c",
    "gateway/a.cpython-311-x86_64-linux-gnu.so",
    "tests/__pycache__/test_a.cpython-311.pyc",
    ".venv/x",
)


@pytest.fixture
def program(tmp_path):
    """The program with a tree of its own to copy."""
    program = runpy.run_path(str(ROOT / ".ci" / "hardened.py"))
    program["copy"].__globals__.update(ROOT=tmp_path, TREE=tmp_path / "build" / "hardened")
    for folder in program["COPIED"]:
        (tmp_path / folder).mkdir()
    for name in (*FILES, *MADE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return program


def copied(tmp_path):
    tree = tmp_path / "build" / "hardened"
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}


def test_what_is_made_from_others_is_not_copied(program, tmp_path):
    program["copy"]()
    assert copied(tmp_path) == set(FILES)


def test_what_was_made_in_the_copy_stays_and_what_has_changed_is_copied(program, tmp_path):
    tree = tmp_path / "build" / "hardened"
    program["copy"]()
    made = (tree / "gateway" / "a.c", tree / "gateway" / "a.cpython-311-x86_64-linux-gnu.so")
    for path in made:
        path.write_text("hardened")
    (tree / "gateway" / "a.pyx").chmod(0o444)  # untouched, as it has not changed
    before = (tree / "gateway" / "a.pyx").stat().st_ino, (tree / "gateway" / "a.pyx").stat().st_ctime_ns
    (tmp_path / "gateway" / "wire" / "b.pyx").write_text("something else")
    program["copy"]()
    assert [path.read_text() for path in made] == ["hardened"] * 2
    assert (tree / "gateway" / "wire" / "b.pyx").read_text() == "something else"
    assert ((tree / "gateway" / "a.pyx").stat().st_ino, (tree / "gateway" / "a.pyx").stat().st_ctime_ns) == before


def test_what_is_gone_goes_with_what_was_made_from_it(program, tmp_path):
    tree = tmp_path / "build" / "hardened"
    program["copy"]()
    module = tree / "gateway" / "a.cpython-311-x86_64-linux-gnu.so"
    module.write_text("hardened")
    (tmp_path / "gateway" / "a.pyx").unlink()
    (tmp_path / "tests" / "test_a.py").unlink()
    program["copy"]()
    assert not module.exists()
    assert copied(tmp_path) == set(FILES) - {"gateway/a.pyx", "tests/test_a.py"}


def test_libraries_of_the_compiler_are_found_or_named(program):
    assert "libasan" in program["library"]("libasan.so")
    with pytest.raises(FileNotFoundError, match=r"has no libnothing\.so"):
        program["library"]("libnothing.so")


def test_the_quick_tests_run_side_by_side_and_leave_one_report_and_one_list_of_failures(program, tmp_path, capfd):
    tree = tmp_path / "build" / "hardened"
    (tree / "tests").mkdir(parents=True)
    (tree / "pytest.ini").write_text("[pytest]\n")
    names = ("good", "bad", "worse")
    for name in names:
        (tree / "tests" / f"test_{name}.py").write_text(f"def test_{name}():\n    assert {name == 'good'}\n")
    program["quick"].__globals__.update(QUICK=[f"tests/test_{name}.py" for name in names], environment=os.environ.copy)
    report = tmp_path / "report.xml"
    assert program["quick"](str(report)) == 1
    failed = json.loads((tree / ".pytest_cache/v/cache/lastfailed").read_text())
    assert sorted(failed) == ["tests/test_bad.py::test_bad", "tests/test_worse.py::test_worse"]
    assert all(f'name="test_{name}"' in report.read_text() for name in names)
    assert "1 passed" in capfd.readouterr().out
    for name in names:
        (tree / "tests" / f"test_{name}.py").write_text("def test_it():\n    pass\n")
    assert program["quick"]("") == 0
    assert json.loads((tree / ".pytest_cache/v/cache/lastfailed").read_text()) == {}
