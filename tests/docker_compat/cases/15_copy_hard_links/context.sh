mkdir -p tree/sub; echo 1 >tree/b; ln tree/b tree/a; ln tree/b tree/sub/c; echo 2 >a; ln a b
