#!/bin/sh
# Makes the base images that the demo and the tests use, from Debian packages, without any registry:
#
#   busybox.tar               busybox:latest, Debian's static busybox with a link for each applet
#   debian-bookworm-slim.tar  debian:bookworm-slim, a minimal Debian 12
#
# Both are root file system archives for `engine import`. Made once, kept in the directory given ($1).
set -eu
out=${1:?usage: make.sh DIRECTORY}
mkdir -p "$out"

need() {
    command -v "$1" >/dev/null || { echo "make.sh: $1 is missing: apt-get install $2" >&2; exit 1; }
}

if [ ! -e "$out/busybox.tar" ]; then
    need busybox busybox-static
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    mkdir -p "$root/bin" "$root/etc" "$root/root" "$root/home" "$root/usr" "$root/var/spool/mail"
    mkdir -m 1777 "$root/tmp"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for applet in $("$root/bin/busybox" --list); do
        [ -e "$root/bin/$applet" ] || ln "$root/bin/busybox" "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\ndaemon:x:1:\nmail:x:8:\nnogroup:x:65534:\n' >"$root/etc/group"
    tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner -cf "$out/busybox.tar.part" .
    mv "$out/busybox.tar.part" "$out/busybox.tar"
fi

if [ ! -e "$out/debian-bookworm-slim.tar" ]; then
    need mmdebstrap mmdebstrap
    # What the slim images leave out: documentation, manuals, translations. What they add: packages that are installed
    # start no services, and dpkg does not sync.
    mmdebstrap --quiet --format=tar --variant=minbase --components=main \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/groff/*' \
        --aptopt='Acquire::Languages "none"' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/etc/resolv.conf "$1"/etc/hostname' \
        --customize-hook='echo force-unsafe-io >"$1"/etc/dpkg/dpkg.cfg.d/docker-apt-speedup' \
        bookworm "$out/debian-bookworm-slim.tar.part" \
        'deb http://deb.debian.org/debian bookworm main' \
        'deb http://deb.debian.org/debian bookworm-updates main' \
        'deb http://deb.debian.org/debian-security bookworm-security main'
    # Afterwards, because mmdebstrap takes away whatever policy it finds at its end.
    policy=$(mktemp -d)
    mkdir -p "$policy/usr/sbin"
    printf '#!/bin/sh\nexit 101\n' >"$policy/usr/sbin/policy-rc.d"
    chmod 755 "$policy/usr/sbin/policy-rc.d"
    tar -C "$policy" --owner=0 --group=0 --numeric-owner -rf "$out/debian-bookworm-slim.tar.part" ./usr/sbin/policy-rc.d
    rm -r "$policy"
    mv "$out/debian-bookworm-slim.tar.part" "$out/debian-bookworm-slim.tar"
fi
