# In the guest: mounts the host's tree at its own path and runs the script named on the kernel's command line.
# The second serial port takes what it writes, the third its exit status.
set -u
stty -F /dev/ttyS1 raw -echo
exec >/dev/ttyS1 2>&1 </dev/null

# One word of the kernel's command line.
word() {
    sed -n "s/.*lighter\\.$1=\\([^ ]*\\).*/\\1/p" /proc/cmdline
}

# The host shares it read-only; what is written to it here goes to this machine's disk.
enter_tree() {
    mkdir -p "$1" /var/tmp/tree/host /var/tmp/tree/upper /var/tmp/tree/work &&
        mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose tree /var/tmp/tree/host &&
        mount -t overlay -o lowerdir=/var/tmp/tree/host,upperdir=/var/tmp/tree/upper,workdir=/var/tmp/tree/work \
            tree "$1" &&
        cd "$1"
}

enter_tree "$(word tree)" && sh "$(word run)"
echo $? >/dev/ttyS2
