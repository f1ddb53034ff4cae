mkdir -p a/b docs/x src/deep node_modules/m build keep/only temp1 sub/temp1
for f in a/x.o a/b/y.o a/b/z.c docs/r.md docs/x/s.md src/deep/t src/u node_modules/m/v build/w keep/k keep/only/this temp1/t1 sub/temp1/t2 README.md other.md '#hash' space\ name; do echo "$f" >"$f"; done
cat >.dockerignore <<'I'
# a comment
**/*.o
docs
!docs/x/s.md
/node_modules
build/
keep/*
!keep/only
*.md
!README.md
temp?
 # not a comment
*\ name
I
