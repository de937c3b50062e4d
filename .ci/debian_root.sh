#!/bin/sh
# Makes a new root of Debian's base system, with the packages named:
#
#     .ci/debian_root.sh DIRECTORY PACKAGE,PACKAGE,… [SUITE]
#
# SUITE: such as trixie; without it, that of this machine's Debian.
# As root, with mmdebstrap (Debian package) installed. Packages come from the sources that apt uses here, and Python's,
# later, from where pip takes them here.
set -eu

root=$1 packages=$2 here=$(. /etc/os-release && echo "$VERSION_CODENAME")
suite=${3:-$here}
command -v mmdebstrap >/dev/null || { echo "no mmdebstrap: apt install mmdebstrap" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "needs root, for chroot" >&2; exit 1; }

set -- /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list
sources=
for file; do [ ! -s "$file" ] || sources="$sources $file"; done
options=
for file in /etc/apt/apt.conf.d/*; do
    grep -qi '^ *acquire' "$file" 2>/dev/null && options="$options --aptopt=$file"
done

# shellcheck disable=SC2086 # lists of words without spaces
if [ "$suite" = "$here" ]; then
    mmdebstrap --quiet --variant=apt $options --include="ca-certificates,$packages" "$suite" "$root" $sources
else
    sed "s/$here/$suite/g" $sources |
        mmdebstrap --quiet --variant=apt $options --include="ca-certificates,$packages" "$suite" "$root" -
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
for file in /etc/pip.conf /etc/hosts; do [ ! -e "$file" ] || cp "$file" "$root$file"; done
for certificates in /usr/local/share/ca-certificates/*.crt; do
    [ ! -e "$certificates" ] || cp "$certificates" "$root/usr/local/share/ca-certificates/"
done
chroot "$root" update-ca-certificates >/dev/null 2>&1
