#!/bin/sh
# Boots the machine of image.sh and runs a script of this tree in it as root: the tree is at its own path
# there, so that built programs find what they were built with. Streams what the script writes and exits with its
# status. The machine has no network but its own loopback, and forgets all that was written, in the tree too.
set -eu
vm=${1:?usage: run.sh DIRECTORY SCRIPT}
script=${2:?usage: run.sh DIRECTORY SCRIPT}
# A machine that hangs is ended after this long.
limit=45m
memory=4G

tree=$(cd "$(dirname "$0")/../.." && pwd -P)
# The processor must have the extensions too: some hosts' /dev/kvm runs only kernels that know of it.
if [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
    accelerator=kvm cpu=host
else
    echo "run.sh: no hardware virtualisation here (/dev/kvm, and vmx or svm in /proc/cpuinfo): emulating, which is" \
        "slow and measures nothing" >&2
    accelerator=tcg,thread=multi cpu=max
fi
rm -f "$vm/status" "$vm/console.log"
status=0
TMPDIR=$vm timeout --foreground "$limit" qemu-system-x86_64 \
    -nodefaults -no-user-config -no-reboot -display none -machine q35 -accel "$accelerator" -cpu "$cpu" \
    -smp "$(nproc)" -m "$memory" -device virtio-rng-pci \
    -kernel "$vm/vmlinuz" -initrd "$vm/initrd.img" \
    -append "root=/dev/vda rw console=ttyS0 panic=-1 lighter.tree=$tree lighter.run=$script" \
    -drive "file=$vm/disk.img,format=raw,if=virtio,snapshot=on" \
    -virtfs "local,path=$tree,mount_tag=tree,security_model=none,readonly=on,multidevs=remap" \
    -chardev "file,id=console,path=$vm/console.log" -device isa-serial,chardev=console \
    -chardev stdio,id=output -device isa-serial,chardev=output \
    -chardev "file,id=status,path=$vm/status" -device isa-serial,chardev=status </dev/null || status=$?
if ! [ -s "$vm/status" ]; then
    echo "run.sh: the machine ended without a result (qemu: $status, 124 after $limit); its console's last lines," \
        "of $vm/console.log:" >&2
    tail -n 30 "$vm/console.log" >&2 || true
    exit 1
fi
exit "$(tr -d '\r\n' <"$vm/status")"
