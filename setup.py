"""Builds the compiled modules; everything else about the package is in pyproject.toml.

GATEWAY_BUILD=hardened builds them such that a fault in memory ends the process with a report: see docs/security.md.
GATEWAY_BUILD=debug builds them for gdb and perf: see docs/developing.md.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HARDENED = os.environ.get("GATEWAY_BUILD") == "hardened"
DEBUG = os.environ.get("GATEWAY_BUILD") == "debug"

# A hot path checked line by line: indices are bounds-checked by hand, where it matters, in C terms. None is checked for
# in the released build, too, but for the modules in which that costs more than 1 % of a request's instructions
# (`make micro`): the log line, whose request and log are never None, and picking a server.
WITHOUT_NONE_CHECKS = ("gateway.proxy.log", "gateway.balance.")
DIRECTIVES = {
    "boundscheck": HARDENED,
    "initializedcheck": HARDENED,
    "wraparound": False,
    "cdivision": True,
    "embedsignature": False,
}
COMPILE = ["-O2", "-fno-strict-aliasing", "-Wno-unused-function"]
if DEBUG:
    COMPILE += ["-Og", "-g3", "-fno-omit-frame-pointer"]
LINK: list[str] = []
if not HARDENED:
    if not DEBUG:
        # No debug information, which would be nine tenths of every module; names of functions stay.
        COMPILE.append("-g0")
    # Where it was compiled is not written down: the same sources give the same bytes anywhere (.ci/release.py).
    COMPILE.append(f"-ffile-prefix-map={Path.cwd()}=.")
if HARDENED:
    LINK = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    # _FORTIFY_SOURCE is off: the functions that it calls are unknown to AddressSanitizer, which checks the plain ones.
    # -Og compiles in three fifths of the time of -O1, with the same checks.
    COMPILE += [*LINK, "-Og", "-g1", "-fno-omit-frame-pointer", "-U_FORTIFY_SOURCE", "-D_GLIBCXX_ASSERTIONS"]

LIBSSL = {"conn", "http1_client", "http2_client", "http2_server", "listener", "log", "server", "tls", "tls_to_servers"}

# Every .pyx in the tree is one extension module of the same dotted name.
SOURCES = sorted(path for top in ("gateway", "qos") for path in Path(top).rglob("*.pyx"))

EXTENSIONS = [
    Extension(
        ".".join(path.with_suffix("").parts),
        [str(path)],
        libraries=["ssl", "crypto"] if path.stem in LIBSSL else [],
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
    )
    for path in SOURCES
]


def compiled(extensions: list[Extension], *, nonecheck: bool) -> list[Extension]:
    """The extensions with their C files made."""
    return cythonize(
        extensions,
        nthreads=os.cpu_count() or 1,
        language_level=3,
        compiler_directives={**DIRECTIVES, "nonecheck": nonecheck},
        emit_linenums=HARDENED or DEBUG,
    )


UNCHECKED = [] if HARDENED else [item for item in EXTENSIONS if item.name.startswith(WITHOUT_NONE_CHECKS)]
CHECKED = [item for item in EXTENSIONS if item not in UNCHECKED]


class Compile(build_ext):
    """Generates the C files when extensions are built, not when metadata or an sdist is requested."""

    def finalize_options(self) -> None:
        """Compile on all processors, also for `pip install -e`, which forgets the options that setup() was given."""
        super().finalize_options()
        self.parallel = os.cpu_count() or 1

    def run(self) -> None:
        """Make all of them, by several processes, then compile."""
        made = compiled(CHECKED, nonecheck=True) + compiled(UNCHECKED, nonecheck=False)
        sources = {item.name: item.sources for item in made}
        for item in self.extensions:
            item.sources = sources[item.name]
        super().run()


setup(
    ext_modules=EXTENSIONS,
    cmdclass={"build_ext": Compile},
)
