"""Follows docs/install.md in a new root of Debian, command by command, and runs the gateway there.

    python .ci/install_check.py [SUITE]     as root, with mmdebstrap; SUITE: trixie (Debian 13) unless it is given

The last commit is installed, in the versions of constraints.txt. Exit status 1 at the first thing that is wrong.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "install.md"
CHAPTER = "## Debian 12 and 13, by pip\n"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UNTOLD = """\
set -eu
# A person says yes to apt, and has the certificates and the index that pip uses here.
echo 'APT::Get::Assume-Yes "true";' >/etc/apt/apt.conf.d/90yes
export DEBIAN_FRONTEND=noninteractive PIP_CONSTRAINT=/src/constraints.txt
apt-get update
cd /src
"""
SITE = """\
user: gateway
frontends: [{listen: "127.0.0.1:8642"}]
backends: {app: {servers: ["127.0.0.1:9001"]}}
routes: [{match: {path: /hello}, respond: {body: "hello\\n"}}, {backend: app}]
"""
TRIAL = """\
set -eu
python3 --version
gateway --version
loadagent --version
useradd --system --no-create-home --shell /usr/sbin/nologin gateway
gateway check /etc/gateway/site.yaml
gateway run /etc/gateway/site.yaml & pid=$!
cat >/tmp/ask.py <<'END'
import urllib.request
assert urllib.request.urlopen("http://127.0.0.1:8642/hello", timeout=9).read() == b"hello\\n"
END
n=0
until python3 /tmp/ask.py 2>/dev/null; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.2; done
gateway reload
gateway status
gateway upgrade
wait $pid
python3 /tmp/ask.py
gateway explain /etc/gateway/site.yaml GET http://a/hello
next=$(ls /run/gateway/*.operator)
kill "$(basename "$next" .operator)"
n=0
while [ -e "$next" ]; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.2; done
"""


def commands():
    """The commands of the chapter, as they are written."""
    text = PAGE.read_text()
    return re.search(r"```sh\n(.*?)```", text[text.index(CHAPTER) :], re.DOTALL)[1]


def run(*command, **options):
    """Run a command. Raises CalledProcessError."""
    subprocess.run(list(map(str, command)), check=True, **options)


def check(suite):
    """Install and run it. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "root")
        run(ROOT / ".ci" / "debian_root.sh", root, "passwd", suite)
        tree = root / "src"
        tree.mkdir()
        files = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        run("tar", "-x", "-C", tree, input=files)
        (root / "etc" / "gateway").mkdir()
        (root / "etc" / "gateway" / "site.yaml").write_text(SITE)
        for name, text in (("install", UNTOLD + commands()), ("trial", TRIAL)):
            (root / "tmp" / name).write_text(text)
        mounts = f"mount -t proc proc {root}/proc; mount --rbind /dev {root}/dev"
        inside = f"exec env -i PATH={PATH} HOME=/root LC_ALL=C.UTF-8 chroot {root}"
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        run(*spaces, "sh", "-euc", f"{mounts}; {inside} sh -x /tmp/install")
        shutil.rmtree(tree)  # what runs needs no sources
        run(*spaces, "--net", "sh", "-euc", f"{mounts}; ip link set lo up; {inside} sh -x /tmp/trial")
    sys.stdout.write(f"Debian {suite}: installed by docs/install.md, ran, reloaded, upgraded\n")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    check(sys.argv[1] if len(sys.argv) == 2 else "trixie")
