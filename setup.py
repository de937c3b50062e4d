"""Builds the compiled modules; everything else about the package is in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# Every .pyx in the tree is one extension module of the same dotted name.
SOURCES = sorted(path for top in ("gateway", "qos") for path in Path(top).rglob("*.pyx"))

EXTENSIONS = [
    Extension(
        ".".join(path.with_suffix("").parts),
        [str(path)],
        libraries=["ssl", "crypto"] if path.stem in {"conn", "log", "tls"} else [],
        extra_compile_args=["-O2", "-fno-strict-aliasing", "-Wno-unused-function"],
    )
    for path in SOURCES
]

setup(
    ext_modules=cythonize(
        EXTENSIONS,
        nthreads=os.cpu_count() or 1,
        language_level=3,
        # A hot path checked line by line: indices are bounds-checked by hand, where it matters, in C terms.
        compiler_directives={
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": False,
        },
    ),
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
