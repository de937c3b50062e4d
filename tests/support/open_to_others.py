"""Lets an account without rights run this Python and this checkout, which may be in a directory of root's alone.

In a mount namespace of the command's own, so that nothing on the machine changes. Needs root.
"""

import os
import stat
import sys
from pathlib import Path

from tests.support.backend_server import ROOT

SCRIPT = """
set -e
closed=$1 scratch=$2; shift 2
number=0; kept=
while [ "$1" != -- ]; do
    mkdir -p "$scratch/$number"; mount --bind "$1" "$scratch/$number"
    kept="$kept $number:$1"; number=$((number + 1)); shift
done
shift
mount -t tmpfs -o mode=755 tmpfs "$closed"
for pair in $kept; do mkdir -p "${pair#*:}"; mount --bind "$scratch/${pair%%:*}" "${pair#*:}"; done
exec "$@"
"""


NEEDED = tuple(Path(path).resolve() for path in (sys.base_prefix, sys.prefix, ROOT))


def closed() -> Path | None:
    """Return the topmost directory on the way to this Python or this checkout that others may not pass, if any."""
    for path in NEEDED:
        for above in reversed(path.parents):
            if not above.stat().st_mode & stat.S_IXOTH:
                return above
    return None


def opened(scratch: Path) -> tuple[str, ...]:
    """Return a command that runs the command behind it where all can be passed; empty if that is so already."""
    top = closed()
    if top is None or os.geteuid() != 0:
        return ()
    needed = {str(path) for path in NEEDED if path.is_relative_to(top)}
    return ("unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(top), str(scratch), *sorted(needed), "--")
