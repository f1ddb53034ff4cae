mkdir -p t/was-file t/was-link t/kept; echo 3 >t/was-dir; echo 4 >t/was-file/four; echo 5 >t/was-link/five; echo 6 >t/kept/six
find t -exec touch -d @700000000 {} +; tar -C t --sort=name --numeric-owner -cf t.tar kept was-dir was-file was-link; rm -r t
