mkdir -p t/sub t/via; echo 1 >t/one; echo 2 >t/sub/two; echo 3 >t/via/three; chmod 755 t/sub; chown 5:6 t/sub
touch -d @700000000 t/one t/sub t/sub/two t/via/three t/via t
tar -C t --sort=name --numeric-owner -cf t.tar sub one via; rm -r t
