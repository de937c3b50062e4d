"""Says what this machine lacks for building the project, and which package brings it.

Runs before anything is installed: standard library only, and in a syntax that a too old Python still reads.
Exit status 1 if something is missing.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile

OLDEST = (3, 11)
OLD_PYTHON = "Python %d.%d or newer is needed and {} is %d.%d" % (OLDEST + sys.version_info[:2])
NEW_PYTHON = "apt install python3, dnf install python3; or name another one: make PYTHON=python3.12"
NO_VENV = "no virtual environments: apt install python3-venv (Debian) or dnf install python3-pip (Fedora)"
NO_COMPILER = "no C compiler ({}): apt install gcc (Debian) or dnf install gcc (Fedora)"
NO_LIBC = "no headers of the C library: apt install libc6-dev (Debian) or dnf install glibc-devel (Fedora)"
NO_HEADERS = "no headers of Python: apt install python3-dev (Debian) or dnf install python3-devel (Fedora)"
NO_OPENSSL = "no headers of OpenSSL: apt install libssl-dev (Debian) or dnf install openssl-devel (Fedora)"


def environment_problem():
    """Return why virtual environments cannot be made, or None."""
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian packages these two apart from Python
        import venv  # noqa: F401, PLC0415
    except ImportError:
        return NO_VENV
    return None


def compile_problem(compiler, include):
    """Return why the command `compiler` (a list) cannot build against the headers in `include`, or None."""
    with tempfile.TemporaryDirectory() as directory:
        source = os.path.join(directory, "probe.c")  # noqa: PTH118
        command = [*compiler, "-I", include, "-c", source, "-o", source + ".o"]
        for header, problem in (("stdio.h", NO_LIBC), ("Python.h", NO_HEADERS), ("openssl/ssl.h", NO_OPENSSL)):
            with open(source, "w") as file:  # noqa: PTH123
                file.write("#include <%s>\n" % header)
            try:
                status = subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            except OSError:
                return NO_COMPILER.format(compiler[0])
            if status != 0:
                return problem
    return None


def problems():
    """Return one line for everything that is missing."""
    if sys.version_info < OLDEST:
        return [OLD_PYTHON.format(sys.executable) + ": " + NEW_PYTHON]
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    found = (environment_problem(), compile_problem(compiler, sysconfig.get_path("include")))
    return [problem for problem in found if problem]


if __name__ == "__main__":
    lines = problems()
    for line in lines:
        sys.stderr.write(line + "\n")
    sys.exit(1 if lines else 0)
