"""Builds dist/eddie-gateway_VERSION_ARCHITECTURE.deb: an environment in /opt/gateway, units, accounts, manual pages.

    python .ci/debian_package.py            the package, for the Debian whose Python has this one's version
    python .ci/debian_package.py --check    installs it in a new root of Debian as well, runs it there, and removes it
                                            (as root, with mmdebstrap)

Dependencies have the versions and hashes of lock/run.txt. The environment uses Debian's own Python; the package depends
on its version, for the compiled modules are made for it.
"""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "eddie-gateway"
HOME = "opt/gateway"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NEXT = f"{sys.version_info.major}.{sys.version_info.minor + 1}"
NOT_TO_RUN = ("setuptools==", "cython==")
"""What lock/run.txt has for building only."""
PROGRAMS = ("gateway", "loadagent")
INSIDE = ("python3", "libssl3", "libnghttp2-14", "libpcre2-8-0", "systemd", "curl")
CONTROL = """\
Package: {name}
Version: {version}
Architecture: {architecture}
Maintainer: Eddie gateway <{name}@localhost>
Section: net
Priority: optional
Installed-Size: {size}
Depends: python3 (>= {python}), python3 (<< {next}), libc6, libssl3 | libssl3t64, systemd | systemd-standalone-sysusers
Recommends: libnghttp2-14, libpcre2-8-0
Description: HTTP gateway that balances by measured load
 Sends each request to the server with the shortest expected response time,
 shares addresses between gateways, and protects admitted clients from
 overload. The program loadagent reports the load of a server.
"""
POSTINST = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
systemd-sysusers gateway.conf loadagent.conf
[ ! -d /run/systemd/system ] || systemctl daemon-reload
# A gateway that runs hands its sockets to the new version; nothing is started that did not run before.
if [ -d /run/systemd/system ] && systemctl --quiet is-active gateway; then
    gateway upgrade || systemctl restart gateway
fi
if [ -d /run/systemd/system ] && systemctl --quiet is-active loadagent; then
    systemctl restart loadagent
fi
"""
PRERM = """\
#!/bin/sh
set -e
[ "$1" = remove ] || exit 0
[ ! -d /run/systemd/system ] || systemctl --quiet disable --now gateway loadagent || true
"""
POSTRM = """\
#!/bin/sh
set -e
[ "$1" != remove ] || rm -rf /opt/gateway
[ ! -d /run/systemd/system ] || systemctl daemon-reload
"""
LOADAGENT = 'u loadagent - "Load agent of the HTTP gateway" / /usr/sbin/nologin\n'
LAUNCHER = """\
#!/opt/gateway/bin/python
import sys

from {module} import main

sys.exit(main())
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: {name}

Files: *
Copyright: the authors of Eddie gateway
License: Apache-2.0
 On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0. The packages in /opt/gateway have
 their own licences, in their directories (*.dist-info).
"""


def run(*command, **options):
    """Run a command. Raises CalledProcessError."""
    subprocess.run(list(map(str, command)), check=True, **options)


def version():
    """The version of the package."""
    return re.search(r'^__version__ = "(.+)"', (ROOT / "gateway/__init__.py").read_text(), re.MULTILINE)[1]


def locked():
    """The lock without what only builds."""
    entries = re.split(r"(?<!\\)\n", (ROOT / "lock" / "run.txt").read_text())
    return "\n".join(entry for entry in entries if not entry.lower().startswith(NOT_TO_RUN))


def environment(stage, wheel):
    """Make the virtual environment: what `python3 -m venv` makes, for a Python that is elsewhere."""
    home = stage / HOME
    packages = home / "lib" / f"python{PYTHON}" / "site-packages"
    packages.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n")
    for link in ("python", "python3"):
        (home / "bin" / link).symlink_to(f"/usr/bin/python{PYTHON}")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
        lock.write(locked())
        lock.flush()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", packages]
        run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", lock.name)
        shutil.rmtree(packages / "bin", ignore_errors=True)  # their programs, which nothing here starts
        run(*pip, "--no-deps", wheel)
    shutil.rmtree(packages / "bin", ignore_errors=True)
    ours = [path for name in ("gateway", "qos") for path in (packages / name).rglob("*.so")]
    run("/usr/bin/strip", "--strip-unneeded", *ours)
    for program in PROGRAMS:
        path = home / "bin" / program
        path.write_text(LAUNCHER.format(module=f"{program}.cli"))
        path.chmod(0o755)
    # Compiled here, for the account that runs it may not write there; valid whatever the time of the files.
    compiled = [
        sys.executable,
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        stage,
        "-p",
        "/",
    ]
    run(*compiled, packages)


def rest(stage):
    """Units, accounts, manual pages, completions, examples."""
    share = stage / "usr" / "share"
    units = stage / "usr" / "lib" / "systemd" / "system"
    accounts = stage / "usr" / "lib" / "sysusers.d"
    for directory in (units, accounts, stage / "usr" / "bin", stage / "etc" / "gateway"):
        directory.mkdir(parents=True)
    for unit in ("gateway.service", "loadagent.service"):
        (units / unit).write_text((ROOT / "conf" / unit).read_text().replace("/usr/local/bin/", "/usr/bin/"))
    shutil.copy(ROOT / "conf" / "gateway.sysusers.conf", accounts / "gateway.conf")
    (accounts / "loadagent.conf").write_text(LOADAGENT)
    for program in PROGRAMS:
        (stage / "usr" / "bin" / program).symlink_to(f"/{HOME}/bin/{program}")
    run(sys.executable, ROOT / ".ci" / "manuals.py", share)
    for page in (share / "man" / "man1").iterdir():
        page.with_name(page.name + ".gz").write_bytes(gzip.compress(page.read_bytes(), mtime=0))
        page.unlink()
    zsh = share / "zsh" / "site-functions"
    zsh.rename(zsh.with_name("vendor-completions"))
    doc = share / "doc" / NAME
    doc.mkdir(parents=True)
    (doc / "copyright").write_text(COPYRIGHT.format(name=NAME))
    (doc / "changelog.gz").write_bytes(gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0))
    shutil.copytree(ROOT / "conf", doc / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", doc / "docs", ignore=shutil.ignore_patterns("*.json"))


def control(stage, architecture):
    """Write DEBIAN/: what dpkg reads."""
    directory = stage / "DEBIAN"
    files = sorted(path for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n" for path in files]  # noqa: S324
    size = sum(path.stat().st_size for path in files) // 1024
    directory.mkdir()
    facts = {
        "name": NAME,
        "version": version(),
        "architecture": architecture,
        "python": PYTHON,
        "next": NEXT,
        "size": size,
    }
    (directory / "control").write_text(CONTROL.format(**facts))
    (directory / "md5sums").write_text("".join(sums))
    for name, text in (("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)


def build(target):
    """Build the package into `target`; return its path."""
    architecture = subprocess.run(
        ["/usr/bin/dpkg", "--print-architecture"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    target.mkdir(exist_ok=True)
    old = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory() as place:
            stage = Path(place, "stage")
            stage.mkdir()
            wheels = Path(place, "wheels")
            pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
            run(*pip, "-w", wheels, ROOT)
            (wheel,) = wheels.glob("*.whl")
            environment(stage, wheel)
            rest(stage)
            control(stage, architecture)
            package = target / f"{NAME}_{version()}_{architecture}.deb"
            run("dpkg-deb", "--root-owner-group", "-Zzstd", "--build", stage, package, stdout=subprocess.DEVNULL)
    finally:
        os.umask(old)
    return package


SITE = """\
user: gateway
frontends: [{listen: "127.0.0.1:8642"}]
backends: {app: {servers: ["127.0.0.1:9001"]}}
routes: [{match: {path: /hello}, respond: {body: "hello\\n"}}, {backend: app}]
admin: {sockets: /run/gateway}
"""
TRIAL = """\
set -eu
dpkg -i /tmp/package.deb
gateway --version
loadagent --version
id gateway gateway-keys loadagent
gateway check /etc/gateway/site.yaml
test -e /usr/share/man/man1/gateway-run.1.gz
test -e /usr/lib/systemd/system/gateway.service
systemd-analyze verify /usr/lib/systemd/system/gateway.service /usr/lib/systemd/system/loadagent.service
install -d -o gateway /run/gateway /var/lib/gateway
setpriv --reuid gateway --regid gateway --clear-groups gateway run /etc/gateway/site.yaml & pid=$!
curl -s --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:8642/hello
kill $pid
wait $pid
dpkg -i /tmp/package.deb
dpkg -P eddie-gateway
test ! -e /opt/gateway
test -e /etc/gateway/site.yaml
echo the package installs, runs, is installed again, and goes
"""


def check(package):
    """Install the package in a new root of Debian, run the gateway there, remove it. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "root")
        run(ROOT / ".ci" / "debian_root.sh", root, ",".join(INSIDE))
        shutil.copy(package, root / "tmp" / "package.deb")
        (root / "etc" / "gateway").mkdir()
        (root / "etc" / "gateway" / "site.yaml").write_text(SITE)
        # In namespaces of its own: what it starts ends with it, and its addresses are not this machine's.
        inside = f"ip link set lo up; mount -t proc proc {root}/proc; exec chroot {root} sh -c '. /tmp/trial'"
        (root / "tmp" / "trial").write_text(TRIAL)
        run("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c", inside)


if __name__ == "__main__":
    made = build(ROOT / "dist")
    sys.stdout.write(f"{made}\n")
    if "--check" in sys.argv[1:]:
        check(made)
