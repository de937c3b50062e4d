#!/bin/sh
# Makes a new root of Debian's base system, as old as this machine's Debian, with the packages named:
#
#     .ci/debian_root.sh DIRECTORY PACKAGE,PACKAGE,…
#
# As root, with mmdebstrap (Debian package) installed. Packages come from the sources that apt uses here, and Python's,
# later, from where pip takes them here.
set -eu

root=$1 packages=$2
command -v mmdebstrap >/dev/null || { echo "no mmdebstrap: apt install mmdebstrap" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "needs root, for chroot" >&2; exit 1; }

set -- /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list
sources=
for file; do [ ! -s "$file" ] || sources="$sources $file"; done
options=
for file in /etc/apt/apt.conf.d/*; do
    grep -qi '^ *acquire' "$file" 2>/dev/null && options="$options --aptopt=$file"
done
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

# shellcheck disable=SC2086 # lists of words without spaces
mmdebstrap --quiet --variant=apt $options --include="ca-certificates,$packages" "$suite" "$root" $sources
cp /etc/resolv.conf "$root/etc/resolv.conf"
for file in /etc/pip.conf /etc/hosts; do [ ! -e "$file" ] || cp "$file" "$root$file"; done
for certificates in /usr/local/share/ca-certificates/*.crt; do
    [ ! -e "$certificates" ] || cp "$certificates" "$root/usr/local/share/ca-certificates/"
done
chroot "$root" update-ca-certificates >/dev/null 2>&1
