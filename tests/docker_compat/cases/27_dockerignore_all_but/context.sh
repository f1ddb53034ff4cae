mkdir -p src/a src/b other; echo 1 >src/a/1; echo 2 >src/b/2; echo 3 >other/3; echo 4 >top
printf '*\n!src/a\n!to*\n' >.dockerignore
