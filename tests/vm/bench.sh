# In the guest: the bench, with the programs on the machine's own disk, as they would be installed.
set -e
mkdir /var/tmp/bench
for program in bench engine worker lighter-supervisor; do
    cp "target/release/$program" /var/tmp/bench/
done
uname -sr
/var/tmp/bench/bench --images "$PWD/target/images"
