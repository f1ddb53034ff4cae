mkdir -p t/sub; echo 1 >t/one; echo 2 >t/sub/two; ln -s one t/link; ln t/one t/hard; chmod 700 t/sub; chmod 4755 t/sub/two; chown 5:6 t/one
touch -d @700000000 t/one t/sub
tar -C t --sort=name --numeric-owner -cf plain.tar .; gzip -nc plain.tar >zipped.tar.gz; bzip2 -c plain.tar >b.tar.bz2; xz -c plain.tar >x.tar.xz
echo text | gzip -n >only.gz; echo 'no archive' >named.tar; touch -d @1000000000 -h t/link t; rm -r t
