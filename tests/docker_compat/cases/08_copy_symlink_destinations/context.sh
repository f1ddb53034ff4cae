echo 1 >one; mkdir -p tree/sub; echo 2 >tree/sub/two
