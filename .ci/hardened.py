"""Builds the compiled modules with None checks, bounds checks and sanitizers in a tree of their own, and tests them.

    python .ci/hardened.py build
    python .ci/hardened.py quick [REPORT]
    python .ci/hardened.py test [arguments of pytest]

The tree is build/hardened, a copy of this one, so that the release build and its tests stay as they are. Only what has
changed is copied and compiled again. `quick` runs its files side by side, each in a process of its own:
AddressSanitizer does not load into the workers of pytest-xdist. REPORT becomes a junit file of all of them.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / "build" / "hardened"
COPIED = (".ci", "bench", "conf", "docs", "gateway", "loadagent", "qos", "tests")
MADE = {".so", ".pyc", ".o"}
"""Suffixes of what is made from files, here and there differently."""
COMPILED = ("gateway", "qos")
"""Where every .c is made from a .pyx."""
TIMEOUT = 240
"""Seconds for a test: four times what it has otherwise."""
STAMP = TREE / ".built"
"""What setup.py said when all modules were compiled by it."""

TESTS = (
    "tests/wire",
    "tests/balance",
    "tests/dns",
    "tests/rules",
    "tests/explain",
    "tests/proxy",
    "tests/fuzz",
    "tests/test_board.py",
    "tests/conformance",
    "tests/scenarios",
)
"""Everything that runs compiled code, or a gateway, but for the benchmarks and the hosts in network namespaces."""

QUICK = (
    "tests/wire",
    "tests/fuzz/test_connections.py",
    "tests/scenarios/test_bad_servers.py",
    "tests/scenarios/test_http2.py",
    "tests/scenarios/test_bad_requests.py",
    "tests/scenarios/test_tls.py",
    "tests/scenarios/test_tls_to_servers.py",
    "tests/scenarios/test_tunnels.py",
    "tests/conformance/test_faults.py",
    "tests/conformance/test_behind_a_good_one.py",
    "tests/conformance/test_http2.py",
    "tests/conformance/test_websocket.py",
    "tests/scenarios/test_tunnel_ends.py",
    "tests/scenarios/test_early_bodies.py",
    "tests/dns",
    "tests/balance",
    "tests/test_board.py",
)
"""What finds most in five minutes: where bytes come from others and connections end oddly. The longest first."""
SIDES = 2
"""How many of them run side by side."""
CACHE = Path(".pytest_cache")

ASAN = (
    "abort_on_error=1",  # the Python traceback follows the report
    "detect_leaks=0",  # what Python keeps until it ends is no leak
    "handle_segv=1",  # after gateway/system/crash_report.pyx, which passes it on
    "allow_user_segv_handler=1",
    "handle_sigbus=0",
    "handle_sigfpe=0",
    "allocator_may_return_null=1",  # MemoryError, as without it
    "detect_stack_use_after_return=1",
    "strict_string_checks=1",
    "quarantine_size_mb=64",  # of memory that was freed, in each process, until it is used again
    "malloc_context_size=20",
)
UBSAN = ("abort_on_error=1", "halt_on_error=1", "print_stacktrace=1")


def sources(top):
    """Find the files of a tree that are not made from others, by their path in it."""
    found = {}
    for path in top.iterdir():
        if path.is_file() and not path.name.startswith("."):
            found[path.relative_to(top)] = path
    for name in COPIED:
        for folder, folders, files in os.walk(top / name):
            folders[:] = [each for each in folders if each != "__pycache__"]
            for file in files:
                path = Path(folder, file)
                if path.suffix not in MADE and (path.suffix != ".c" or name not in COMPILED):
                    found[path.relative_to(top)] = path
    return found


def copy():
    """Bring the files of the tree up to date."""
    TREE.mkdir(parents=True, exist_ok=True)
    here, there = sources(ROOT), sources(TREE)
    for name in there.keys() - here.keys():
        there[name].unlink()
        if name.suffix == ".pyx":
            for made in (there[name].with_suffix(".c"), *there[name].parent.glob(f"{name.stem}.*.so")):
                made.unlink(missing_ok=True)
    for name, path in here.items():
        target = TREE / name
        if name in there and _same(path, target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def _same(one, other):
    a, b = one.stat(), other.stat()
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def build():
    """Copy and compile what has changed. Raises CalledProcessError."""
    copy()
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    flags = (TREE / "setup.py").read_text()
    if not STAMP.exists() or STAMP.read_text() != flags:
        command.append("--force")
        for path in (TREE / "gateway").rglob("*.pyx"):
            path.with_suffix(".c").unlink(missing_ok=True)  # its directives may be others
    subprocess.run(command, cwd=TREE, env={**os.environ, "GATEWAY_BUILD": "hardened"}, check=True)
    for module in (TREE / "gateway").rglob("*.so"):
        if b"__asan_report_load" not in module.read_bytes():
            sys.exit(f"{module} is not compiled with AddressSanitizer")
    STAMP.write_text(flags)


def library(name):
    """Return the path of a library of the compiler. Raises FileNotFoundError."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    path = subprocess.run(
        [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if not Path(path).is_absolute():
        raise FileNotFoundError(f"{compiler} has no {name}")
    return str(Path(path).resolve())


def environment():
    """Return that of a process which runs the hardened modules."""
    # The last one, as AddressSanitizer looks for the function that throws C++ exceptions when it starts.
    preload = [library(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")]
    return {
        **os.environ,
        "LD_PRELOAD": ":".join(preload),
        "ASAN_OPTIONS": ":".join(ASAN),
        "UBSAN_OPTIONS": ":".join(UBSAN),
        "PYTHONMALLOC": "malloc",  # so that each object of Python's is seen by itself
        "PYTHONPATH": str(TREE),
    }


def command(arguments):
    """Return that of pytest in the tree."""
    # Not the capture of file descriptors: a report about this process itself would be lost with it.
    return [sys.executable, "-m", "pytest", "--capture=sys", "-o", f"timeout={TIMEOUT}", *arguments]


def test(arguments):
    """Run pytest in the tree; return its status."""
    return subprocess.run(command(arguments), cwd=TREE, env=environment(), check=False).returncode


def quick(report):
    """Run the files of QUICK side by side and print what each says when it is done; return 0 if all pass, else 1.

    The failed tests of all of them are left where pytest leaves them, and their reports as one.
    """
    sides = SimpleQueue()
    for side in range(SIDES):
        sides.put(side)
    shutil.rmtree(TREE / CACHE, ignore_errors=True)
    parts = TREE / CACHE / "parts"
    parts.mkdir(parents=True)

    def run(number, path):
        side = sides.get()
        # The ports of tests are divided by these, as for the workers of pytest-xdist: see tests/support/waiting.py.
        own = {"PYTEST_XDIST_WORKER": f"gw{side}", "PYTEST_XDIST_WORKER_COUNT": f"{SIDES}"}
        options = (f"--junitxml={parts / f'{number}.xml'}", "-o", f"cache_dir={parts / f'{number}'}", "-p", "no:xdist")
        done = subprocess.run(
            command([*options, path]), cwd=TREE, env={**environment(), **own}, capture_output=True, check=False
        )
        sides.put(side)
        sys.stdout.buffer.write(b"== " + path.encode() + b"\n" + done.stdout + done.stderr)
        sys.stdout.buffer.flush()
        return done.returncode

    with ThreadPoolExecutor(SIDES) as pool:
        statuses = list(pool.map(run, count(), QUICK))
    failed, suites = {}, ET.Element("testsuites")
    for number in range(len(QUICK)):
        last = parts / f"{number}" / "v/cache/lastfailed"
        failed |= json.loads(last.read_text()) if last.exists() else {}
        if (parts / f"{number}.xml").exists():
            suites.extend(ET.parse(parts / f"{number}.xml").getroot())  # noqa: S314 - pytest's
    (TREE / CACHE / "v/cache").mkdir(parents=True)
    (TREE / CACHE / "v/cache/lastfailed").write_text(json.dumps(failed))
    if report:
        ET.ElementTree(suites).write(report)
    return int(any(statuses))


if __name__ == "__main__":
    if sys.argv[1:2] == ["build"]:
        build()
    elif sys.argv[1:2] == ["test"]:
        sys.exit(test(sys.argv[2:] or TESTS))
    elif sys.argv[1:2] == ["quick"]:
        sys.exit(quick(*sys.argv[2:3] or [""]))
    else:
        sys.exit(__doc__)
