mkdir ci; printf 'FROM busybox\nCOPY . /c/\n' >ci/App.Dockerfile; echo secret >secret; echo one >one
printf 'secret\n' >ci/App.Dockerfile.dockerignore; printf 'one\n' >.dockerignore
