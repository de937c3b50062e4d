"""Builds sdist and wheel of the last commit into a directory: of the same commit always the same bytes.

    python .ci/release.py DIRECTORY
    python .ci/release.py --check       builds it twice, from two clones, and compares
    python .ci/release.py --install     installs the sdist in an empty environment and runs its programs

What is built is a copy of the commit's files in a new directory, with the time of the commit (SOURCE_DATE_EPOCH), its
own environment, and paths that the compiler does not write down. Compiler, Python, Cython and setuptools must be the
same for the same wheel; the sdist does not depend on them but for setuptools.
"""

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BACKEND = "from setuptools import build_meta as b; import sys; print(getattr(b, 'build_' + sys.argv[1])(sys.argv[2]))"
PASSED = ("PATH", "HOME", "TMPDIR", "LANG", "CC", "VIRTUAL_ENV")


def git(*arguments):
    """Return what git says."""
    return subprocess.run(
        ["git", *arguments],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout


def build(target, kinds=("sdist", "wheel")):
    """Build them into `target`; return their paths. Raises CalledProcessError."""
    target = Path(target).absolute()
    target.mkdir(parents=True, exist_ok=True)
    epoch = git("log", "-1", "--format=%ct").decode().strip()
    with tempfile.TemporaryDirectory() as place:
        tree, made = Path(place, "tree"), Path(place, "made")
        tree.mkdir()
        made.mkdir()
        archive = Path(place, "files.tar")
        archive.write_bytes(git("archive", "--format=tar", "HEAD"))
        with tarfile.open(archive) as files:
            files.extractall(tree)  # noqa: S202 - git has just written it
        environment = {name: os.environ[name] for name in PASSED if name in os.environ}
        environment |= {
            "SOURCE_DATE_EPOCH": epoch,
            "PYTHONHASHSEED": "0",
            "GATEWAY_BUILD": "release",
            "LC_ALL": "C.UTF-8",
        }
        for kind in kinds:
            command = [sys.executable, "-c", BACKEND, kind, str(made)]
            old = os.umask(0o022)
            try:
                subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
            finally:
                os.umask(old)
        (source,) = made.glob("*.tar.gz")
        level(source, int(epoch))
        return [Path(shutil.copy2(path, target)) for path in sorted(made.iterdir())]


def check():
    """Build the last commit from two clones; return the names of the files that differ."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory(prefix="in-quite-another-place-") as other:
        found = []
        for place, zone, mask in ((one, "UTC", 0o022), (other, "Asia/Kathmandu", 0o077)):
            clone = Path(place, "clone")
            git("clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone))
            old = os.umask(mask)
            try:
                command = [sys.executable, str(clone / ".ci" / "release.py"), str(Path(place, "dist"))]
                subprocess.run(command, check=True, env={**os.environ, "TZ": zone}, stdout=subprocess.DEVNULL)
            finally:
                os.umask(old)
            found.append({path.name: path.read_bytes() for path in Path(place, "dist").iterdir()})
        first, second = found
        return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def install():
    """Install the sdist as anyone would: pip, a new environment, nothing of this tree. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as place:
        (source,) = build(Path(place, "dist"), kinds=("sdist",))
        made = Path(place, "environment")
        subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        command = [str(made / "bin" / "pip"), "install", "--quiet", *constraints, str(source)]
        subprocess.run(command, cwd=place, check=True)
        for program in ("gateway", "loadagent"):
            subprocess.run([str(made / "bin" / program), "--version"], cwd=place, check=True)


def level(path, epoch):
    """Write an sdist again: files in order, without owner, with one time: by default these vary."""
    with tarfile.open(path) as archive:
        members = sorted(((item, archive.extractfile(item)) for item in archive), key=lambda pair: pair[0].name)
        contents = [(item, file.read() if file is not None else None) for item, file in members]
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=epoch) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for item, content in contents:
            item.uid = item.gid = 0
            item.uname = item.gname = ""
            item.mtime = epoch
            item.mode = 0o755 if item.isdir() or item.mode & 0o100 else 0o644
            item.pax_headers = {}
            archive.addfile(item, None if content is None else io.BytesIO(content))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--check":
        differing = check()
        said = "\n".join(f"{name} differs" for name in differing) or "the same bytes twice"
        sys.stdout.write(f"{said}\n")
        sys.exit(bool(differing))
    if sys.argv[1] == "--install":
        install()
        sys.exit(0)
    for result in build(sys.argv[1]):
        sys.stdout.write(f"{result}\n")
