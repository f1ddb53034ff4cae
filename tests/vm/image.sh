#!/bin/sh
# Makes a bootable Debian 12 of Debian packages: disk.img, vmlinuz and initrd.img in the directory given ($1), with the
# packages given ($2...) besides a kernel and systemd. Made once, kept until this script, the unit or the list changes.
#
# The kernel is booted directly, so the disk is one bare file system without a boot loader. Nothing is private to a
# machine: it is booted with its writes thrown away.
set -eu
out=${1:?usage: image.sh DIRECTORY PACKAGE...}
shift
here=$(cd "$(dirname "$0")" && pwd -P)
key=$(echo "$@" | cat "$here/image.sh" "$here/guest.sh" "$here/guest.service" - | sha256sum)
if [ -e "$out/key" ] && [ "$(cat "$out/key")" = "$key" ]; then
    exit 0
fi

mkdir -p "$out"
rm -f "$out/key"
root=$(mktemp -d "$out/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
trap 'exit 1' INT TERM
# Services that packages bring stay off: the suites start what they need. Documentation is what makes it large.
mmdebstrap --quiet --format=directory --variant=minbase --components=main \
    --include="linux-image-amd64 systemd-sysv udev kmod $*" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --aptopt='Acquire::Languages "none"' \
    --customize-hook="cp '$here/guest.sh' \"\$1\"/usr/local/sbin/guest" \
    --customize-hook="cp '$here/guest.service' \"\$1\"/etc/systemd/system/guest.service" \
    --customize-hook='rm -f "$1"/etc/systemd/system/*.wants/*.timer "$1"/etc/systemd/system/multi-user.target.wants/*' \
    --customize-hook='chroot "$1" systemctl enable --quiet guest.service' \
    --customize-hook='echo debian12 >"$1"/etc/hostname; echo "127.0.0.1 localhost debian12" >"$1"/etc/hosts' \
    --customize-hook='echo "nameserver 127.0.0.1" >"$1"/etc/resolv.conf' \
    bookworm "$root" \
    'deb http://deb.debian.org/debian bookworm main' \
    'deb http://deb.debian.org/debian bookworm-updates main' \
    'deb http://deb.debian.org/debian-security bookworm-security main'
cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd.img"
rm -f "$out/disk.img"
mke2fs -q -t ext4 -d "$root" "$out/disk.img" 8G >/dev/null
echo "$key" >"$out/key"
