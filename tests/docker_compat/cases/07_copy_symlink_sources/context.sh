echo 1 >one; ln -s one link; mkdir -p real tree; echo 2 >real/file; ln -s real dirlink; ln -s real through
ln -s nowhere tree/dangling; ln -s /etc/passwd tree/absolute; ln -s ../one tree/up; ln -s ../../.. tree/out
touch -h -d @300000000 tree/dangling
