echo 1 >one; mkdir -m 700 sub; echo 2 >sub/two; chmod 750 .
