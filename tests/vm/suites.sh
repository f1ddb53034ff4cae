# In the guest: runs the test executables that cargo has listed in target/vm/built.json, each where cargo would.
uname -sr
stat --file-system --format='cgroups: %T' /sys/fs/cgroup
# Snapshots are looked for in the workspace, and there is no cargo here to ask where that is.
export INSTA_WORKSPACE_ROOT="$PWD"
sed -n 's|.*"manifest_path":"\([^"]*\)/Cargo.toml".*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*|\1 \2|p' \
    target/vm/built.json >/run/suites
[ -s /run/suites ] || { echo "suites.sh: no test executable in target/vm/built.json" >&2; exit 1; }
failed=
while read -r dir program; do
    echo "== ${program##*/}"
    # The clients in Python are not in the guest, and no matter of the kernel.
    (cd "$dir" && "$program" --skip python:: </dev/null) || failed="$failed ${program##*/}"
done </run/suites
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
