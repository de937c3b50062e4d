#!/bin/sh
# Runs `make test` in a new root with nothing but Debian's base system, Python and a compiler: does a fresh machine do?
#
#     .ci/minimal_root.sh ["TESTS OF PYTEST"]
#
# As root, with mmdebstrap (Debian package) installed. Packages come from the sources that apt uses here, Python's from
# where pip takes them here. The root is a directory of its own that is removed in the end; it is left by chroot, in
# namespaces for mounts and processes, and shares the network, from which packages come.
set -eu

tests=${1:-tests/wire tests/config}
here=$(cd "$(dirname "$0")/.." && pwd)
command -v mmdebstrap >/dev/null || { echo "no mmdebstrap: apt install mmdebstrap" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "needs root, for chroot" >&2; exit 1; }

place=$(mktemp -d)
root=$place/root
trap 'rm -rf --one-file-system "$place"' EXIT
trap 'exit 1' INT TERM

set -- /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list
sources=
for file; do [ ! -s "$file" ] || sources="$sources $file"; done
options=
for file in /etc/apt/apt.conf.d/*; do
    grep -qi '^ *acquire' "$file" 2>/dev/null && options="$options --aptopt=$file"
done
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

# shellcheck disable=SC2086 # lists of words without spaces
mmdebstrap --quiet --variant=apt $options --include=ca-certificates,python3,python3-venv,python3-dev,gcc,libc6-dev,libssl-dev,make,git \
    "$suite" "$root" $sources
cp /etc/resolv.conf "$root/etc/resolv.conf"
for file in /etc/pip.conf /etc/hosts; do [ ! -e "$file" ] || cp "$file" "$root$file"; done
for certificates in /usr/local/share/ca-certificates/*.crt; do
    [ ! -e "$certificates" ] || cp "$certificates" "$root/usr/local/share/ca-certificates/"
done
git clone --quiet --no-hardlinks "$here" "$root/tree"

unshare --mount --pid --fork --kill-child sh -eu -c '
    mount --make-rprivate /
    mount -t proc proc "$1/proc"
    mount -t sysfs sysfs "$1/sys"
    mount --rbind /dev "$1/dev"
    exec chroot "$1" /bin/sh -eu -c "update-ca-certificates >/dev/null 2>&1; cd /tree; git config --global --add safe.directory /tree; make test PYTEST=\"$2\""
' sh "$root" "$tests"
