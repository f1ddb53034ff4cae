mkdir -p tree/sub tree/fresh; echo 1 >tree/one; echo 2 >tree/sub/two; ln -s one tree/link
