#!/bin/sh
# Runs `make test` in a new root with nothing but Debian's base system, Python and a compiler: does a fresh machine do?
#
#     .ci/minimal_root.sh ["TESTS OF PYTEST"]
#
# As root, with mmdebstrap (Debian package) installed. The root is a directory of its own, removed in the end. It is
# entered by chroot, in namespaces for mounts and processes, and shares the network, from which packages come.
set -eu

tests=${1:-tests/wire tests/config}
here=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
root=$place/root
trap 'rm -rf --one-file-system "$place"' EXIT
trap 'exit 1' INT TERM

"$here/.ci/debian_root.sh" "$root" python3,python3-venv,python3-dev,gcc,libc6-dev,libssl-dev,make,git
git clone --quiet --no-hardlinks "$here" "$root/tree"

unshare --mount --pid --fork --kill-child sh -eu -c '
    mount --make-rprivate /
    mount -t proc proc "$1/proc"
    mount -t sysfs sysfs "$1/sys"
    mount --rbind /dev "$1/dev"
    exec chroot "$1" /bin/sh -eu -c "unset PIP_FIND_LINKS; cd /tree; git config --global --add safe.directory /tree; make test PYTEST=\"$2\""
' sh "$root" "$tests"
