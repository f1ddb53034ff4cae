for mode in 0644 0755 0400 0000 4755 2755 1644 0666 6711; do echo $mode >f$mode; chmod $mode f$mode; done
for mode in 0755 1777 2775 0700; do mkdir d$mode; chmod $mode d$mode; done
chown 1000:1000 f0644 d0755
