#!/bin/sh
# Runs the pipeline of the demo project as a user would: in a git checkout of its own, with an uncommitted change.
#
#   run.sh BINARIES IMAGES DIRECTORY
set -eu
bin=$1 images=$2 dir=$3
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "run.sh: containers need root: run make demo as root" >&2; exit 1; }
export LIGHTER_ROOT="$dir/lighter" LIGHTER_RUN="$dir/run"
mkdir -p "$dir"

# The images are made by a daemon; the pipeline needs none.
export DOCKER_HOST="unix://$dir/engine.sock"
"$bin/engine" daemon -H "$DOCKER_HOST" 2>"$dir/daemon.log" &
daemon=$!
until "$bin/engine" version >/dev/null 2>&1; do
    kill -0 $daemon 2>/dev/null || { cat "$dir/daemon.log" >&2; exit 1; }
    sleep 0.05
done

for image in busybox:latest debian:bookworm-slim; do
    archive=$images/$(echo "${image%:latest}" | tr : -).tar
    [ -n "$("$bin/engine" images --quiet "$image")" ] || "$bin/engine" import "$archive" "$image" >/dev/null
done
kill $daemon
wait $daemon

rm -rf "$dir/shop"
cp -R "$here/shop" "$dir/shop"
cd "$dir/shop"
git init --quiet --initial-branch=main
git add .
git -c user.name=demo -c user.email=demo@localhost commit --quiet --message 'A shop and its tests'
echo '# A change that is not committed takes part.' >>shop/__main__.py

status=0
"$bin/worker" run pipeline.yaml || status=$?
echo
echo "Artifacts in $dir/shop/.lighter/artifacts:"
(cd "$dir/shop/.lighter/artifacts" 2>/dev/null && find . -type f | sort) || true
exit $status
