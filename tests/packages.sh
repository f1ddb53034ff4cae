#!/bin/sh
# Installs those of the given Debian packages that are missing; needs root only then.
set -eu
missing=
for package in "$@"; do
    case $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || true) in
        installed) ;;
        *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "packages.sh: missing:$missing - run as root, or: apt-get install$missing" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # a list of words
apt-get install -q -y --no-install-recommends $missing
