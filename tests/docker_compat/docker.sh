#!/bin/sh
# Runs Debian 13's Docker daemon in a root of its own, below the directory given ($1), where it is kept for the next
# time. It listens on $1/root/work/docker.sock; its client is in that root too. Nothing is installed on this machine:
# the mounts are in a namespace that ends with the daemon, and it makes neither bridge nor firewall rules.
#
# Debian 13's, because the BuildKit of Debian 12's Docker 20.10 knows neither here-documents nor ${name#pattern}.
set -eu
dir=${1:?usage: docker.sh DIRECTORY}
[ "$(id -u)" = 0 ] || { echo "docker.sh: a Docker daemon needs root: run it with sudo" >&2; exit 1; }
if [ ! -d "$dir/root" ]; then
    command -v mmdebstrap >/dev/null || { echo "docker.sh: mmdebstrap is missing: apt-get install mmdebstrap" >&2; exit 1; }
    rm -rf "$dir"
    mkdir -p "$dir"
    mmdebstrap --quiet --variant=minbase --include=docker.io,docker-cli,docker-buildx,xz-utils trixie "$dir/part" \
        'deb http://deb.debian.org/debian trixie main'
    mv "$dir/part" "$dir/root"
fi
rm -rf "$dir/root/work"
mkdir -p "$dir/root/work"
# shellcheck disable=SC2016 # expanded by the inner shell
exec unshare --mount sh -euc '
    mount --make-rprivate /
    # The daemon changes the propagation of its root, which must be a mount for that.
    mount --bind "$1" "$1"
    mount -t proc proc "$1/proc"
    mount --rbind /sys "$1/sys"
    mount --rbind /dev "$1/dev"
    mount -t tmpfs tmpfs "$1/run"
    exec chroot "$1" dockerd --host unix:///work/docker.sock --data-root /work/data --exec-root /run/docker \
        --pidfile /work/pid --iptables=false --ip6tables=false --bridge=none
' sh "$dir/root"
